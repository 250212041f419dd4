// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func (a *app) waitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "wait JOB...",
		Short: "Wait until jobs have ended",
		Long: `Wait until all the jobs have ended, and exit as run would.

Where no process runs the tasks of .volley, this one does while it waits.
Progress goes to stderr. Ctrl-C ends the waiting; the jobs stay.`,
		Example:           "  volley wait 3 4",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJob(0),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), args) },
	}
	a.outputFlag(c, "table", "table, wide, json, yaml or name")
	return c
}

func (a *app) wait(ctx context.Context, names []string) (err error) {
	format, err := a.format()
	if err != nil {
		return err
	}
	n := need{worker: true}
	s, err := a.open(ctx, n)
	if err != nil {
		return err
	}
	var ids []string
	defer s.end(&err)
	defer func() { a.linger(ctx, s, &err, ids...) }()
	if err := a.lasting(ctx, s, n, func() (err error) {
		ids, err = a.jobIDs(ctx, s, "wait", names)
		return err
	}); err != nil {
		return err
	}
	f := following{need: n}
	if a.terminal(a.err) || format == render.FormatTable || format == render.FormatWide {
		f.view, f.style = a.liveView(a.err), a.errStyle()
	}
	var jobs []*volleyv1.Job
	for _, id := range ids {
		j, err := a.follow(ctx, s, id, f)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	if err := jobListing(time.Now()).Write(a.out, format, a.outStyle(), a.width(a.out), render.Slice(jobs)); err != nil {
		return err
	}
	for _, j := range jobs {
		err = errors.Join(err, verdict(j))
	}
	return err
}

// jobIDs resolves names of whole jobs.
func (a *app) jobIDs(ctx context.Context, s *session, verb string, names []string) ([]string, error) {
	var ids []string
	for _, name := range names {
		ref, err := s.Resolve(ctx, name)
		if err != nil {
			return nil, err
		}
		if ref.Child {
			return nil, usagef("job %q: %s takes whole jobs, as in %s", name, verb, ref.ID)
		}
		ids = append(ids, ref.ID)
	}
	return ids, nil
}
