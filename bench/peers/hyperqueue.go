// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// hyperqueue are the entries of HyperQueue: its command line where it is
// installed, and its Python package, which does not bring the command.
func hyperqueue() []contestant {
	const settings = "`hq submit --array --wait`, server and worker as processes, output off"
	return []contestant{
		newHyperQueue(contestant{
			Name: "HyperQueue hq", Settings: settings, Durable: nothingDurable,
			tasks: map[row]int{rowProcess: 5000, rowStart: 20},
		}, false),
		newHyperQueue(contestant{
			Name: "HyperQueue hq, journal", Settings: settings + ", `--journal`", Durable: "submits and results, in a journal that is flushed every 30 s",
			tasks: map[row]int{rowProcess: 5000, rowStart: 20},
		}, true),
		library(contestant{
			Name: "HyperQueue Python", Settings: "`LocalCluster`: server, worker and client in one process; two files of output per task; its wait looks once a second", Durable: nothingDurable,
			tasks: map[row]int{rowProcess: 4000},
		}, "hyperqueue", "hyperqueue_agent.py", "output"),
		library(contestant{
			Name: "HyperQueue Python, no output", Settings: "the same, output off", Durable: nothingDurable,
			tasks: map[row]int{rowProcess: 4000, rowStart: 17},
		}, "hyperqueue", "hyperqueue_agent.py", "none"),
	}
}

type hqCluster struct {
	a              *arena
	server, worker *daemon
}

func newHyperQueue(c contestant, journal bool) contestant {
	c.find = func(ctx context.Context, a *arena) (string, error) {
		if _, err := exec.LookPath("hq"); err != nil {
			return "", fmt.Errorf("%w; PyPI has no package with the command, put a release of HyperQueue on the path", err)
		}
		out, _, err := a.timed(ctx, nil, "hq", "--version")
		return firstLine(out), err
	}
	c.open = func(ctx context.Context, a *arena) (instance, error) { return openHyperQueue(ctx, a, journal) }
	return c
}

func openHyperQueue(ctx context.Context, a *arena, journal bool) (_ instance, err error) {
	h := &hqCluster{a: a}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	args := []string{"server", "start", "--host=127.0.0.1"}
	if journal {
		args = append(args, "--journal="+filepath.Join(a.dir, "hq-journal"))
	}
	if h.server, err = a.start(ctx, "hq", h.args(args...)...); err != nil {
		return nil, err
	}
	if err := a.ready(ctx, "the server of HyperQueue", func(ctx context.Context) error {
		_, _, err := a.timed(ctx, nil, "hq", h.args("server", "info")...)
		return err
	}, h.server); err != nil {
		return nil, err
	}
	if h.worker, err = a.start(ctx, "hq", h.args("worker", "start", "--cpus="+strconv.Itoa(a.slots))...); err != nil {
		return nil, err
	}
	// A task that has run says that the worker is there, in words that do not
	// depend on the layout of a table.
	_, err = h.submit(ctx, "--", "/bin/true")
	return h, err
}

func (h *hqCluster) args(args ...string) []string {
	return append([]string{"--server-dir=" + filepath.Join(h.a.dir, "hq")}, args...)
}

func (h *hqCluster) submit(ctx context.Context, args ...string) (sample, error) {
	_, s, err := h.a.timed(ctx, nil, "hq", h.args(append([]string{"submit", "--wait", "--stdout=none", "--stderr=none"}, args...)...)...)
	return s, err
}

func (h *hqCluster) run(ctx context.Context, r row, n int) (sample, error) {
	if r != rowStart {
		// With --wait the exit status says that every task has succeeded.
		return h.submit(ctx, "--array=1-"+strconv.Itoa(n), "--", "/bin/true")
	}
	p, err := h.a.starts()
	if err != nil {
		return sample{}, err
	}
	defer p.close()
	return p.launch(ctx, n, func(ctx context.Context) *exec.Cmd {
		return h.a.command(ctx, "hq", h.args("submit", "--wait", "--stdout=none", "--stderr=none", "--", "/bin/sh", "-c", p.script())...)
	})
}

func (h *hqCluster) close() error {
	return errors.Join(h.worker.stop(syscall.SIGTERM), h.server.stop(syscall.SIGTERM))
}

// pythonLibraries are the entries whose interface is Python.
func pythonLibraries() []contestant {
	return []contestant{
		library(contestant{
			Name: "Dask distributed", Settings: "`LocalCluster`, SLOTS processes of one thread; process: `subprocess.run`, output captured", Durable: nothingDurable,
			tasks: map[row]int{rowNoop: 4000, rowProcess: 2000, rowStart: 20},
		}, "distributed", "dask_agent.py"),
		library(contestant{
			Name: "Ray", Settings: "`ray.init(num_cpus=SLOTS)`, no dashboard; process: `subprocess.run`, output captured", Durable: nothingDurable,
			tasks: map[row]int{rowNoop: 10_000, rowProcess: 2000, rowStart: 20},
		}, "ray", "ray_agent.py"),
	}
}

// all are the contestants in the order of the tables; SLOTS is filled in.
func all(slots int) []contestant {
	list := append(volley(), programs()...)
	list = append(list, hyperqueue()...)
	list = append(list, pythonLibraries()...)
	list = append(list, slurm()...)
	for i := range list {
		list[i].Settings = strings.ReplaceAll(list[i].Settings, "SLOTS", strconv.Itoa(slots))
	}
	return list
}
