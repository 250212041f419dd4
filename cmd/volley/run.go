// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/jobfile"
	"github.com/volley-batch/volley/internal/progress"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

type runOptions struct {
	set       []string
	fresh     bool
	keepGoing bool
	jobs      int
	watch     bool
	dryRun    bool
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Run a job and wait for it",
		Long: `Run a job and wait for it, here or on the coordinator that --coordinator names.

Points that succeeded in an earlier job of the same name, with the same
command and the same inputs, are not run again: running a file twice runs what
is new, changed or failed. --fresh runs everything. While a job of the name does
the same work (the same points, command and inputs), run follows that one.

Where .volley is used, one process at a time runs the tasks of all commands. It
stays until those of the others have ended; jobs whose tasks only wait go on
with the next process.

Ctrl-C terminates the job; what is done is kept, and the same command goes on
from there. A second Ctrl-C kills what runs here and leaves at once.

With -o json the last line on stdout is one JSON object: jobId, name, state,
total, succeeded, failed, skipped, durationMs, taskMs, and best for a job with
a metric. succeeded includes skipped, the points that were done before.`,
		Example:           "  volley run sweep.yaml\n  volley run sweep.yaml --set sweep.points=64 -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0], o) },
	}
	a.outputFlag(c, "table", "table, json, yaml or name")
	setFlag(c, &o.set)
	f := c.Flags()
	f.BoolVar(&o.fresh, "fresh", false, "run every point, also those that were done before")
	f.BoolVar(&o.fresh, "no-reuse", false, "the same as --fresh")
	f.BoolVar(&o.keepGoing, "keep-going", true, "go on after a failed task; --keep-going=false terminates the job at the first one")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "CPUs of the worker in this process: so many one-CPU tasks at once (default: all)")
	f.BoolVar(&o.watch, "watch", true, "show the progress; --watch=false prints the summary only")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would run, and run nothing")
	return c
}

// runner is one `volley run`.
type runner struct {
	*app
	o      runOptions
	format render.Format
	// say gets what people read beside the result.
	say  io.Writer
	file *jobfile.Loaded
	noun string
	s    *session
	need need
	// own is the job that this command has submitted; empty: none yet.
	own string
}

func (a *app) run(ctx context.Context, file string, o runOptions) (err error) {
	r := &runner{app: a, o: o, say: a.out}
	if r.format, err = a.format(); err != nil {
		return err
	}
	if o.jobs < 0 {
		return usagef("--jobs %d: want a number from 1, or 0 for all CPUs", o.jobs)
	}
	if r.format != render.FormatTable && r.format != render.FormatWide {
		r.say = io.Discard
		if a.terminal(a.err) {
			r.say = a.err
		}
	}
	l, sub, err := a.load(ctx, file, o.set)
	if err != nil {
		return err
	}
	r.file, r.noun = l, progress.Noun(sub.Spec)
	r.need = need{create: !o.dryRun, scratch: o.dryRun, worker: !o.dryRun}
	if o.jobs > 0 {
		r.need.capacity = &volleyv1.Resources{CpuMilli: int64(o.jobs) * 1000}
	}
	first := r.need
	if !o.dryRun {
		first.before = func(ctx context.Context, c *client.Client) error { return r.takeOver(ctx, c, sub.Spec.Name) }
	}
	if r.s, err = a.open(ctx, first); err != nil {
		return err
	}
	defer r.s.end(&err)
	defer func() { a.linger(ctx, r.s, &err, r.own) }()
	if o.jobs > 0 && (r.s.in == nil || !r.s.in.Owner()) {
		fmt.Fprintln(a.err, "--jobs is left aside: the worker of another process runs the tasks")
	}
	id, err := r.place(ctx, sub)
	if err != nil || o.dryRun {
		return err
	}
	return r.attend(ctx, id)
}

// place plans and submits the job, or finds the one that does the same work
// already; it answers with the id.
func (r *runner) place(ctx context.Context, sub client.Submission) (id string, err error) {
	if r.o.fresh {
		fmt.Fprintln(r.say, render.Plural(r.file.Size, r.noun))
	} else {
		if r.s.in != nil && !r.o.dryRun {
			// Until the submit: the same command in another terminal plans after
			// it, and finds the job. A coordinator of a cluster has no such lock;
			// there two commands of the same instant make two jobs.
			release, err := r.s.in.Alone(ctx)
			if err != nil {
				return "", err
			}
			defer release()
		}
		p, err := r.plan(ctx, sub.Spec)
		if err != nil {
			return "", err
		}
		if p.SameWork && !r.o.dryRun {
			fmt.Fprintf(r.say, "job %s of this name is already doing this: following it\n", p.LiveJobId)
			return p.LiveJobId, nil
		}
	}
	if r.o.dryRun {
		return "", nil
	}
	return r.submit(ctx, sub)
}

func (r *runner) submit(ctx context.Context, sub client.Submission) (id string, err error) {
	sub.Reuse = !r.o.fresh
	if ctx.Err() != nil {
		return "", errInterrupted
	}
	// Not cut off by an interrupt: whether the job exists has to be known.
	// One key for all tries: a process that leaves may have taken it before.
	sub.Key = rand.Text()
	var resp *volleyv1.SubmitJobResponse
	if err := r.lasting(context.WithoutCancel(ctx), r.s, r.need, func() (err error) {
		resp, err = r.s.Submit(context.WithoutCancel(ctx), sub)
		return err
	}); err != nil {
		return "", placed(r.file, err)
	}
	r.own = resp.JobId
	return r.own, nil
}

// attend follows the job to its end. One that another command has submitted is
// left to it: neither an interrupt nor a failed task terminates it.
func (r *runner) attend(ctx context.Context, id string) error {
	mine := id == r.own
	f := following{need: r.need}
	if r.o.watch && (r.say == r.out || r.terminal(r.err)) {
		f.view, f.style = r.liveView(r.say), r.style(r.say)
	}
	switch {
	case r.o.keepGoing:
	case !mine:
		fmt.Fprintf(r.err, "--keep-going=false is left aside: job %s is that of another command\n", id)
	default:
		f.stop = func(j *volleyv1.Job) bool { return j.GetCounts().GetFailed() > 0 }
	}
	job, err := r.follow(ctx, r.s, id, f)
	switch {
	case errors.Is(err, progress.ErrStopped):
		job, err = r.stop(id, f, "Stopped at the first failed task", job)
	case !mine && err != nil && errors.Is(context.Cause(ctx), errInterrupted):
		fmt.Fprintf(r.say, "interrupted: %s; job %s is that of another command and was not terminated\n", reached(job), id)
		return errInterrupted
	case mine && errors.Is(context.Cause(ctx), errInterrupted):
		if job, err = r.stop(id, f, "Interrupted by user", job); err == nil {
			return r.interrupted(job)
		}
	}
	if err != nil {
		return err
	}
	if err := r.result(context.WithoutCancel(ctx), job); err != nil {
		return err
	}
	return verdict(job)
}

// takeOver terminates what an earlier run of the job left when it was killed:
// its finished points are taken over, the others would run twice, once for
// each job. Only the owner of the directory knows that nobody follows them,
// and only before its worker starts are they not running again.
func (r *runner) takeOver(ctx context.Context, c *client.Client, name string) error {
	for j, err := range c.List(ctx, &volleyv1.ListJobsRequest{Name: name, States: active}) {
		if err != nil {
			return err
		}
		fmt.Fprintf(r.say, "job %s of the same name had not ended, %s: this run goes on from there\n", j.Id, reached(j))
		if err := c.Terminate(ctx, j.Id, "Superseded by a later run"); err != nil && client.Kind(err) != client.Refused {
			return err
		}
	}
	return nil
}

// plan says what will run, and why what was done before does not count.
func (r *runner) plan(ctx context.Context, spec *volleyv1.JobSpec) (*volleyv1.PlanJobResponse, error) {
	var p *volleyv1.PlanJobResponse
	if err := r.lasting(ctx, r.s, r.need, func() (err error) {
		p, err = r.s.Plan(ctx, spec)
		return err
	}); err != nil {
		return nil, placed(r.file, err)
	}
	if r.format == render.FormatJSON && r.o.dryRun {
		return p, render.One(r.out, r.format, render.Message(p))
	}
	fmt.Fprintln(r.say, planText(p, r.noun))
	return p, nil
}

// planText is "24 points: 20 done before, 3 new, 1 failed before; train.py
// changed since job 4".
func planText(p *volleyv1.PlanJobResponse, noun string) string {
	var parts []string
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, render.Count(n)+" "+what)
		}
	}
	add(p.Reused, "done before")
	if doing := "being done by job " + p.LiveJobId; p.SameWork {
		add(p.InProgress, doing)
	} else {
		// Waiting for the other job's results would tie one job to another
		// that may fail, or be cancelled.
		add(p.InProgress, doing+" (they run here too)")
	}
	if p.PreviousJobId != "" {
		add(p.NewPoints, "new")
	}
	add(p.Changed, "changed")
	add(p.Failed, "failed or cut off before")
	text := render.Plural(p.Total, noun)
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	said := []string{text}
	for _, reason := range p.Reasons {
		said = append(said, render.Clean(reason))
	}
	return strings.Join(said, "; ")
}

// stop terminates the job and follows it to its end. The context has ended:
// the next interrupt ends the process.
func (r *runner) stop(id string, f following, reason string, last *volleyv1.Job) (*volleyv1.Job, error) {
	ctx := context.Background()
	if err := r.lasting(ctx, r.s, r.need, func() error { return r.s.Terminate(ctx, id, reason) }); err != nil && client.Kind(err) != client.Refused {
		return last, err
	}
	f.stop, f.stopping = nil, true
	job, err := r.follow(ctx, r.s, id, f)
	if job == nil {
		job = last
	}
	return job, err
}

// interrupted says how to go on. Everything may have ended before the signal.
func (r *runner) interrupted(job *volleyv1.Job) error {
	if job.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED {
		return r.result(context.Background(), job)
	}
	if r.format == render.FormatTable || r.format == render.FormatWide {
		fmt.Fprintf(r.out, "interrupted: %s; run the same command to go on\n", reached(job))
	} else if err := r.result(context.Background(), job); err != nil {
		return err
	}
	return errInterrupted
}

// result prints the end of the job.
func (r *runner) result(ctx context.Context, job *volleyv1.Job) error {
	switch r.format {
	case render.FormatName:
		_, err := fmt.Fprintln(r.out, job.Id)
		return err
	case render.FormatYAML:
		return render.One(r.out, r.format, outcome(job))
	case render.FormatJSON:
		b, err := outcome(job).Compact()
		if err == nil {
			_, err = fmt.Fprintf(r.out, "%s\n", b)
		}
		return err
	}
	report := r.reportOf(ctx, r.s, job, r.file.Spec)
	if err := progress.Summary(r.out, report); err != nil {
		return err
	}
	_, err := fmt.Fprintf(r.out, "\nnext: %s\n", strings.Join(next(report), " · "))
	return err
}

// next are the commands that say more about a job which has ended.
func next(r progress.Report) []string {
	var list []string
	switch {
	case r.Job.Array:
		list = []string{"volley results " + r.Job.Id + " -o csv"}
	// Where nothing has run there is no output.
	case r.Job.GetCounts().GetSucceeded() > r.Job.GetCounts().GetSkipped(), len(r.Failures) > 0 && r.Failures[0].ExitCode != nil:
		list = []string{"volley logs " + r.Job.Id}
	}
	if r.Job.GetCounts().GetFailed() > 0 || len(list) == 0 {
		list = append(list, "volley show "+r.Job.Id)
	}
	return list
}

// outcome is the object that -o json prints.
func outcome(j *volleyv1.Job) render.Object {
	c := j.GetCounts()
	o := render.Object{
		{Name: "jobId", Value: j.Id},
		{Name: "name", Value: j.Name},
		{Name: "state", Value: render.Enum(j.State)},
		{Name: "statusReason", Value: j.StatusReason},
		{Name: "total", Value: j.Size},
		{Name: "succeeded", Value: c.GetSucceeded()},
		{Name: "failed", Value: c.GetFailed()},
		{Name: "skipped", Value: c.GetSkipped()},
		{Name: "durationMs", Value: progress.Elapsed(j, time.Now()).Milliseconds()},
		{Name: "taskMs", Value: j.TaskMs},
	}
	if j.Best != nil {
		o = append(o, render.Field{Name: "best", Value: render.Message(j.Best)})
	}
	return o
}
