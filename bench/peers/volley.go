// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const volleyDurable = "every submit and result, fsynced in the journal before it is acknowledged"

// volley are our own entries.
func volley() []contestant {
	find := func(ctx context.Context, a *arena) (string, error) {
		out, _, err := a.timed(ctx, nil, a.volley, "version")
		return firstLine(out), err
	}
	return []contestant{
		{
			Name: us, Settings: "`volley run -j SLOTS`, output captured; no-op: `volley bench dispatch`, 4 workers; start: through the API of `volley dev`",
			Durable: volleyDurable, tasks: map[row]int{rowNoop: 5_000_000, rowProcess: 10_000, rowStart: 40}, find: find,
			open: func(_ context.Context, a *arena) (instance, error) { return &volleyRun{a: a}, nil },
		},
		{
			Name: us + " submit", Settings: "the command line, `volley dev` running", Durable: volleyDurable,
			tasks: map[row]int{rowStart: 40}, find: find,
			open: func(ctx context.Context, a *arena) (instance, error) { return openVolleyDev(ctx, a) },
		},
	}
}

// us is the contestant that others are compared with.
const us = "volley"

// volleyRun needs nothing that runs before.
type volleyRun struct {
	a    *arena
	runs int
}

func (v *volleyRun) run(ctx context.Context, r row, n int) (sample, error) {
	switch r {
	case rowNoop:
		return v.noop(ctx, n)
	case rowProcess:
		return v.process(ctx, n)
	}
	dev, err := openVolleyDev(ctx, v.a)
	if err != nil {
		return sample{}, err
	}
	s, err := dev.api(ctx, n)
	return s, errors.Join(err, dev.close())
}

func (v *volleyRun) close() error { return nil }

// noop takes the time from the first submit until the client knew of the last
// result: as with the others, the client is connected before.
func (v *volleyRun) noop(ctx context.Context, n int) (sample, error) {
	out, _, err := v.a.timed(ctx, nil, v.a.volley, "bench", "dispatch", "--workers", "4", "--tasks", strconv.Itoa(n), "-o", "json")
	if err != nil {
		return sample{}, err
	}
	var report struct {
		Result struct {
			Tasks   int     `json:"tasks"`
			Seconds float64 `json:"seconds"`
		} `json:"result"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return sample{}, fmt.Errorf("read the report of volley bench: %w", err)
	}
	if report.Result.Tasks != n || report.Result.Seconds <= 0 {
		return sample{}, fmt.Errorf("volley bench reports %d tasks of %d in %g s", report.Result.Tasks, n, report.Result.Seconds)
	}
	return sample{seconds: report.Result.Seconds}, nil
}

// process is the whole command: coordinator, journal and worker start and end
// in it.
func (v *volleyRun) process(ctx context.Context, n int) (sample, error) {
	v.runs++
	dir := filepath.Join(v.a.dir, "run"+strconv.Itoa(v.runs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return sample{}, err
	}
	job := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(job, fmt.Appendf(nil, "name: \"true\"\narray: %d\ncommand: [/bin/true]\n", n), 0o600); err != nil {
		return sample{}, err
	}
	out, s, err := v.a.timed(ctx, nil, v.a.volley, "run", "-j", strconv.Itoa(v.a.slots), "--dir", filepath.Join(dir, ".volley"), "-o", "json", job)
	if err != nil {
		return sample{}, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var last struct {
		Succeeded int `json:"succeeded"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		return sample{}, fmt.Errorf("read the result of volley run: %w", err)
	}
	if last.Succeeded != n {
		return sample{}, fmt.Errorf("volley run reports %d tasks of %d", last.Succeeded, n)
	}
	return s, nil
}

// volleyDev is a running server.
type volleyDev struct {
	a    *arena
	d    *daemon
	addr string
	cl   *client.Client
}

func openVolleyDev(ctx context.Context, a *arena) (*volleyDev, error) {
	// A free port: found by listening, which is safe because nobody else is in
	// this network.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v := &volleyDev{a: a, addr: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	if v.d, err = a.start(ctx, a.volley, "dev", "-j", strconv.Itoa(a.slots), "--listen", v.addr); err != nil {
		return nil, err
	}
	err = a.ready(ctx, "volley dev", func(ctx context.Context) error {
		token, err := credential.Store{Dir: filepath.Join(a.dir, "config", "volley", "credentials")}.Load(v.addr)
		if err != nil {
			return err
		}
		if v.cl == nil {
			if v.cl, err = client.Dial(ctx, client.Options{Addr: v.addr, Token: token, RetryFor: -1}); err != nil {
				return err
			}
		}
		nodes, err := v.cl.Nodes(ctx)
		if err == nil && len(nodes) == 0 {
			err = errors.New("there is no worker yet")
		}
		return err
	}, v.d)
	if err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func (v *volleyDev) close() error {
	var err error
	if v.cl != nil {
		err = v.cl.Close()
	}
	return errors.Join(err, v.d.stop(syscall.SIGTERM))
}

// run submits through the command line.
func (v *volleyDev) run(ctx context.Context, _ row, n int) (sample, error) {
	s, err := v.a.starts()
	if err != nil {
		return sample{}, err
	}
	defer s.close()
	job := filepath.Join(v.a.dir, "start.yaml")
	if err := os.WriteFile(job, []byte("name: start\nrun: "+s.script()+"\n"), 0o600); err != nil {
		return sample{}, err
	}
	var out bytes.Buffer
	var done chan error
	return s.measure(ctx, n, func(ctx context.Context) error {
		cmd := v.a.command(ctx, v.a.volley, "submit", "-o", "name", job)
		out.Reset()
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			return err
		}
		// The process may start before the command has ended.
		done = make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		return nil
	}, func(ctx context.Context) error {
		if err := <-done; err != nil {
			return fmt.Errorf("volley submit: %w%s", err, v.a.said())
		}
		return v.wait(ctx, strings.TrimSpace(out.String()))
	})
}

// api submits through a connected client.
func (v *volleyDev) api(ctx context.Context, n int) (sample, error) {
	s, err := v.a.starts()
	if err != nil {
		return sample{}, err
	}
	defer s.close()
	spec := &volleyv1.JobSpec{Name: "start", Run: s.script(), SubmitDir: v.a.dir}
	var id string
	return s.measure(ctx, n, func(ctx context.Context) error {
		r, err := v.cl.Submit(ctx, client.Submission{Spec: spec})
		id = r.GetJobId()
		return err
	}, func(ctx context.Context) error { return v.wait(ctx, id) })
}

func (v *volleyDev) wait(ctx context.Context, id string) error {
	var state volleyv1.JobState
	for job, err := range v.cl.Watch(ctx, id, time.Millisecond) {
		if err != nil {
			return err
		}
		state = job.GetState()
	}
	if state != volleyv1.JobState_JOB_STATE_SUCCEEDED {
		return fmt.Errorf("job %s is %s", id, state)
	}
	return nil
}
