// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/progress"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func (a *app) whyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "why JOB[:INDEX]",
		Short:             "Say why a job waits or failed",
		Long:              "Say the one reason why a job or child waits, and what would change it, or how it failed.",
		Example:           "  volley why 3\n  volley why 3:17",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJob(1),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.why(cmd.Context(), args[0]) },
	}
	a.outputFlag(c, "table", "table, json or yaml")
	return c
}

func (a *app) why(ctx context.Context, name string) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	return a.with(ctx, func(s *session) error {
		ref, err := s.Resolve(ctx, name)
		if err != nil {
			return err
		}
		e, err := s.Explain(ctx, ref)
		if err != nil {
			return err
		}
		switch format {
		case render.FormatJSON, render.FormatYAML:
			return render.One(a.out, format, render.Message(e))
		case render.FormatName:
			_, err = fmt.Fprintln(a.out, render.Enum(e.Tier))
			return err
		}
		d, err := s.Job(ctx, client.Ref{ID: ref.ID})
		if err != nil {
			return err
		}
		return a.explain(ref, d.Job, e)
	})
}

func (a *app) explain(ref client.Ref, job *volleyv1.Job, e *volleyv1.ExplainJobResponse) error {
	st := a.outStyle()
	head := fmt.Sprintf("job %s  %s", ref, st.State(e.State))
	if e.Tier != volleyv1.WaitTier_WAIT_TIER_UNSPECIFIED && e.Tier != volleyv1.WaitTier_WAIT_TIER_NONE {
		head += "  " + st.Yellow(render.Enum(e.Tier))
	}
	fmt.Fprintln(a.out, head)
	if e.Reason != "" {
		fmt.Fprintf(a.out, "  %s\n", render.Clean(e.Reason))
	}
	if e.Remedy != "" {
		fmt.Fprintf(a.out, "  %s\n", render.Clean(e.Remedy))
	}
	r := progress.Report{Job: job, Failures: e.Failures, Remarks: e.Remarks, Style: st}
	if err := progress.Remarks(a.out, r); err != nil {
		return err
	}
	return progress.Failures(a.out, r)
}
