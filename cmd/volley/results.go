// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/export"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

type resultsOptions struct {
	file   string
	sort   string
	limit  uint64
	failed bool
}

func (a *app) resultsCommand() *cobra.Command {
	var o resultsOptions
	c := &cobra.Command{
		Use:   "results JOB",
		Short: "Write the results of a job: table, JSON, YAML, CSV, JSON lines, Parquet",
		Long: `Write one row per index: the parameters, what the task reported, state, exit
code, attempts, duration, peak memory, start, node, reason, and where a result
was taken over from.

Of a job that has not ended it is what there is so far, and stderr says so.

Columns are typed by all of their values. Parameters and outputs keep their
names; one whose name is taken gets "param." or "output." before it.`,
		Example:           "  volley results digits-sweep --sort metric --limit 20\n  volley results 3 -o parquet --file sweep.parquet",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJob(1),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.results(cmd.Context(), args[0], o) },
	}
	a.outputFlag(c, "table", "table, json, yaml, csv, jsonl or parquet")
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", "", "write to this `file` instead of stdout")
	f.StringVar(&o.sort, "sort", "index", "`order`: index, or metric: best first, points without a value left out")
	f.Uint64VarP(&o.limit, "limit", "n", 0, "at most so many rows; 0: all")
	f.BoolVar(&o.failed, "failed", false, "failed points only")
	return c
}

// toTerminal asks what TERM=dumb changes nothing about: bytes in a window.
func toTerminal(out io.Writer, path string) bool {
	f, _ := out.(*os.File)
	switch path {
	case "", "/dev/stdout":
	case "/dev/stderr":
		f = os.Stderr
	case "/dev/tty":
		return true
	default:
		return false
	}
	return f != nil && isatty.IsTerminal(f.Fd())
}

func (a *app) results(ctx context.Context, name string, o resultsOptions) error {
	format, err := export.ParseFormat(a.output)
	if err != nil {
		return usagef("%w", err)
	}
	req := &volleyv1.ListResultsRequest{Limit: o.limit}
	switch o.sort {
	case "index":
		req.Order = volleyv1.ResultOrder_RESULT_ORDER_INDEX
	case "metric":
		req.Order = volleyv1.ResultOrder_RESULT_ORDER_METRIC
	default:
		return usagef("--sort %q: want index or metric", o.sort)
	}
	if o.failed {
		req.States = []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED}
	}
	if format == export.Table && (o.limit == 0 || o.limit > export.MaxTableRows) {
		req.Limit = export.MaxTableRows + 1 // one more, to know that there are more
	}
	if format == export.Parquet && toTerminal(a.out, o.file) {
		return usagef("-o parquet is not text: name a file for it with --file, or use a pipe")
	}
	return a.with(ctx, func(s *session) error {
		ids, err := a.jobIDs(ctx, s, "results", []string{name})
		if err != nil {
			return err
		}
		req.JobId = ids[0]
		// Before the rows: what ends while they are read is not in all of them.
		d, err := s.Job(ctx, client.Ref{ID: ids[0]})
		if err != nil {
			return err
		}
		var info export.Info
		write := func(w io.Writer) error {
			opts := export.Options{}
			if o.file == "" {
				opts.Style, opts.Width = a.outStyle(), a.width(a.out)
			}
			info, err = export.Write(w, format, s.Results(ctx, req), opts)
			return err
		}
		if o.file == "" {
			err = write(a.out)
		} else {
			err = writeFile(o.file, write)
		}
		if err != nil {
			return err
		}
		if j := d.Job; !client.Terminal(j.State) {
			c := j.GetCounts()
			fmt.Fprintf(a.err, "job %s has not ended: these are results of %s of %s so far\n",
				j.Id, render.Count(c.GetSucceeded()+c.GetFailed()), render.Plural(j.Size, "task"))
		}
		if info.Left > 0 {
			fmt.Fprintf(a.err, "a table ends after %d rows: use -o csv, jsonl or parquet\n", export.MaxTableRows)
		}
		if o.file != "" {
			fmt.Fprintf(a.err, "%s in %s\n", render.Plural(info.Rows, "row"), o.file)
		}
		return nil
	})
}
