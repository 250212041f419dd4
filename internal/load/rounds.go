// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"time"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// watchEvery is how often the end of a job is looked for: no job is found to
// be longer by more than this.
const watchEvery = 10 * time.Millisecond

// rounds submits the job and follows it to its end, again and again for
// Config.Duration. during, if not nil, runs beside each job until it returns
// or its context, which ends with the job, does.
func (r *run) rounds(ctx context.Context, spec *volleyv1.JobSpec, during func(context.Context)) error {
	m, err := r.begin(ctx)
	if err != nil {
		return err
	}
	res := &r.report.Result
	done := uint64(0) // of the jobs before
	note := func() {
		c := r.last.GetCounts()
		res.Tasks = done + c.GetSucceeded() + c.GetFailed()
		res.Seconds = time.Since(m.begin).Seconds()
		res.TasksPerSecond = float64(res.Tasks) / res.Seconds
	}
	defer func() { r.end(ctx, m) }()
	for ctx.Err() == nil {
		err := r.round(ctx, spec, during)
		note()
		res.Jobs++
		if err != nil {
			return err
		}
		done = res.Tasks
		r.checkJob(r.last)
		if time.Since(m.begin) >= r.c.Duration {
			return nil
		}
	}
	return ctx.Err()
}

func (r *run) round(ctx context.Context, spec *volleyv1.JobSpec, during func(context.Context)) error {
	r.last = nil
	// Not cut off by an interrupt: whether the job exists has to be known.
	resp, err := r.t.client.Submit(context.WithoutCancel(ctx), client.Submission{Spec: spec})
	if err != nil {
		return err
	}
	if during != nil {
		beside, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			during(beside)
		}()
		defer func() {
			cancel()
			<-ended
		}()
	}
	return r.follow(ctx, resp.GetJobId())
}

// follow watches a job to its end, and terminates it when ctx ends first.
func (r *run) follow(ctx context.Context, id string) error {
	for job, err := range r.t.client.Watch(ctx, id, watchEvery) {
		if err != nil {
			r.terminate(ctx, id)
			return err
		}
		r.last = job
	}
	return nil
}

// terminate ends a job that nobody will follow. A coordinator of this run's
// own ends with it; another one must not be left with the rest.
func (r *run) terminate(ctx context.Context, id string) {
	if r.t.own {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := r.t.client.Terminate(ctx, id, "The benchmark was stopped"); err != nil && client.Kind(err) != client.Refused {
		r.c.Logger.Warn("the job of the benchmark was not terminated", "job", id, "error", err)
	}
}

// checkJob looks at what was recorded of a job that has ended.
func (r *run) checkJob(j *volleyv1.Job) {
	c := j.GetCounts()
	lost := j.GetSize() - c.GetSucceeded() - c.GetFailed()
	double := j.GetFinishedAttempts() - min(j.GetFinishedAttempts(), j.GetSize())
	r.check("recorded once", lost == 0 && double == 0 && j.GetLostAttempts() == 0 && j.GetStaleResults() == 0,
		"job %s: %d tasks lost, %d recorded twice, %d attempts lost, %d late results refused", j.GetId(), lost, double, j.GetLostAttempts(), j.GetStaleResults())
	r.check("succeeded", c.GetSucceeded() == j.GetSize(), "job %s: %d of %d tasks succeeded", j.GetId(), c.GetSucceeded(), j.GetSize())
}

// check adds to the report. A check that held in an earlier round is replaced;
// one that did not stays.
func (r *run) check(name string, ok bool, format string, args ...any) {
	c := Check{Name: name, OK: ok, Text: fmt.Sprintf(format, args...)}
	for n := range r.report.Checks {
		if old := &r.report.Checks[n]; old.Name == name {
			if old.OK {
				*old = c
			}
			return
		}
	}
	r.report.Checks = append(r.report.Checks, c)
}
