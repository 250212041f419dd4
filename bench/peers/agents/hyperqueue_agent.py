# SPDX-License-Identifier: Apache-2.0
import os
import sys

import common


def main():
    slots = common.begin()
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig
    from hyperqueue.ffi import get_version

    # Files for the output of each task, or none: what streams the output into
    # few files is not in this interface.
    streams = {} if sys.argv[2] == "output" else {"stdout": None, "stderr": None}

    def job(n, args, streams):
        j = Job(default_workdir=os.path.join(os.getcwd(), "out"))
        for _ in range(n):
            j.program(args, **streams)
        return j

    with LocalCluster(server_dir=os.path.join(os.getcwd(), "hq"), worker_config=WorkerConfig(cores=slots)) as cluster:
        client = cluster.client()

        def process(n):
            # Made before the clock starts: the command line has a range there.
            j = job(n, ["/bin/true"], streams)
            return common.timed(lambda: client.wait_for_jobs([client.submit(j)]) and [0] * n, [0] * n)

        none = {"stdout": None, "stderr": None}
        client.wait_for_jobs([client.submit(job(20, ["/bin/true"], none))])
        common.serve(
            get_version(),
            {
                "process": process,
                "start": lambda n: common.starts(
                    n,
                    lambda script: client.submit(job(1, ["/bin/sh", "-c", script], none)),
                    lambda submitted: client.wait_for_jobs([submitted]),
                ),
            },
        )


if __name__ == "__main__":
    main()
