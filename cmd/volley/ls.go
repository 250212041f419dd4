// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/progress"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

type lsOptions struct {
	states []string
	name   string
	queue  string
	labels []string
	sort   string
	asc    bool
	since  time.Duration
	limit  int
}

func (a *app) lsCommand() *cobra.Command {
	var o lsOptions
	c := &cobra.Command{
		Use:   "ls [JOB]",
		Short: "List jobs, or the children of a job",
		Long:  "List jobs, newest first, or the children of one job by index.",
		Example: "  volley ls --state running,failed\n  volley ls --sort stopped --since 24h\n" +
			"  volley ls digits-sweep --state failed -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeJob(1),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.ls(cmd.Context(), args, o) },
	}
	a.outputFlag(c, "table", "table, wide, json, yaml or name")
	f := c.Flags()
	f.StringSliceVarP(&o.states, "state", "s", nil, "only these `states`: submitted, pending, runnable, starting, running, succeeded, failed")
	f.StringVar(&o.name, "name", "", "only jobs of this `name`; a final * matches any rest")
	f.StringVar(&o.queue, "queue", "", "only jobs of this `queue`")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "only jobs with this label, `key=value` (repeatable)")
	f.StringVar(&o.sort, "sort", "created", "order by `time`: created, started or stopped")
	f.BoolVar(&o.asc, "ascending", false, "oldest first")
	durationFlag(f, &o.since, "since", 0, "only jobs whose --sort time is within this `duration`, as in 24h or 2d")
	f.IntVarP(&o.limit, "limit", "n", 50, "at most so many; 0: all")
	completeWords(c, "state", "submitted, pending, runnable, starting, running, succeeded, failed")
	completeWords(c, "sort", "created, started or stopped")
	return c
}

func (a *app) ls(ctx context.Context, args []string, o lsOptions) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	req, err := o.request(time.Now())
	if err != nil {
		return err
	}
	return a.with(ctx, func(s *session) error {
		if len(args) == 0 {
			return jobListing(time.Now()).Write(a.out, format, a.outStyle(), a.width(a.out), limited(s.List(ctx, req), o.limit))
		}
		ref, err := s.Resolve(ctx, args[0])
		if err != nil {
			return err
		}
		if ref.Child {
			return usagef("job %q: ls lists the children of a whole job: `volley show %s` describes one", args[0], ref)
		}
		children := s.Children(ctx, &volleyv1.ListChildrenRequest{JobId: ref.ID, States: req.States, PageSize: req.PageSize})
		return childListing(ref.ID).Write(a.out, format, a.outStyle(), a.width(a.out), limited(children, o.limit))
	})
}

// request checks the flags.
func (o *lsOptions) request(now time.Time) (*volleyv1.ListJobsRequest, error) {
	r := &volleyv1.ListJobsRequest{Name: o.name, Queue: o.queue, Ascending: o.asc}
	if o.limit < 0 {
		return nil, usagef("--limit %d: want a number from 0", o.limit)
	}
	if o.limit > 0 && o.limit < 1000 {
		r.PageSize = int32(o.limit)
	}
	sort, ok := volleyv1.JobSort_value["JOB_SORT_"+strings.ToUpper(o.sort)]
	if !ok || sort == 0 {
		return nil, usagef("--sort %q: want created, started or stopped", o.sort)
	}
	r.Sort = volleyv1.JobSort(sort)
	var err error
	if r.States, err = parseStates(o.states); err != nil {
		return nil, err
	}
	if r.Labels, err = parseLabels(o.labels); err != nil {
		return nil, err
	}
	if o.since > 0 {
		r.Since = now.Add(-o.since).UnixMilli()
	}
	return r, nil
}

func parseStates(names []string) ([]volleyv1.JobState, error) {
	var out []volleyv1.JobState
	for _, n := range names {
		v, ok := volleyv1.JobState_value["JOB_STATE_"+strings.ToUpper(n)]
		if !ok || v == 0 {
			return nil, usagef("--state %q: want submitted, pending, runnable, starting, running, succeeded or failed", n)
		}
		out = append(out, volleyv1.JobState(v))
	}
	return out, nil
}

func parseLabels(list []string) ([]*volleyv1.Label, error) {
	var out []*volleyv1.Label
	for _, l := range list {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, usagef("--label %q: want key=value", l)
		}
		out = append(out, &volleyv1.Label{Key: k, Value: v})
	}
	return out, nil
}

// limited ends a sequence after n elements; 0: never.
func limited[T any](seq iter.Seq2[T, error], n int) iter.Seq2[T, error] {
	if n == 0 {
		return seq
	}
	return func(yield func(T, error) bool) {
		left := n
		for v, err := range seq {
			if !yield(v, err) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

type jobColumn = render.Column[*volleyv1.Job]

func jobListing(now time.Time) render.Listing[*volleyv1.Job] {
	count := func(n func(*volleyv1.Counts) uint64) func(*volleyv1.Job) string {
		return func(j *volleyv1.Job) string { return strconv.FormatUint(n(j.GetCounts()), 10) }
	}
	failed := count((*volleyv1.Counts).GetFailed)
	return render.Listing[*volleyv1.Job]{
		Name: (*volleyv1.Job).GetId,
		Columns: []jobColumn{
			{Name: "JOB", Right: true, Cell: (*volleyv1.Job).GetId},
			{Name: "NAME", Cell: (*volleyv1.Job).GetName},
			{Name: "STATE", Cell: func(j *volleyv1.Job) string { return render.Enum(j.State) }, Paint: func(s render.Style, j *volleyv1.Job, _ string) string { return s.State(j.State) }},
			{Name: "SIZE", Right: true, Cell: func(j *volleyv1.Job) string { return strconv.FormatUint(j.Size, 10) }},
			{Name: "SUCCEEDED", Right: true, Cell: count((*volleyv1.Counts).GetSucceeded)},
			{Name: "FAILED", Right: true, Cell: failed, Paint: func(s render.Style, j *volleyv1.Job, text string) string {
				if j.GetCounts().GetFailed() > 0 {
					return s.Red(text)
				}
				return text
			}},
			{Name: "RUNNING", Right: true, Cell: count((*volleyv1.Counts).GetRunning)},
			{Name: "SKIPPED", Right: true, Wide: true, Cell: count((*volleyv1.Counts).GetSkipped)},
			{Name: "TIME", Right: true, Cell: func(j *volleyv1.Job) string {
				if j.StartedAt == 0 {
					return "-"
				}
				return render.Duration(progress.Elapsed(j, now))
			}},
			{Name: "CREATED", Cell: func(j *volleyv1.Job) string { return render.Ago(j.CreatedAt, now) }},
			{Name: "QUEUE", Wide: true, Cell: (*volleyv1.Job).GetQueue},
			{Name: "PRIORITY", Right: true, Wide: true, Cell: func(j *volleyv1.Job) string { return strconv.Itoa(int(j.Priority)) }},
			{Name: "STARTED", Wide: true, Cell: func(j *volleyv1.Job) string { return render.Time(j.StartedAt) }},
			{Name: "STOPPED", Wide: true, Cell: func(j *volleyv1.Job) string { return render.Time(j.StoppedAt) }},
			{Name: "BEST", Right: true, Wide: true, Sparse: true, Cell: bestCell},
			{Name: "REASON", Wide: true, Sparse: true, Cell: (*volleyv1.Job).GetStatusReason},
		},
	}
}

func bestCell(j *volleyv1.Job) string {
	if j.Best == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%d)", render.Number(j.Best.Value), j.Best.Index)
}

type childColumn = render.Column[*volleyv1.Child]

func childListing(job string) render.Listing[*volleyv1.Child] {
	last := func(cell func(*volleyv1.Attempt) string) func(*volleyv1.Child) string {
		return func(c *volleyv1.Child) string {
			if n := len(c.Attempts); n > 0 {
				return cell(c.Attempts[n-1])
			}
			return "-"
		}
	}
	return render.Listing[*volleyv1.Child]{
		Name: func(c *volleyv1.Child) string { return client.Ref{ID: job, Index: c.Index, Child: true}.String() },
		Columns: []childColumn{
			{Name: "INDEX", Right: true, Cell: func(c *volleyv1.Child) string { return strconv.FormatUint(c.Index, 10) }},
			{Name: "STATE", Cell: func(c *volleyv1.Child) string { return render.Enum(c.State) }, Paint: func(s render.Style, c *volleyv1.Child, _ string) string { return s.State(c.State) }},
			{Name: "EXIT", Right: true, Cell: last(exitCell)},
			{Name: "ATTEMPT", Right: true, Cell: last(func(t *volleyv1.Attempt) string { return strconv.Itoa(int(t.Attempt)) })},
			{Name: "TIME", Right: true, Cell: last(func(t *volleyv1.Attempt) string {
				return render.Duration(time.Duration(t.DurationUs) * time.Microsecond)
			})},
			{Name: "METRIC", Right: true, Sparse: true, Cell: func(c *volleyv1.Child) string {
				if c.Metric == nil {
					return "-"
				}
				return render.Number(*c.Metric)
			}},
			{Name: "MEMORY", Right: true, Wide: true, Cell: last(memory)},
			{Name: "NODE", Wide: true, Cell: last((*volleyv1.Attempt).GetNode)},
			{Name: "STARTED", Wide: true, Cell: last(func(t *volleyv1.Attempt) string { return render.Time(t.StartedAt) })},
			{Name: "PARAMETERS", Sparse: true, Cell: func(c *volleyv1.Child) string { return render.Params(c.Params) }},
			{Name: "REASON", Wide: true, Sparse: true, Cell: reasonCell},
		},
	}
}

func exitCell(t *volleyv1.Attempt) string {
	if t.ExitCode == nil {
		return "-"
	}
	return strconv.Itoa(int(*t.ExitCode))
}

func reasonCell(c *volleyv1.Child) string {
	switch {
	case c.ReusedFrom != "":
		return "taken over from " + c.ReusedFrom
	case c.State != volleyv1.JobState_JOB_STATE_FAILED:
		return ""
	case len(c.Attempts) == 0:
		return c.StatusReason
	}
	t := c.Attempts[len(c.Attempts)-1]
	return progress.Why(t.ExitCode, t.Reason, t.StatusReason)
}
