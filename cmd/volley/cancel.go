// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/render"
)

func (a *app) cancelCommand() *cobra.Command {
	var terminate bool
	var reason string
	c := &cobra.Command{
		Use:   "cancel JOB...",
		Short: "Cancel jobs",
		Long: `Cancel jobs: what has not started fails. What runs goes on, or is stopped with
--terminate: SIGTERM, the job's grace, SIGKILL.`,
		Example:           "  volley cancel 3 --terminate --reason 'wrong data set'",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJob(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cancel(cmd.Context(), args, terminate, reason)
		},
	}
	c.Flags().BoolVar(&terminate, "terminate", false, "stop running tasks too")
	c.Flags().StringVar(&reason, "reason", "", "`text` that the children have as the reason of their state")
	return c
}

func (a *app) cancel(ctx context.Context, names []string, terminate bool, reason string) error {
	return a.with(ctx, func(s *session) error {
		ids, err := a.jobIDs(ctx, s, "cancel", names)
		if err != nil {
			return err
		}
		// The first error does not keep the others from being cancelled.
		var errs error
		for _, id := range ids {
			err := a.cancelOne(ctx, s, id, reason, terminate)
			if err == nil {
				continue
			}
			if errs != nil {
				a.report(a.err, exitStatus(ctx, err), err)
				continue
			}
			errs = err
		}
		return errs
	})
}

func (a *app) cancelOne(ctx context.Context, s *session, id, reason string, terminate bool) error {
	d, err := s.Job(ctx, client.Ref{ID: id})
	if err != nil {
		return err
	}
	// No error, as for the coordinator: what was wanted is so.
	if client.Terminal(d.Job.State) {
		fmt.Fprintf(a.out, "job %s has ended already: %s\n", id, render.Enum(d.Job.State))
		return nil
	}
	do, done := s.Cancel, "cancelled"
	if terminate {
		do, done = s.Terminate, "terminated"
	}
	if err := do(ctx, id, reason); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "job %s %s%s\n", id, done, a.goingOn(ctx, s, id, terminate))
	return nil
}

// goingOn says what a cancel has left running, for who expected it to stop.
func (a *app) goingOn(ctx context.Context, s *session, id string, terminate bool) string {
	d, err := s.Job(ctx, client.Ref{ID: id})
	if err != nil || terminate {
		return ""
	}
	n := d.Job.GetCounts().GetRunning()
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %s still running: `volley cancel --terminate %s` stops what runs", render.Plural(n, "task"), id)
}
