// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Report is a job at its end, or as `show` finds it.
type Report struct {
	Job *volleyv1.Job
	// Noun is what an index is called.
	Noun string
	// Shared: the tasks have one directory, so what they write to results.json
	// there is not theirs alone, and is not read.
	Shared bool
	// Failures, most first.
	Failures []*volleyv1.FailureGroup
	// Remarks on tasks that succeeded, most first.
	Remarks []*volleyv1.FailureGroup
	// Top are the best children by the job's metric, best first.
	Top   []*volleyv1.Child
	Style render.Style
	// Width cuts tables. 0: no limit.
	Width int
}

// Elapsed is the time from the first start to the end, or to now.
func Elapsed(j *volleyv1.Job, now time.Time) time.Duration {
	switch {
	case j.GetStartedAt() == 0:
		return 0
	case j.GetStoppedAt() == 0:
		return max(0, now.Sub(time.UnixMilli(j.StartedAt)))
	}
	return time.Duration(max(0, j.StoppedAt-j.StartedAt)) * time.Millisecond
}

// Summary writes the end of a run: counts, times, failures, ranking, and what
// to type next.
func Summary(w io.Writer, r Report) error {
	j, c := r.Job, r.Job.GetCounts()
	var b strings.Builder
	fmt.Fprintf(&b, "%s  job %s  %s", r.Style.Bold(render.Clean(j.Name)), j.Id, r.Style.State(j.State))
	if d := Elapsed(j, time.Now()); j.StartedAt > 0 {
		fmt.Fprintf(&b, " in %s", render.Duration(d))
	}
	b.WriteByte('\n')
	fmt.Fprintf(&b, "  %s: %s\n", render.Plural(j.Size, r.Noun), counts(c))
	if j.TaskMs > 0 {
		fmt.Fprintf(&b, "  task time %s", render.Duration(time.Duration(j.TaskMs)*time.Millisecond))
		if retried := int64(j.FinishedAttempts) - int64(executed(c)); retried > 0 {
			fmt.Fprintf(&b, ", %s", render.Plural(retried, "attempt")+" repeated")
		}
		if j.LostAttempts > 0 {
			fmt.Fprintf(&b, ", %s lost with a node", render.Count(j.LostAttempts))
		}
		b.WriteByte('\n')
	}
	// The table of failures says more than the reason of the whole job.
	if j.State == volleyv1.JobState_JOB_STATE_FAILED && j.StatusReason != "" && len(r.Failures) == 0 {
		fmt.Fprintf(&b, "  %s\n", render.Clean(j.StatusReason))
	}
	if text := unreported(r); text != "" {
		fmt.Fprintf(&b, "  %s\n", text)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if err := Remarks(w, r); err != nil {
		return err
	}
	if err := Failures(w, r); err != nil {
		return err
	}
	return Ranking(w, r)
}

func counts(c *volleyv1.Counts) string {
	var parts []string
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, render.Count(n)+" "+what)
		}
	}
	ok := render.Count(c.GetSucceeded()) + " succeeded"
	if c.GetSkipped() > 0 {
		ok += fmt.Sprintf(" (%s done before)", render.Count(c.GetSkipped()))
	}
	parts = append(parts, ok)
	add(c.GetFailed(), "failed")
	add(c.GetRunning(), "running")
	add(c.GetSubmitted()+c.GetPending()+c.GetRunnable()+c.GetStarting(), "waiting")
	return strings.Join(parts, ", ")
}

// unreported says how to report the metric when no task did: without it a sweep
// has no ranking, and nothing else says why.
func unreported(r Report) string {
	name := r.Job.GetMetric().GetName()
	if name == "" || r.Job.Best != nil || len(r.Top) > 0 || r.Job.GetCounts().GetSucceeded() == 0 {
		return ""
	}
	key, err := json.Marshal(name)
	if err != nil {
		return "" // a string always encodes
	}
	text := fmt.Sprintf("no task reported %s: write {%s: …} to results.json in the task's directory", name, key)
	if r.Shared {
		text = fmt.Sprintf(`no task reported %s: write a line {"metrics": {%s: …}} to the socket VOLLEY_SOCKET (results.json is not read in a workdir that tasks share)`, name, key)
	}
	return r.Style.Yellow(render.Clean(text))
}

// Remarks writes what was remarked on tasks that succeeded, with a command that
// shows one of them.
func Remarks(w io.Writer, r Report) error {
	const most = 3
	var b strings.Builder
	for i, g := range r.Remarks {
		if i == most {
			fmt.Fprintf(&b, "  and %s more: volley why %s -o json\n", render.Plural(len(r.Remarks)-most, "kind of warning"), r.Job.Id)
			break
		}
		text := render.Truncate(render.Clean(g.Reason), 200)
		fmt.Fprintf(&b, "  %s %s: %s", r.Style.Yellow("warning:"), render.Plural(g.Count, "task"), text)
		if len(g.Examples) > 0 {
			fmt.Fprintf(&b, " (volley show %s)", client.Ref{ID: r.Job.Id, Index: g.Examples[0], Child: r.Job.Array})
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Failures writes the groups of failures with the command that shows one.
func Failures(w io.Writer, r Report) error {
	if len(r.Failures) == 0 {
		return nil
	}
	t := render.Table{Header: []string{"FAILED", "REASON", "EXAMPLE"}, Right: []bool{true}, Style: r.Style}
	const most = 10
	groups := kinds(r)
	for i, g := range groups {
		if i == most {
			t.Add("", fmt.Sprintf("and %d more kinds: volley why %s -o json", len(groups)-most, r.Job.Id), "")
			break
		}
		example := ""
		if len(g.Examples) > 0 {
			// What has no exit code may never have run: its logs are empty.
			verb := "show"
			if g.ExitCode != nil {
				verb = "logs"
			}
			example = "volley " + verb + " " + client.Ref{ID: r.Job.Id, Index: g.Examples[0], Child: r.Job.Array}.String()
		}
		t.Add(render.Count(g.Count), render.Truncate(Kind(g), 120), example)
		t.Paint(0, r.Style.Red)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return t.Write(w)
}

// kinds puts groups together that read the same, and those of a stop behind the
// failures that it may have been for: fifty tasks that were stopped must not
// hide the one that failed.
func kinds(r Report) []*volleyv1.FailureGroup {
	var list []*volleyv1.FailureGroup
	at := map[string]int{}
	for _, g := range r.Failures {
		kind := Kind(g)
		i, ok := at[kind]
		if !ok {
			at[kind] = len(list)
			list = append(list, g)
			continue
		}
		list[i] = &volleyv1.FailureGroup{
			Count: list[i].Count + g.Count, StatusReason: g.StatusReason, Reason: list[i].Reason, ExitCode: list[i].ExitCode, Examples: list[i].Examples,
		}
	}
	stopped := func(g *volleyv1.FailureGroup) bool {
		return r.Job.GetCancelled() && g.StatusReason == r.Job.GetStatusReason()
	}
	slices.SortStableFunc(list, func(a, b *volleyv1.FailureGroup) int {
		switch x, y := stopped(a), stopped(b); {
		case x && !y:
			return 1
		case y && !x:
			return -1
		}
		return cmp.Compare(b.Count, a.Count)
	})
	return list
}

// Ranking writes the best children with their parameters.
func Ranking(w io.Writer, r Report) error {
	m := r.Job.GetMetric()
	if m.GetName() == "" || len(r.Top) == 0 {
		return nil
	}
	order := "lowest first"
	if m.Goal == volleyv1.Goal_GOAL_MAX {
		order = "highest first"
	}
	t := render.Table{Header: []string{"RANK", "INDEX", render.Clean(m.Name)}, Right: []bool{true, true, true}, Style: r.Style, MaxWidth: r.Width}
	points := make([]render.Object, len(r.Top))
	var names []string
	for i, c := range r.Top {
		v, err := render.ParseJSON([]byte(c.Params))
		if err != nil {
			continue
		}
		points[i], _ = v.(render.Object)
		for _, f := range points[i] {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	for _, n := range names {
		t.Header = append(t.Header, render.Clean(n))
		t.Right = append(t.Right, true)
	}
	for i, c := range r.Top {
		value := ""
		if c.Metric != nil {
			value = render.Number(*c.Metric)
		}
		row := []string{strconv.Itoa(i + 1), strconv.FormatUint(c.Index, 10), value}
		for _, n := range names {
			v, ok := points[i].Get(n)
			if !ok {
				v = "-"
			}
			row = append(row, render.Short(v))
		}
		t.Add(row...)
		if i == 0 {
			t.Paint(2, r.Style.Green)
		}
	}
	if _, err := fmt.Fprintf(w, "\nranked by %s, %s\n", render.Clean(m.Name), order); err != nil {
		return err
	}
	return t.Write(w)
}
