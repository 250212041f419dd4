// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// active are the states of a job that has not ended.
var active = []volleyv1.JobState{
	volleyv1.JobState_JOB_STATE_SUBMITTED, volleyv1.JobState_JOB_STATE_PENDING, volleyv1.JobState_JOB_STATE_RUNNABLE,
	volleyv1.JobState_JOB_STATE_STARTING, volleyv1.JobState_JOB_STATE_RUNNING,
}

// rejoin opens the embedded directory again when err says that the process
// which s had joined has left it: another one has it by now, or this one takes
// it. Otherwise it answers with err.
func (a *app) rejoin(ctx context.Context, s *session, n need, err error) (bool, error) {
	if err == nil || s.in == nil || ctx.Err() != nil || !s.in.Left(err) {
		return false, err
	}
	_ = s.close() // its coordinator is gone: there is nothing to hand back
	next, err := a.open(ctx, n)
	if err != nil {
		return false, err
	}
	*s = *next
	return true, nil
}

// lasting makes a call that may be made twice, until it is answered by a
// process that stays.
func (a *app) lasting(ctx context.Context, s *session, n need, call func() error) error {
	for {
		again, err := a.rejoin(ctx, s, n, call())
		if !again {
			return err
		}
	}
}

// reportedError is one that the user has read already.
type reportedError struct{ error }

func (e *reportedError) Unwrap() error { return e.error }

// linger stays while this process runs tasks of other jobs than own: they
// would be stopped with it, and run a second time. An error of the command is
// told before. After an interrupt the user wants to leave: what runs is
// stopped with the session, and handed back.
func (a *app) linger(ctx context.Context, s *session, err *error, own ...string) {
	if s.in == nil || !s.in.RunsTasks() {
		return
	}
	if ctx.Err() == nil {
		rerr := s.in.Rest(ctx, func() {
			if others := a.others(ctx, s, own); len(others) > 0 {
				if *err != nil && !errors.Is(*err, errTaskFailed) {
					a.report(a.err, exitStatus(ctx, *err), *err)
					*err = &reportedError{*err}
				}
				fmt.Fprintln(a.err, stays(others))
			}
		})
		if rerr == nil || ctx.Err() == nil {
			return
		}
	}
	if others := a.others(context.WithoutCancel(ctx), s, own); len(others) > 0 {
		fmt.Fprintln(a.err, handsBack(others))
	}
}

// others are the jobs beside own that have tasks running or about to run.
func (a *app) others(ctx context.Context, s *session, own []string) (ids []string) {
	for j, err := range s.List(ctx, &volleyv1.ListJobsRequest{States: active}) {
		if err != nil {
			break // it is for a message only
		}
		if c := j.GetCounts(); c.GetRunning()+c.GetStarting() > 0 && !slices.Contains(own, j.Id) {
			ids = append(ids, j.Id)
		}
	}
	return ids
}

func stays(ids []string) string {
	if len(ids) == 1 {
		return fmt.Sprintf("job %s of another command is still running here: waiting for it; Ctrl-C stops it and hands it back", ids[0])
	}
	return fmt.Sprintf("jobs %s of other commands are still running here: waiting for them; Ctrl-C stops them and hands them back", strings.Join(ids, ", "))
}

func handsBack(ids []string) string {
	list := strings.Join(ids, " ")
	if len(ids) == 1 {
		return fmt.Sprintf("job %s was running here too: it is stopped and handed back, and goes on with its command or with `volley wait %s`", list, list)
	}
	return fmt.Sprintf("jobs %s were running here too: they are stopped and handed back, and go on with their commands or with `volley wait %s`", strings.Join(ids, ", "), list)
}

// abandon is the second interrupt: what runs here is killed, for a task that
// does not listen must not outlive who started it.
func (a *app) abandon() {
	in := a.working.Load()
	if in == nil {
		return
	}
	switch n := in.Kill(); n {
	case 0:
		fmt.Fprintln(a.err, "left at once; run the same command to go on")
	case 1:
		fmt.Fprintln(a.err, "1 task was killed; run the same command to go on")
	default:
		fmt.Fprintf(a.err, "%s tasks were killed; run the same command to go on\n", render.Count(uint64(n)))
	}
}
