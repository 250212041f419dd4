// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/progress"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// following is how a command follows jobs.
type following struct {
	need need
	// view is made for every job; nil: nothing is shown.
	view func() progress.View
	// style is that of the stream on which the view is.
	style render.Style
	// stopping is shown, and failures are not told any more.
	stopping bool
	// stop ends the following when it answers true.
	stop func(*volleyv1.Job) bool
}

// silent shows nothing.
type silent struct{}

func (silent) Update(progress.State, time.Time) {}
func (silent) Note(string)                      {}
func (silent) Close()                           {}

// liveView draws on w, which is a terminal, or prints lines.
func (a *app) liveView(w io.Writer) func() progress.View {
	if !a.terminal(w) {
		return func() progress.View { return &progress.Plain{W: w} }
	}
	ascii := true
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(a.getenv(name)); v != "" {
			ascii = !strings.Contains(v, "UTF-8") && !strings.Contains(v, "UTF8")
			break
		}
	}
	return func() progress.View {
		return &progress.Live{W: w, Width: func() int { return cmp.Or(a.width(w), 80) }, Style: a.style(w), ASCII: ascii}
	}
}

// follow follows a job to its end. When the process that it had joined leaves
// the embedded directory, this one opens it and goes on. A job that no node can
// ever run is terminated where no other node can come.
func (a *app) follow(ctx context.Context, s *session, id string, f following) (*volleyv1.Job, error) {
	var job *volleyv1.Job
	for {
		j, err := a.followOnce(ctx, s, id, f)
		if j != nil {
			job = j
		}
		if never, ok := errors.AsType[*progress.NeverError](err); ok {
			// Nobody but this process could have run it.
			if err := s.Terminate(ctx, id, never.Reason); err != nil && client.Kind(err) != client.Refused {
				return job, err
			}
			f.view = nil // the summary says it
			continue
		}
		if again, err := a.rejoin(ctx, s, f.need, err); !again {
			return job, err
		}
	}
}

func (a *app) followOnce(ctx context.Context, s *session, id string, f following) (*volleyv1.Job, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.in != nil {
		go func() {
			select {
			case err := <-s.in.Err():
				cancel(err)
			case <-ctx.Done():
			}
		}()
	}
	view := progress.View(silent{})
	if f.view != nil {
		view = f.view()
	}
	p := progress.Follower{Client: s.Client, View: view, Style: f.style, Stopping: f.stopping, StopWhen: f.stop, OnlyNode: s.in != nil && s.in.OnlyNode()}
	job, err := p.Follow(ctx, id)
	// What ended the context says more than that it ended.
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return job, err
}

// verdict is nil when the job succeeded.
func verdict(j *volleyv1.Job) error {
	if j.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED {
		return nil
	}
	return errTaskFailed
}

// reportOf gathers what a summary shows beyond the job itself. It leaves out
// what cannot be had: the job has ended either way.
func (a *app) reportOf(ctx context.Context, s *session, job *volleyv1.Job, spec *volleyv1.JobSpec) progress.Report {
	r := progress.Report{
		Job: job, Noun: progress.Noun(spec), Shared: spec.GetWorkdir() != "" && job.GetSize() > 1,
		Style: a.outStyle(), Width: a.width(a.out),
	}
	if e, err := s.Explain(ctx, client.Ref{ID: job.Id}); err == nil {
		r.Failures, r.Remarks = e.Failures, e.Remarks
	}
	if job.GetMetric().GetName() != "" && job.GetBest() != nil {
		top := &volleyv1.ListResultsRequest{JobId: job.Id, Order: volleyv1.ResultOrder_RESULT_ORDER_METRIC, Limit: 10}
		for c, err := range s.Results(ctx, top) {
			if err != nil {
				break
			}
			r.Top = append(r.Top, c)
		}
	}
	return r
}

// reached says how far an interrupted job came.
func reached(j *volleyv1.Job) string {
	return fmt.Sprintf("%s of %s done", render.Count(j.GetCounts().GetSucceeded()), render.Count(j.GetSize()))
}
