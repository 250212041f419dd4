// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/progress"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func (a *app) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show JOB[:INDEX]...",
		Short: "Describe jobs or children",
		Long: `Describe a job: counts, times, failures by reason, and the best points of a
sweep with a metric. Of a child: parameters, attempts, work directory, output.

JSON and YAML of several are an array.`,
		Example:           "  volley show digits-sweep\n  volley show 3:17 -o json\n  volley ls --state failed -o name | xargs volley show",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJob(0),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.show(cmd.Context(), args) },
	}
	a.outputFlag(c, "table", "table, json, yaml or name")
	return c
}

func (a *app) show(ctx context.Context, names []string) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	return a.with(ctx, func(s *session) error {
		// All are looked up before anything is printed: half an array is none.
		refs := make([]client.Ref, len(names))
		details := make([]*volleyv1.JobDetail, len(names))
		for i, name := range names {
			if refs[i], err = s.Resolve(ctx, name); err != nil {
				return err
			}
			if details[i], err = s.Job(ctx, refs[i]); err != nil {
				return err
			}
		}
		switch {
		case format == render.FormatName:
			for _, ref := range refs {
				if _, err := fmt.Fprintln(a.out, ref); err != nil {
					return err
				}
			}
			return nil
		case format != render.FormatJSON && format != render.FormatYAML:
			return a.showAll(ctx, s, refs, details)
		case len(details) == 1:
			return render.One(a.out, format, render.Message(details[0]))
		}
		return render.Listing[*volleyv1.JobDetail]{}.Write(a.out, format, a.outStyle(), 0, render.Slice(details))
	})
}

func (a *app) showAll(ctx context.Context, s *session, refs []client.Ref, details []*volleyv1.JobDetail) error {
	for i, ref := range refs {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		show := a.showJob
		if ref.Child {
			show = func(ctx context.Context, s *session, d *volleyv1.JobDetail) error { return a.showChild(ctx, s, ref, d) }
		}
		if err := show(ctx, s, details[i]); err != nil {
			return err
		}
	}
	return nil
}

// facts is a list of names and values, aligned.
type facts struct {
	style render.Style
	rows  [][2]string
}

func (f *facts) add(name, format string, args ...any) {
	if v := fmt.Sprintf(format, args...); v != "" {
		f.rows = append(f.rows, [2]string{name, v})
	}
}

func (f *facts) String() string {
	wide := 0
	for _, r := range f.rows {
		wide = max(wide, len(r[0]))
	}
	var b strings.Builder
	for _, r := range f.rows {
		fmt.Fprintf(&b, "  %s%s  %s\n", f.style.Dim(r[0]), strings.Repeat(" ", wide-len(r[0])), r[1])
	}
	return b.String()
}

func (a *app) showJob(ctx context.Context, s *session, d *volleyv1.JobDetail) error {
	r := a.reportOf(ctx, s, d.Job, d.Spec)
	if err := progress.Summary(a.out, r); err != nil {
		return err
	}
	f := facts{style: r.Style}
	j := d.Job
	f.add("command", "%s", commandLine(d.Spec))
	f.add("created", "%s", render.Time(j.CreatedAt))
	if j.StartedAt > 0 {
		f.add("started", "%s, %s after", render.Time(j.StartedAt), render.Duration(time.Duration(j.StartedAt-j.CreatedAt)*time.Millisecond))
	}
	if j.StoppedAt > 0 {
		f.add("stopped", "%s", render.Time(j.StoppedAt))
	}
	f.add("queue", "%s, priority %d", j.Queue, j.Priority)
	f.add("resources", "%s", resources(d.Spec.GetResources()))
	if n := d.Spec.GetConcurrency(); n > 0 {
		f.add("concurrency", "%s", render.Count(n))
	}
	for _, dep := range d.DependsOn {
		f.add("depends on", "%s", dependency(dep))
	}
	for _, l := range j.Labels {
		f.add("label", "%s=%s", render.Clean(l.Key), render.Clean(l.Value))
	}
	if j.StaleResults > 0 {
		f.add("stale", "%s refused: their lease was no longer current", render.Plural(j.StaleResults, "result"))
	}
	if !client.Terminal(j.State) {
		if e, err := s.Explain(ctx, client.Ref{ID: j.Id}); err == nil {
			f.add("why", "%s", progress.Sentence(e))
		}
	}
	if d.Child != nil && !j.Array {
		a.childFacts(&f, d.Child)
	}
	_, err := fmt.Fprintf(a.out, "\n%s", f.String())
	return err
}

func dependency(d *volleyv1.Dependency) string {
	switch d.Type {
	case volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL:
		return "the child before (SEQUENTIAL)"
	case volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N:
		return d.JobId + ", child by child (N_TO_N)"
	}
	return d.JobId
}

func commandLine(spec *volleyv1.JobSpec) string {
	if spec.GetRun() != "" {
		return render.Truncate(strings.Join(strings.Fields(render.Clean(spec.Run)), " "), 200)
	}
	words := make([]string, len(spec.GetCommand()))
	for i, w := range spec.GetCommand() {
		if words[i] = w; w == "" || strings.ContainsAny(w, " \t\n'\"\\$`&|;<>*?") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return render.Truncate(render.Clean(strings.Join(words, " ")), 200)
}

func resources(r *volleyv1.Resources) string {
	cpu := r.GetCpuMilli()
	if cpu == 0 {
		cpu = 1000
	}
	text := cpus(cpu) + " CPU"
	if r.GetMemoryBytes() > 0 {
		text += ", " + render.Bytes(r.GetMemoryBytes())
	}
	if r.GetGpu() > 0 {
		text += ", " + render.Plural(r.GetGpu(), "GPU")
	}
	return text
}

// memory is the peak of an attempt. It is not known of one that took less than
// the worker itself.
func memory(t *volleyv1.Attempt) string {
	if t.PeakMemoryBytes == 0 {
		return "-"
	}
	return render.Bytes(t.PeakMemoryBytes)
}

func cpus(milli int64) string { return render.Number(float64(milli) / 1000) }

func (a *app) showChild(ctx context.Context, s *session, ref client.Ref, d *volleyv1.JobDetail) error {
	c := d.Child
	if c == nil {
		return &client.Error{Kind: client.NotFound, Msg: "there is no child " + ref.String()}
	}
	st := a.outStyle()
	f := facts{style: st}
	f.add("parameters", "%s", render.Params(c.Params))
	a.childFacts(&f, c)
	_, err := fmt.Fprintf(a.out, "%s  child %s  %s\n%s", st.Bold(render.Clean(d.Job.Name)), ref, st.State(c.State), f.String())
	if err != nil || len(c.Attempts) == 0 {
		return err
	}
	t := render.Table{Header: []string{"ATTEMPT", "EXIT", "STARTED", "TIME", "CPU", "MEMORY", "NODE", "REASON"}, Right: []bool{true, true, false, true, true, true}, Style: st, MaxWidth: a.width(a.out)}
	for _, at := range c.Attempts {
		why := ""
		if at.GetExitCode() != 0 || at.Reason != "" || at.ExitCode == nil && client.Terminal(c.State) {
			why = progress.Why(nil, at.Reason, at.StatusReason)
		}
		t.Add(fmt.Sprint(at.Attempt), exitCell(at), render.Time(at.StartedAt), render.Duration(time.Duration(at.DurationUs)*time.Microsecond),
			render.Duration(time.Duration(at.CpuMs)*time.Millisecond), memory(at), at.Node, why)
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	if err := t.Write(a.out); err != nil {
		return err
	}
	last := c.Attempts[len(c.Attempts)-1]
	switch {
	case c.ReusedFrom != "":
		_, err = io.WriteString(a.out, ranBy(ctx, s, ref, c))
	// Where no process ran there is no output.
	case last.ExitCode != nil, !client.Terminal(c.State):
		_, err = fmt.Fprintf(a.out, "\nnext: volley logs %s\n", ref)
	}
	return err
}

// maxSearch bounds how many children are looked at for one point.
const maxSearch = 10_000

// ranBy says where the output of a child is whose result was taken over. The
// job that ran it has the same point, maybe at another index: indexes move when
// a sweep is extended. It is empty when that job is not kept any more.
func ranBy(ctx context.Context, s *session, ref client.Ref, c *volleyv1.Child) string {
	d, err := s.Job(ctx, client.Ref{ID: c.ReusedFrom})
	if err != nil {
		return ""
	}
	from := client.Ref{ID: c.ReusedFrom, Child: d.Job.Array}
	found := !d.Job.Array
	if d.Job.Array && (c.Params == "" || c.Params == "{}") {
		// Without parameters the index is the point.
		from.Index, found = ref.Index, ref.Index < d.Job.Size
	} else if d.Job.Array {
		for o, err := range limited(s.Children(ctx, &volleyv1.ListChildrenRequest{JobId: from.ID, PageSize: 1000}), maxSearch) {
			if err != nil {
				break
			}
			if o.Params == c.Params {
				from.Index, found = o.Index, true
				break
			}
		}
	}
	if !found {
		return fmt.Sprintf("\nnext: volley show %s\n", from.ID)
	}
	return fmt.Sprintf("\nnext: volley logs %s\n", from)
}

// childFacts are those that single jobs and children have in common.
func (a *app) childFacts(f *facts, c *volleyv1.Child) {
	if c.ReusedFrom != "" {
		f.add("taken over", "from %s", c.ReusedFrom)
	}
	if c.Metric != nil {
		f.add("metric", "%s", render.Number(*c.Metric))
	}
	f.add("output", "%s", render.Params(c.Output))
	f.add("work dir", "%s", render.Clean(c.Workdir))
	if c.State == volleyv1.JobState_JOB_STATE_FAILED {
		f.add("reason", "%s", render.Clean(reasonCell(c)))
	}
}
