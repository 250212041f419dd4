# SPDX-License-Identifier: Apache-2.0
"""The side of a peer that is a Python library: one JSON object per line in,
one per line out. The first line out says that it is ready."""

import json
import os
import subprocess
import sys
import time


def true(_):
    return subprocess.run(["/bin/true"], capture_output=True).returncode


def identity(i):
    return i


def shell(script):
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True).returncode


def timed(work, want):
    """Runs work and checks what it returns."""
    begin = time.perf_counter()
    got = work()
    took = time.perf_counter() - begin
    if got != want:
        raise RuntimeError(f"results differ: {len(got)} of {len(want)}")
    return {"seconds": took}


def starts(samples, submit, settle):
    """From the call of submit until the process has written into the pipe."""
    path = os.path.join(os.getcwd(), "started")
    if not os.path.exists(path):
        os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    taken = []
    try:
        for _ in range(samples):
            begin = time.perf_counter()
            handle = submit("echo >" + path)
            os.read(pipe, 1)
            taken.append((time.perf_counter() - begin) * 1e3)
            settle(handle)
    finally:
        os.close(pipe)
    return {"seconds": sum(taken) / 1e3, "latencies": taken}


def serve(version, rows):
    """Answers requests until standard input ends."""
    print(json.dumps({"ready": version}), file=_out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = rows[request["row"]](request["tasks"])
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(answer), file=_out, flush=True)


def _private_stdout():
    # Libraries print what they like; that must not be taken for an answer.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


_out = None


def begin():
    """Must be called in the main process, before any library starts one."""
    global _out
    _out = _private_stdout()
    return int(sys.argv[1])
