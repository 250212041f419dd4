// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// model is what the user of a job file sees: a grid of x and y, a program and
// one input.
type model struct {
	xs, ys   []int64
	swapped  bool // y is declared first
	program  string
	input    byte
	fillings int
}

func (m model) spec(name string) *volleyv1.JobSpec {
	s := sweep(name, m.xs...)
	y := sweep(name, m.ys...).GetSpace().GetSweep().GetParams()[0]
	y.Name = "y"
	sw := s.GetSpace().GetSweep()
	sw.Params = append(sw.Params, y)
	if m.swapped {
		slices.Reverse(sw.Params)
	}
	s.Command = []string{m.program, "{x}", "{y}"}
	digest := make([]byte, 32)
	digest[0] = m.input
	s.Inputs = []*volleyv1.Input{{Path: "in", Digest: digest, External: "/in"}}
	return s
}

// points by index, as the identity that the user has in mind.
func (m model) points() (work, params []string) {
	add := func(x, y int64) {
		p := fmt.Sprintf("%d/%d", x, y)
		params = append(params, p)
		work = append(work, fmt.Sprintf("%s %d %s", m.program, m.input, p))
	}
	if m.swapped {
		for _, y := range m.ys {
			for _, x := range m.xs {
				add(x, y)
			}
		}
		return work, params
	}
	for _, x := range m.xs {
		for _, y := range m.ys {
			add(x, y)
		}
	}
	return work, params
}

func (m model) edit(rt *rapid.T) model {
	m.xs, m.ys = slices.Clone(m.xs), slices.Clone(m.ys)
	drop := func(list []int64) []int64 {
		if len(list) > 1 {
			list = slices.Delete(list, 0, 1)
		}
		return list
	}
	switch rapid.SampledFrom([]string{"same", "more x", "more y", "less x", "less y", "order", "values", "program", "input"}).Draw(rt, "edit") {
	case "more x":
		m.fillings++
		m.xs = append(m.xs, int64(100+m.fillings))
	case "more y":
		m.fillings++
		m.ys = append([]int64{int64(100 + m.fillings)}, m.ys...)
	case "less x":
		m.xs = drop(m.xs)
	case "less y":
		m.ys = drop(m.ys)
	case "order":
		m.swapped = !m.swapped
	case "values":
		slices.Reverse(m.xs)
	case "program":
		m.program = rapid.SampledFrom([]string{"f", "g"}).Draw(rt, "program")
	case "input":
		m.input = rapid.ByteRange(0, 1).Draw(rt, "input")
	}
	return m
}

// TestReuseAgainstOracle edits and submits a job again and again, with random
// failures between, and compares what is run with what the user would say has
// to be: no point that was done is run, and none that was not is left out.
func TestReuseAgainstOracle(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	number := 0
	// run is exchanged between jobs, when no task is anywhere.
	run := func(workertest.Task) workertest.Result { return workertest.Result{} }
	c.worker(workertest.Options{NodeID: "n", CPUs: 64, Run: func(task workertest.Task) workertest.Result { return run(task) }})
	rapid.Check(t, func(rt *rapid.T) {
		number++
		name := fmt.Sprintf("job-%d", number)
		m := model{xs: []int64{1, 2, 3}, ys: []int64{1, 2}, program: "f"}
		done, had, hadParams := map[string]string{}, map[string]bool{}, map[string]bool{}
		for range rapid.IntRange(2, 6).Draw(rt, "submits") {
			work, params := m.points()
			want := &volleyv1.PlanJobResponse{Total: uint64(len(work))}
			for i, w := range work {
				switch {
				case done[w] != "":
					want.Reused++
				case had[w]:
					want.Failed++
				case hadParams[params[i]]:
					want.Changed++
				default:
					want.NewPoints++
				}
			}
			spec := m.spec(name)
			got, err := c.PlanJob(c.ctx, &volleyv1.PlanJobRequest{Spec: spec})
			if err != nil {
				rt.Fatal(err)
			}
			got.Reasons, got.PreviousJobId = nil, ""
			if !proto.Equal(got, want) {
				rt.Fatalf("plan is %v, want %v", got, want)
			}
			fails := rapid.SliceOfN(rapid.Bool(), len(work), len(work)).Draw(rt, "fails")
			ran := map[uint64]bool{}
			run = func(task workertest.Task) workertest.Result {
				ran[task.Index] = true
				if fails[task.Index] {
					return workertest.Failed(1)
				}
				return workertest.Result{Output: fmt.Sprintf(`"%s"`, work[task.Index])}
			}
			reuse := rapid.IntRange(0, 4).Draw(rt, "reuse") > 0
			r, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: spec, Reuse: reuse})
			if err != nil {
				rt.Fatal(err)
			}
			j := c.ended(r.GetJobId())
			rows, _ := c.results(&volleyv1.ListResultsRequest{JobId: r.GetJobId()})
			for i, w := range work {
				skip := reuse && done[w] != ""
				if ran[uint64(i)] == skip {
					rt.Errorf("index %d (%s): ran %t, done before %q, reuse %t", i, w, ran[uint64(i)], done[w], reuse)
				}
				if skip && (rows[i].GetReusedFrom() == "" || rows[i].GetOutput() != fmt.Sprintf(`"%s"`, w)) {
					rt.Errorf("index %d (%s) took over %v", i, w, rows[i])
				}
			}
			if reuse && j.GetCounts().GetSkipped() != want.GetReused() {
				rt.Errorf("%d skipped, %d planned", j.GetCounts().GetSkipped(), want.GetReused())
			}
			for i, w := range work {
				had[w], hadParams[params[i]] = true, true
				if ran[uint64(i)] && !fails[i] {
					done[w] = r.GetJobId()
				}
			}
			m = m.edit(rt)
		}
	})
}

// TestChainsOfReuse: what was taken over can be taken over again, from a job
// whose own origin was purged.
func TestChainsOfReuse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{KeepJobs: 1, KeepAge: -1})
	w := c.worker(workertest.Options{NodeID: "n", Run: func(task workertest.Task) workertest.Result {
		return workertest.Result{Output: fmt.Sprint(task.Job)}
	}})
	reuse := func(spec *volleyv1.JobSpec) string {
		r, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: spec, Reuse: true})
		if err != nil {
			t.Fatal(err)
		}
		c.ended(r.GetJobId())
		return r.GetJobId()
	}
	first := reuse(sweep("s", 1, 2))
	second := reuse(sweep("s", 1, 2, 3))
	c.until("the first is purged", func(s *state.State) bool { return s.Job(1) == nil })
	third := reuse(sweep("s", 4, 3, 2, 1))
	rows, _ := c.results(&volleyv1.ListResultsRequest{JobId: third})
	var from, outputs []string
	for _, r := range rows {
		from, outputs = append(from, r.GetReusedFrom()), append(outputs, r.GetOutput())
	}
	if want := []string{"", second, first, first}; !slices.Equal(from, want) {
		t.Errorf("reused from %v, want %v", from, want)
	}
	if want := []string{"3", "2", "1", "1"}; !slices.Equal(outputs, want) {
		t.Errorf("outputs are %v, want %v", outputs, want)
	}
	if w.Runs(3, 1)+w.Runs(3, 2)+w.Runs(3, 3) != 0 {
		t.Error("what was taken over was run")
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	m := model{xs: []int64{1, 2}, ys: []int64{1}, program: "f"}
	spec := m.spec("s")
	spec.Env = []*volleyv1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "1"}}
	c.submit(spec)
	m.program, m.input = "g", 7
	spec = m.spec("s")
	spec.Env = []*volleyv1.EnvVar{{Name: "A", Value: "2"}, {Name: "C", Value: "1"}}
	r, err := c.PlanJob(c.ctx, &volleyv1.PlanJobRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	want := "the command changed since job 1, env A changed since job 1, env C is new since job 1, env B was removed since job 1, in changed since job 1"
	if got := strings.Join(r.GetReasons(), ", "); got != want || r.GetPreviousJobId() != "1" || r.GetChanged() != 2 {
		t.Errorf("plan is %v", r)
	}
}

// TestShardsAreNotTaken: the same data cut in another way is other work.
func TestShardsAreNotTaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.worker(workertest.Options{NodeID: "n"})
	dir := t.TempDir()
	spec := mapSpec(t, dir, "m", &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: 2}}, "a", "b", "c", "d", "e", "f", "g", "h")
	c.submit(spec)
	c.ended("m")
	for rows, want := range map[uint64]uint64{2: 4, 4: 0, 1: 0} {
		other := proto.CloneOf(spec)
		other.GetSpace().GetMap().Shard = &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: rows}}
		r, err := c.PlanJob(c.ctx, &volleyv1.PlanJobRequest{Spec: other})
		if err != nil || r.GetReused() != want {
			t.Errorf("%d rows: %v, %v, want %d reused", rows, r, err, want)
		}
	}
}

// TestPlanBesideALiveJob: what waits or runs elsewhere has not failed.
func TestPlanBesideALiveJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	plan := func(spec *volleyv1.JobSpec, want *volleyv1.PlanJobResponse) {
		t.Helper()
		got, err := c.PlanJob(c.ctx, &volleyv1.PlanJobRequest{Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		got.Reasons = nil
		if !proto.Equal(got, want) {
			t.Errorf("plan is %v, want %v", got, want)
		}
	}
	w := c.worker(workertest.Options{NodeID: "n", CPUs: 2, Run: hold})
	small := model{xs: []int64{1, 2, 3}, ys: []int64{1}, program: "f"}
	large := model{xs: []int64{1, 2, 3, 4}, ys: []int64{1}, program: "f"}
	c.submit(small.spec("s"))
	c.running("s", 2)
	w.Finish(1, 0, workertest.Result{})
	c.until("one has ended", func(s *state.State) bool { return s.Job(1).Counts().GetSucceeded() == 1 })
	w.Finish(1, 1, workertest.Failed(1))
	c.until("two have ended", func(s *state.State) bool { return s.Job(1).Counts().GetFailed() == 1 })
	plan(small.spec("s"), &volleyv1.PlanJobResponse{Total: 3, Reused: 1, Failed: 1, InProgress: 1, PreviousJobId: "1", LiveJobId: "1", SameWork: true})
	plan(large.spec("s"), &volleyv1.PlanJobResponse{Total: 4, Reused: 1, Failed: 1, InProgress: 1, NewPoints: 1, PreviousJobId: "1", LiveJobId: "1"})
	// One that was told to end will not do them.
	if _, err := c.TerminateJob(c.ctx, &volleyv1.TerminateJobRequest{JobId: "1", Reason: "enough"}); err != nil {
		t.Fatal(err)
	}
	plan(small.spec("s"), &volleyv1.PlanJobResponse{Total: 3, Reused: 1, Failed: 2, PreviousJobId: "1"})
}

// TestPlanOfTheSamePoints does not look at 10^8 of them one by one.
func TestPlanOfTheSamePoints(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	const size = 100_000_000
	c.submit(array("huge", size))
	w := c.worker(workertest.Options{NodeID: "n", Run: hold})
	c.running("huge", 4)
	w.Finish(1, 1, workertest.Result{})
	c.until("one has ended", func(s *state.State) bool { return s.Job(1).Counts().GetSucceeded() == 1 })
	r, err := c.PlanJob(c.ctx, &volleyv1.PlanJobRequest{Spec: array("huge", size)})
	if err != nil || r.GetReused() != 1 || r.GetInProgress() != size-1 || r.GetFailed() != 0 || r.GetLiveJobId() != "1" || !r.GetSameWork() {
		t.Errorf("plan is %v, %v", r, err)
	}
	r, err = c.PlanJob(c.ctx, &volleyv1.PlanJobRequest{Spec: array("huge", size+1)})
	if err != nil || r.GetNewPoints() != size+1 || len(r.GetReasons()) != 1 || !strings.Contains(r.GetReasons()[0], "too many to compare") {
		t.Errorf("plan of one more is %v, %v", r, err)
	}
}

// BenchmarkPlan compares with one earlier job of as many points, half of them
// the same.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []int64{1000, 1_000_000} {
		b.Run(fmt.Sprintf("points=%d", size), func(b *testing.B) {
			c := newCluster(b, engine.Options{})
			spec := func(from int64) *volleyv1.JobSpec {
				s := sweep("s", 1)
				s.GetSpace().GetSweep().Params = []*volleyv1.Param{{Name: "x", Axis: &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Min: from, Max: from + size - 1}}}}
				return s
			}
			c.submit(spec(0))
			req := &volleyv1.PlanJobRequest{Spec: spec(size / 2)}
			b.ReportAllocs()
			for b.Loop() {
				r, err := c.PlanJob(b.Context(), req)
				if err != nil || r.GetInProgress() != uint64(size/2) || r.GetNewPoints() != uint64(size/2) {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "points/s")
		})
	}
}
