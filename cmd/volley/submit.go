// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/progress"
	"github.com/volley-batch/volley/internal/render"
)

type submitOptions struct {
	set   []string
	reuse bool
	key   string
}

func (a *app) submitCommand() *cobra.Command {
	var o submitOptions
	c := &cobra.Command{
		Use:   "submit FILE",
		Short: "Submit a job and return",
		Long: `Submit a job and return when it is durable.

The embedded coordinator keeps the job; it runs as soon as a worker does:
with the next run, wait or dev in this directory.`,
		Example:           "  volley submit sweep.yaml\n  volley wait $(volley submit sweep.yaml -o name)",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.submit(cmd.Context(), args[0], o) },
	}
	a.outputFlag(c, "table", "table, json, yaml or name")
	setFlag(c, &o.set)
	c.Flags().BoolVar(&o.reuse, "reuse", false, "take over the results of points that succeeded in earlier jobs of the same name")
	c.Flags().StringVar(&o.key, "key", "", "idempotency `key`: submitting again with the same one answers with the first job")
	return c
}

func (a *app) submit(ctx context.Context, file string, o submitOptions) (err error) {
	format, err := a.format()
	if err != nil {
		return err
	}
	l, sub, err := a.load(ctx, file, o.set)
	if err != nil {
		return err
	}
	s, err := a.open(ctx, need{create: true})
	if err != nil {
		return err
	}
	defer s.end(&err)
	sub.Reuse, sub.Key = o.reuse, o.key
	r, err := s.Submit(ctx, sub)
	if err != nil {
		return placed(l, err)
	}
	switch format {
	case render.FormatName:
		_, err = fmt.Fprintln(a.out, r.JobId)
		return err
	case render.FormatJSON, render.FormatYAML:
		return render.One(a.out, format, render.Message(r))
	}
	what := "submitted"
	if r.Existed {
		what = "was submitted before"
	}
	fmt.Fprintf(a.out, "job %s %s: %s, %s\n", r.JobId, what, render.Clean(sub.Spec.Name), render.Plural(r.GetJob().GetSize(), progress.Noun(sub.Spec)))
	if s.in != nil && !s.in.Working() {
		fmt.Fprintf(a.err, "no worker runs in %s: `volley wait %s` runs it\n", s.in.Dir(), r.JobId)
	}
	return nil
}
