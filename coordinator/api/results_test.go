// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

func indexes(rows []*volleyv1.Child) (list []uint64) {
	for _, r := range rows {
		list = append(list, r.GetIndex())
	}
	return list
}

func TestResults(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	spec := sweep("s", 50, 40, 30, 20, 10, 5)
	spec.Metric = &volleyv1.Metric{Name: "loss", Goal: volleyv1.Goal_GOAL_MIN}
	c.submit(spec)
	losses := []float64{3, 1, 2, 1, 9, 0}
	c.worker(workertest.Options{NodeID: "n", Run: func(task workertest.Task) workertest.Result {
		switch task.Index {
		case 4:
			return workertest.Result{Output: `{"a":1}`} // without a metric
		case 5:
			r := workertest.Failed(2)
			r.Metric, r.Reason = new(0.0), "bad luck"
			return r
		}
		return workertest.Result{Metric: new(losses[task.Index])}
	}})
	c.ended("s")
	for name, tc := range map[string]struct {
		req  *volleyv1.ListResultsRequest
		want []uint64
	}{
		"all":            {&volleyv1.ListResultsRequest{}, []uint64{0, 1, 2, 3, 4, 5}},
		"limit":          {&volleyv1.ListResultsRequest{Limit: 2, Order: volleyv1.ResultOrder_RESULT_ORDER_INDEX}, []uint64{0, 1}},
		"failed":         {&volleyv1.ListResultsRequest{States: []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED}}, []uint64{5}},
		"limit succeeds": {&volleyv1.ListResultsRequest{States: []volleyv1.JobState{succeeded}, Limit: 4}, []uint64{0, 1, 2, 3}},
		"ranked":         {&volleyv1.ListResultsRequest{Order: volleyv1.ResultOrder_RESULT_ORDER_METRIC}, []uint64{1, 3, 2, 0}},
		"best":           {&volleyv1.ListResultsRequest{Order: volleyv1.ResultOrder_RESULT_ORDER_METRIC, Limit: 1}, []uint64{1}},
		"ranked failed":  {&volleyv1.ListResultsRequest{Order: volleyv1.ResultOrder_RESULT_ORDER_METRIC, States: []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc.req.JobId = "s"
			rows, _ := c.results(tc.req)
			if got := indexes(rows); !slices.Equal(got, tc.want) {
				t.Errorf("indexes are %v, want %v", got, tc.want)
			}
			for _, r := range rows {
				if want := fmt.Sprintf(`{"x":%d}`, []int{50, 40, 30, 20, 10, 5}[r.GetIndex()]); r.GetParams() != want {
					t.Errorf("%d has %s, want %s", r.GetIndex(), r.GetParams(), want)
				}
			}
		})
	}
	rows, _ := c.results(&volleyv1.ListResultsRequest{JobId: "1"})
	if a := rows[5].GetAttempts(); len(a) != 1 || a[0].GetExitCode() != 2 || a[0].GetReason() != "bad luck" || a[0].GetNode() != "n" || a[0].GetDurationUs() != 1000 {
		t.Errorf("the failed row is %v", rows[5])
	}
	if rows[4].GetOutput() != `{"a":1}` || rows[4].Metric != nil || rows[0].GetMetric() != 3 {
		t.Errorf("rows are %v", rows)
	}
	c.submit(array("plain", 1))
	for _, tc := range []struct {
		req  *volleyv1.ListResultsRequest
		code codes.Code
		text string
	}{
		{&volleyv1.ListResultsRequest{JobId: "plain", Order: volleyv1.ResultOrder_RESULT_ORDER_METRIC}, codes.InvalidArgument, "job 2 has no metric"},
		{&volleyv1.ListResultsRequest{JobId: "9"}, codes.NotFound, `"9"`},
		{&volleyv1.ListResultsRequest{JobId: "s:1"}, codes.InvalidArgument, "names one task"},
		{&volleyv1.ListResultsRequest{JobId: "s", Order: 7}, codes.InvalidArgument, "order 7"},
		{&volleyv1.ListResultsRequest{JobId: "s", States: []volleyv1.JobState{0}}, codes.InvalidArgument, "states[0]"},
	} {
		s, err := c.ListResults(c.ctx, tc.req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		wantStatus(t, err, tc.code, tc.text)
	}
}

func TestResultsInBoundedBatches(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("wide", 100_000))
	rows, messages := c.results(&volleyv1.ListResultsRequest{JobId: "wide"})
	if len(rows) != 100_000 || messages != 100 || rows[99_999].GetIndex() != 99_999 {
		t.Errorf("%d rows in %d messages", len(rows), messages)
	}
	// Rows as large as they can be: a thousand of them are no message.
	c.submit(array("tall", 300))
	output := `"` + strings.Repeat("x", 60<<10) + `"`
	c.worker(workertest.Options{NodeID: "n", Run: func(task workertest.Task) workertest.Result {
		if task.Job == 1 {
			return workertest.Result{Hold: true}
		}
		return workertest.Result{Output: output}
	}})
	if _, err := c.TerminateJob(c.ctx, &volleyv1.TerminateJobRequest{JobId: "wide"}); err != nil {
		t.Fatal(err)
	}
	c.ended("tall")
	rows, messages = c.results(&volleyv1.ListResultsRequest{JobId: "tall"})
	if len(rows) != 300 || messages < 10 || rows[7].GetOutput() != output {
		t.Errorf("%d rows in %d messages", len(rows), messages)
	}
	r, err := c.ListChildren(c.ctx, &volleyv1.ListChildrenRequest{JobId: "tall", PageSize: 1000})
	if err != nil || len(r.GetChildren()) >= 300 || len(r.GetChildren()) == 0 || r.GetNextPageToken() == "" {
		t.Errorf("a page of %d children, %v", len(r.GetChildren()), err)
	}
}

// TestFailedOfMany: the few that have failed of 10^15 are found without
// looking at all that wait.
func TestFailedOfMany(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("huge", 1e15))
	if _, err := c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: "huge:123456789012345"}); err != nil {
		t.Fatal(err)
	}
	w := c.worker(workertest.Options{NodeID: "n", Run: hold})
	c.running("huge", 4)
	w.Finish(1, 2, workertest.Failed(1))
	failed := []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED}
	before := c.engine.views.Load()
	for got := []uint64(nil); len(got) < 2; {
		rows, _ := c.results(&volleyv1.ListResultsRequest{JobId: "huge", States: failed})
		if got = indexes(rows); len(got) == 2 && !slices.Equal(got, []uint64{2, 123456789012345}) {
			t.Errorf("failed are %v", got)
		}
	}
	r, err := c.ListChildren(c.ctx, &volleyv1.ListChildrenRequest{JobId: "huge", States: failed, PageSize: 2})
	if err != nil || len(r.GetChildren()) != 2 {
		t.Errorf("failed children are %v, %v", r, err)
	}
	t.Logf("%d views", c.engine.views.Load()-before)
}

// mapSpec is a map over lines in a file.
func mapSpec(t testing.TB, dir, name string, shard *volleyv1.Shard, lines ...string) *volleyv1.JobSpec {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "rows.txt"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &volleyv1.Map{Over: "rows.txt", Shard: shard}
	manifest, err := sharding.BuildManifest(context.Background(), dir, m)
	if err != nil {
		t.Fatal(err)
	}
	m.Manifest, m.Format = manifest.Encode(), manifest.Format()
	return &volleyv1.JobSpec{Name: name, Command: []string{"f", "{index}"}, SubmitDir: dir, Space: &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: m}}}
}

func TestParametersOfMaps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	dir := t.TempDir()
	by := func(n uint64) *volleyv1.Shard { return &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: n}} }
	lines := []string{"a", "b", "c", "d", "e"}
	one := mapSpec(t, dir, "one", nil, lines...)
	one.Command = []string{"f", "{line}", "{records}", "{first}", "{count}"}
	c.submit(one)
	two := mapSpec(t, t.TempDir(), "two", by(2), lines...)
	c.submit(two)
	want := map[string][]string{
		"one": {`{"line":"a"}`, `{"line":"b"}`, `{"line":"c"}`, `{"line":"d"}`, `{"line":"e"}`},
		"two": {`{"first":0,"count":2}`, `{"first":2,"count":2}`, `{"first":4,"count":1}`},
	}
	for id, params := range want {
		rows, _ := c.results(&volleyv1.ListResultsRequest{JobId: id})
		var got []string
		for _, r := range rows {
			got = append(got, r.GetParams())
		}
		if !slices.Equal(got, params) {
			t.Errorf("%s: %v, want %v", id, got, params)
		}
	}
	two.Command = []string{"f", "{line}"}
	_, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: two})
	wantStatus(t, err, codes.InvalidArgument, "{line}", "{records}")
	// The data set has gone: rows are named by number.
	if err := os.Remove(filepath.Join(dir, "rows.txt")); err != nil {
		t.Fatal(err)
	}
	if got := c.describe("one:3").GetChild().GetParams(); got != `{"first":3,"count":1}` {
		t.Errorf("without the file: %s", got)
	}
}
