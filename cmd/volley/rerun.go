// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/render"
)

func (a *app) rerunCommand() *cobra.Command {
	var all, failed bool
	c := &cobra.Command{
		Use:   "rerun JOB",
		Short: "Run children of an ended job again",
		Long: `Make the failed children of an ended job runnable again, with a fresh budget of
attempts, or all of them with --all.`,
		Example:           "  volley rerun 3 && volley wait 3",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJob(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && failed && cmd.Flags().Changed("failed"):
				return usagef("--all and --failed: choose one; --failed is what rerun does without either")
			case !all && !failed:
				return usagef("--failed=false leaves nothing to run again; --all means all children")
			}
			return a.rerun(cmd.Context(), args[0], all)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all children")
	c.Flags().BoolVar(&failed, "failed", true, "the failed and cancelled children")
	return c
}

func (a *app) rerun(ctx context.Context, name string, all bool) error {
	return a.with(ctx, func(s *session) error {
		ids, err := a.jobIDs(ctx, s, "rerun", []string{name})
		if err != nil {
			return err
		}
		n, err := s.Rerun(ctx, ids[0], !all)
		if err != nil {
			return err
		}
		if n == 0 {
			text := "job %s: no task failed, nothing to run again; --all runs them all\n"
			if all {
				text = "job %s: nothing to run again\n"
			}
			fmt.Fprintf(a.out, text, ids[0])
			return nil
		}
		fmt.Fprintf(a.out, "job %s: %s again\n", ids[0], render.Plural(n, "task"))
		if s.in != nil && !s.in.Working() {
			fmt.Fprintf(a.err, "no worker runs in %s: `volley wait %s` runs it\n", s.in.Dir(), ids[0])
		}
		return nil
	})
}
