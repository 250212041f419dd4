// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// run is one run of a benchmark.
type run struct {
	c      Config
	t      *target
	report *Report
	// mark labels the jobs of this run.
	mark string
	// fail ends the run with an error.
	fail context.CancelCauseFunc
	// last is the newest sight of the job under way.
	last *volleyv1.Job
	// roles are what the processes are called in the report.
	selfRole, childRole string
	perTask             bool
}

// last questions are asked after the context has ended, for so long.
const patience = 30 * time.Second

// Run does the benchmark. When ctx ends it stops and reports what was measured
// so far, with Interrupted set and no error. A report beside an error is what
// was known when it came up; it may be nil.
func Run(parent context.Context, c Config) (_ *Report, err error) {
	c.defaults(runtime.GOMAXPROCS(0))
	if err := c.check(); err != nil {
		return nil, err
	}
	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	r := &run{c: c, mark: rand.Text(), fail: fail, report: &Report{
		Benchmark: c.Kind, StartedAt: time.Now(), Machine: thisMachine(c.Version),
		Setup: Setup{Seed: c.Seed}, Checks: []Check{}, Processes: []Process{},
	}}
	if r.t, err = openTarget(ctx, &c); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.t.close()) }()
	if r.t.failed != nil {
		watching := make(chan struct{})
		defer close(watching)
		go func() {
			select {
			case err := <-r.t.failed:
				fail(err)
			case <-watching:
			}
		}()
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	err = r.drive(ctx)
	switch {
	case parent.Err() != nil:
		r.report.Interrupted = true
		err = nil // what failed failed because of it
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return r.report, err
}

// prepare fills in where the run is, and refuses coordinators that it would
// harm or that cannot do it.
func (r *run) prepare(ctx context.Context) error {
	info, err := r.t.client.ServerInfo(ctx)
	if err != nil {
		return err
	}
	s := &r.report.Setup
	switch {
	case r.t.here:
		s.Coordinator = "in this process"
	case r.t.own:
		s.Coordinator = "in a process of its own"
	default:
		s.Coordinator = r.t.addr
		if info.GetVersion() != r.c.Version {
			r.report.Machine.Coordinator = info.GetVersion()
		}
	}
	fs := info.GetJournal().GetFileSystem()
	r.report.Durability = durability(fs)
	if r.t.own {
		if r.report.Storage, err = probeStorage(r.t.dir); err != nil {
			return err
		}
	} else if fs != "" {
		r.report.Storage = &Storage{FileSystem: fs}
	}
	if r.t.own {
		return nil
	}
	return r.suits(ctx)
}

var unfinished = []volleyv1.JobState{
	volleyv1.JobState_JOB_STATE_SUBMITTED, volleyv1.JobState_JOB_STATE_PENDING, volleyv1.JobState_JOB_STATE_RUNNABLE,
	volleyv1.JobState_JOB_STATE_STARTING, volleyv1.JobState_JOB_STATE_RUNNING,
}

// suits looks at a coordinator that runs already.
func (r *run) suits(ctx context.Context) error {
	refused := func(format string, args ...any) error {
		return &client.Error{Kind: client.Refused, Msg: "the coordinator at " + r.t.addr + " " + fmt.Sprintf(format, args...)}
	}
	nodes, err := r.t.client.Nodes(ctx)
	if err != nil {
		return err
	}
	ready, alive := 0, 0
	for _, n := range nodes {
		switch n.GetState() {
		case volleyv1.NodeState_NODE_STATE_READY:
			ready++
			alive++
		case volleyv1.NodeState_NODE_STATE_LOST:
		default:
			alive++
		}
	}
	if r.c.Kind == Spawn || r.c.Kind == Latency {
		if ready == 0 {
			return refused("has no worker to run processes: start one with `volley worker --coordinator %s`", r.t.addr)
		}
		r.report.Setup.Workers = ready
		return nil
	}
	if alive > 0 {
		return refused("has %d workers: this benchmark brings its own, which only pretend to run tasks, and wants a coordinator without others", alive)
	}
	for j, err := range r.t.client.List(ctx, &volleyv1.ListJobsRequest{States: unfinished, PageSize: 1}) {
		if err != nil {
			return err
		}
		return refused("has unfinished jobs, such as %s: this benchmark brings workers that only pretend to run tasks, and wants a coordinator without work", j.GetId())
	}
	return nil
}

func (r *run) drive(ctx context.Context) error {
	switch r.c.Kind {
	case Dispatch:
		return r.dispatch(ctx)
	case Spawn:
		return r.spawn(ctx)
	case Latency:
		return r.latency(ctx)
	case Scale:
		return r.scale(ctx)
	}
	return invalid("there is no benchmark %q", r.c.Kind)
}

// foreign ends the run: a task came that is somebody's.
func (r *run) foreign(job string) {
	r.fail(&client.Error{Kind: client.Refused, Msg: fmt.Sprintf(
		"the coordinator at %s gave this benchmark a task of job %s, which is not its own: the run has ended, and the task was handed back", r.t.addr, job)})
}

// markLabel is the label of all jobs of a run.
const markLabel = "volley-bench"

func (r *run) spec(name string) *volleyv1.JobSpec {
	return &volleyv1.JobSpec{
		Name: "bench-" + name, Queue: "bench", SubmitDir: r.t.dir,
		Labels: []*volleyv1.Label{{Key: markLabel, Value: r.mark}},
	}
}

// ours says that a spec is of this run.
func (r *run) ours(s *volleyv1.JobSpec) bool {
	for _, l := range s.GetLabels() {
		if l.GetKey() == markLabel && l.GetValue() == r.mark {
			return true
		}
	}
	return false
}
