// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(sweep("s", 7, 8))
	c.submit(single("one"))
	c.submit(sweep("s", 9))
	r, err := c.DescribeJobs(c.ctx, &volleyv1.DescribeJobsRequest{
		JobIds: []string{"2", "99", "1:1", "nobody", "s", "1", "s:0", "1:2", "s:1", "", ":", "1:x", "1:-1", "one:0", "18446744073709551616"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.GetJobs() {
		text := d.GetJob().GetId()
		if d.GetChild() != nil {
			text += fmt.Sprintf(" child %d %s", d.GetChild().GetIndex(), d.GetChild().GetParams())
		}
		if d.GetSpec() != nil {
			t.Error("a spec that was not asked for")
		}
		got = append(got, text)
	}
	want := []string{"2 child 0 ", `1 child 1 {"x":8}`, "3", "1", `3 child 0 {"x":9}`, "2 child 0 "}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s := c.describe("s").GetSpec(); s.GetCommand()[0] != "f" {
		t.Errorf("spec is %v", s)
	}
	_, err = c.DescribeJobs(c.ctx, &volleyv1.DescribeJobsRequest{JobIds: make([]string, 1001)})
	wantStatus(t, err, codes.InvalidArgument, "1001", "1000")
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(&volleyv1.JobSpec{Name: "big", Command: []string{"true", strings.Repeat("x", 30<<20)}})
	_, err := c.DescribeJobs(c.ctx, &volleyv1.DescribeJobsRequest{JobIds: []string{"1", "1", "1"}, WithSpec: true})
	wantStatus(t, err, codes.ResourceExhausted, "90 MiB", "ask for fewer")
	if s := c.describe("1").GetSpec(); len(s.GetCommand()[1]) != 30<<20 {
		t.Error("the spec was cut")
	}
}

// all lists all pages.
func (c *cluster) all(req *volleyv1.ListJobsRequest, between func()) (ids []string) {
	c.Helper()
	for {
		r, err := c.ListJobs(c.ctx, req)
		if err != nil {
			c.Fatal(err)
		}
		for _, j := range r.GetJobs() {
			ids = append(ids, j.GetId())
		}
		if req.PageToken = r.GetNextPageToken(); req.PageToken == "" {
			return ids
		}
		if between != nil {
			between()
		}
	}
}

func TestListFiltersAndSorts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	label := func(s *volleyv1.JobSpec, v string) *volleyv1.JobSpec {
		s.Labels = []*volleyv1.Label{{Key: "team", Value: v}, {Key: "k", Value: "v"}}
		return s
	}
	c.submit(label(single("train-a"), "red"))  // 1
	c.submit(label(single("train-b"), "blue")) // 2
	other := single("other")
	other.Queue = "slow"
	c.submit(other) // 3
	w := c.worker(workertest.Options{NodeID: "n", Run: hold})
	for _, id := range []string{"1", "2", "3"} {
		c.running(id, 1)
	}
	c.submit(array("late", 100)) // 4, of which one runs
	// They end in another order than they were submitted in.
	for n, id := range []uint64{3, 1} {
		w.Finish(id, 0, workertest.Result{Outcome: volleyv1.Outcome(n)})
		c.ended(fmt.Sprint(id))
		// In the same millisecond the order would be that of the ids.
		for stopped := c.describe(fmt.Sprint(id)).GetJob().GetStoppedAt(); time.Now().UnixMilli() <= stopped; {
			runtime.Gosched()
		}
	}
	c.running("4", 3)
	created := c.describe("1").GetJob().GetCreatedAt()
	for name, tc := range map[string]struct {
		req  *volleyv1.ListJobsRequest
		want []string
	}{
		"all":        {&volleyv1.ListJobsRequest{}, []string{"4", "3", "2", "1"}},
		"ascending":  {&volleyv1.ListJobsRequest{Ascending: true}, []string{"1", "2", "3", "4"}},
		"state":      {&volleyv1.ListJobsRequest{States: []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED, succeeded}}, []string{"3", "1"}},
		"queue":      {&volleyv1.ListJobsRequest{Queue: "slow"}, []string{"3"}},
		"name":       {&volleyv1.ListJobsRequest{Name: "late"}, []string{"4"}},
		"prefix":     {&volleyv1.ListJobsRequest{Name: "train-*"}, []string{"2", "1"}},
		"star":       {&volleyv1.ListJobsRequest{Name: "*", Ascending: true}, []string{"1", "2", "3", "4"}},
		"label":      {&volleyv1.ListJobsRequest{Labels: []*volleyv1.Label{{Key: "team", Value: "red"}, {Key: "k", Value: "v"}}}, []string{"1"}},
		"two labels": {&volleyv1.ListJobsRequest{Labels: []*volleyv1.Label{{Key: "team", Value: "red"}, {Key: "team", Value: "blue"}}}, nil},
		"stopped":    {&volleyv1.ListJobsRequest{Sort: volleyv1.JobSort_JOB_SORT_STOPPED, Since: 1, Ascending: true}, []string{"3", "1"}},
		"before":     {&volleyv1.ListJobsRequest{Until: created}, nil},
		"since":      {&volleyv1.ListJobsRequest{Since: created, Sort: volleyv1.JobSort_JOB_SORT_CREATED}, []string{"4", "3", "2", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, c.all(tc.req, nil)); d != "" {
				t.Error(d)
			}
			tc.req.PageSize = 1
			if d := cmp.Diff(tc.want, c.all(tc.req, nil)); d != "" {
				t.Errorf("in pages of one: %s", d)
			}
		})
	}
	for name, tc := range map[string]struct {
		req  *volleyv1.ListJobsRequest
		text string
	}{
		"page size":     {&volleyv1.ListJobsRequest{PageSize: 1001}, "page_size 1001"},
		"negative size": {&volleyv1.ListJobsRequest{PageSize: -1}, "page_size -1"},
		"rubbish token": {&volleyv1.ListJobsRequest{PageToken: "%%%"}, `page_token "%%%"`},
		"short token":   {&volleyv1.ListJobsRequest{PageToken: base64.RawURLEncoding.EncodeToString([]byte("jobs-0-false.1"))}, "page_token"},
		"loose token":   {&volleyv1.ListJobsRequest{PageToken: cursor{"jobs-0-false", 1, 2}.token() + "AAAA"}, "page_token"},
		"other order":   {&volleyv1.ListJobsRequest{PageToken: cursor{"jobs-0-true", 1, 2}.token()}, "page_token"},
		"children's":    {&volleyv1.ListJobsRequest{PageToken: cursor{"children", 1, 2}.token()}, "page_token"},
		"state":         {&volleyv1.ListJobsRequest{States: []volleyv1.JobState{77}}, "states[0] 77"},
		"sort":          {&volleyv1.ListJobsRequest{Sort: 9}, "sort 9"},
		"since":         {&volleyv1.ListJobsRequest{Since: -1}, "since -1"},
		"name":          {&volleyv1.ListJobsRequest{Name: "a*b"}, `name "a*b"`},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			_, err := c.ListJobs(c.ctx, tc.req)
			wantStatus(t, err, codes.InvalidArgument, tc.text)
		})
	}
}

// TestPagesAreStable: jobs come and go between two pages; those that were
// there all the time are listed once each.
func TestPagesAreStable(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{KeepJobs: 25, KeepAge: -1})
	c.worker(workertest.Options{NodeID: "n"})
	for range 20 {
		c.submit(single("old"))
	}
	for _, ascending := range []bool{false, true} {
		before := c.all(&volleyv1.ListJobsRequest{PageSize: 1000}, nil)
		got := c.all(&volleyv1.ListJobsRequest{PageSize: 4, Ascending: ascending}, func() { c.submit(single("new")) })
		after := c.all(&volleyv1.ListJobsRequest{PageSize: 1000}, nil)
		seen := map[string]int{}
		for _, id := range got {
			seen[id]++
		}
		for _, id := range before {
			if n := seen[id]; n > 1 || n == 0 && slices.Contains(after, id) {
				t.Errorf("ascending %t: job %s was listed %d times", ascending, id, n)
			}
		}
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	xs := make([]int64, 250)
	for n := range xs {
		xs[n] = int64(n) * 10
	}
	c.submit(sweep("s", xs...))
	c.worker(workertest.Options{NodeID: "n", Run: func(t workertest.Task) workertest.Result {
		if t.Index%50 == 3 {
			return workertest.Failed(9)
		}
		return workertest.Result{Hold: t.Index >= 200}
	}})
	c.until("all but those held have ended", func(s *state.State) bool {
		n := s.Job(1).Counts()
		return n.GetSucceeded()+n.GetFailed() == 201 && n.GetRunning() >= 4
	})
	list := func(req *volleyv1.ListChildrenRequest) (got []uint64) {
		for {
			r, err := c.ListChildren(c.ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, ch := range r.GetChildren() {
				got = append(got, ch.GetIndex())
				if want := fmt.Sprintf(`{"x":%d}`, ch.GetIndex()*10); ch.GetParams() != want {
					t.Errorf("child %d has %s, want %s", ch.GetIndex(), ch.GetParams(), want)
				}
			}
			if req.PageToken = r.GetNextPageToken(); req.PageToken == "" {
				return got
			}
			if len(r.GetChildren()) > int(req.GetPageSize()) {
				t.Errorf("%d children in a page of %d", len(r.GetChildren()), req.GetPageSize())
			}
			// From now on the name means another job; the listing goes on with
			// the one that it began with.
			c.submit(sweep("s", 1))
		}
	}
	if got := list(&volleyv1.ListChildrenRequest{JobId: "1", PageSize: 99}); len(got) != 250 || !slices.IsSorted(got) {
		t.Errorf("children are %v", got)
	}
	c.submit(sweep("s", 1))
	if got := list(&volleyv1.ListChildrenRequest{JobId: "1", PageSize: 1, States: []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED}}); !slices.Equal(got, []uint64{3, 53, 103, 153, 203}) {
		t.Errorf("failed children are %v", got)
	}
	if got := list(&volleyv1.ListChildrenRequest{JobId: "1", States: []volleyv1.JobState{volleyv1.JobState_JOB_STATE_RUNNING}}); len(got) < 4 || got[0] != 200 {
		t.Errorf("running children are %v", got)
	}
	for _, tc := range []struct {
		req  *volleyv1.ListChildrenRequest
		code codes.Code
		text string
	}{
		{&volleyv1.ListChildrenRequest{JobId: "77"}, codes.NotFound, `no job "77"`},
		{&volleyv1.ListChildrenRequest{JobId: "1:3"}, codes.InvalidArgument, `"1:3" names one task`},
		{&volleyv1.ListChildrenRequest{JobId: "1:250"}, codes.NotFound, "no index 250"},
		{&volleyv1.ListChildrenRequest{JobId: "1", PageSize: 5000}, codes.InvalidArgument, "page_size 5000"},
		{&volleyv1.ListChildrenRequest{JobId: "1", PageToken: "x"}, codes.InvalidArgument, "page_token"},
		{&volleyv1.ListChildrenRequest{JobId: "1", PageToken: cursor{"children", 2, 0}.token()}, codes.InvalidArgument, "of job 2"},
	} {
		_, err := c.ListChildren(c.ctx, tc.req)
		wantStatus(t, err, tc.code, tc.text)
	}
}

// TestNameOfAnotherJob: a listing by name goes on with the job it began with.
func TestNameOfAnotherJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(sweep("s", 1, 2, 3, 4))
	req := &volleyv1.ListChildrenRequest{JobId: "s", PageSize: 2}
	r, err := c.ListChildren(c.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	c.submit(sweep("s", 100, 101, 102, 103))
	req.PageToken = r.GetNextPageToken()
	if r, err = c.ListChildren(c.ctx, req); err != nil || len(r.GetChildren()) != 2 || r.GetChildren()[0].GetParams() != `{"x":3}` {
		t.Errorf("second page is %v, %v", r, err)
	}
}

func TestCancelTerminateRerun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	fails := true
	w := c.worker(workertest.Options{NodeID: "n", Run: func(task workertest.Task) workertest.Result {
		if task.Attempt > 1 {
			return workertest.Result{}
		}
		if fails {
			return workertest.Result{Hold: true}
		}
		return workertest.Result{}
	}})
	c.submit(array("a", 10))
	c.running("1", 4)
	_, err := c.RerunJob(c.ctx, &volleyv1.RerunJobRequest{JobId: "a"})
	wantStatus(t, err, codes.FailedPrecondition, "job 1", "not ended")
	// One child that waits, one that runs, then everything.
	if _, err := c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: "a:9", Reason: "no need"}); err != nil {
		t.Fatal(err)
	}
	if ch := c.describe("1:9").GetChild(); ch.GetState() != volleyv1.JobState_JOB_STATE_FAILED || ch.GetStatusReason() != "no need" {
		t.Errorf("child 9 is %v", ch)
	}
	if _, err := c.TerminateJob(c.ctx, &volleyv1.TerminateJobRequest{JobId: "1:0", Reason: "stop it"}); err != nil {
		t.Fatal(err)
	}
	c.until("child 0 has ended", func(s *state.State) bool { return s.Job(1).Counts().GetFailed() == 2 })
	if ch := c.describe("1:0").GetChild(); ch.GetStatusReason() != "stop it" || len(ch.GetAttempts()) != 1 {
		t.Errorf("child 0 is %v", ch)
	}
	if _, err := c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: "a"}); err != nil {
		t.Fatal(err)
	}
	w.Finish(1, 1, workertest.Result{})
	if _, err := c.TerminateJob(c.ctx, &volleyv1.TerminateJobRequest{JobId: "a"}); err != nil {
		t.Fatal(err)
	}
	j := c.ended("a")
	if j.GetState() != volleyv1.JobState_JOB_STATE_FAILED || !j.GetCancelled() || j.GetCounts().GetSucceeded() > 1 {
		t.Errorf("job is %v", j)
	}
	failed := j.GetCounts().GetFailed()
	// What has ended is cancelled again without an error, as in AWS Batch.
	if _, err := c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: "a"}); err != nil {
		t.Error(err)
	}
	fails = false
	r, err := c.RerunJob(c.ctx, &volleyv1.RerunJobRequest{JobId: "a", FailedOnly: true})
	if err != nil || r.GetChildren() != failed {
		t.Fatalf("rerun of %d failed: %v, %v", failed, r, err)
	}
	if j = c.ended("a"); j.GetState() != succeeded {
		t.Errorf("job after the rerun is %v", j)
	}
	if n := len(c.describe("1:0").GetChild().GetAttempts()); n != 2 {
		t.Errorf("child 0 has %d attempts, want 2", n)
	}
	if r, err = c.RerunJob(c.ctx, &volleyv1.RerunJobRequest{JobId: "1", FailedOnly: true}); err != nil || r.GetChildren() != 0 {
		t.Errorf("rerun of none: %v, %v", r, err)
	}
	if r, err = c.RerunJob(c.ctx, &volleyv1.RerunJobRequest{JobId: "1"}); err != nil || r.GetChildren() != 10 {
		t.Errorf("rerun of all: %v, %v", r, err)
	}
	c.ended("a")
	_, err = c.RerunJob(c.ctx, &volleyv1.RerunJobRequest{JobId: "1:3"})
	wantStatus(t, err, codes.InvalidArgument, `"1:3" names one task`)
	for _, id := range []string{"", "b", "2", "1:10", "a:10"} {
		_, err = c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: id})
		wantStatus(t, err, codes.NotFound)
		_, err = c.TerminateJob(c.ctx, &volleyv1.TerminateJobRequest{JobId: id})
		wantStatus(t, err, codes.NotFound)
	}
	_, err = c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: "1", Reason: strings.Repeat("é", 1025)})
	wantStatus(t, err, codes.InvalidArgument, "1025 characters")
}

func TestExplain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	want := func(id string, tier volleyv1.WaitTier, texts ...string) {
		t.Helper()
		r, err := c.ExplainJob(c.ctx, &volleyv1.ExplainJobRequest{JobId: id})
		if err != nil {
			t.Fatal(err)
		}
		if r.GetTier() != tier || r.GetReason() == "" {
			t.Errorf("%s: %v, want %s", id, r, tier)
		}
		for _, text := range texts {
			if !strings.Contains(r.GetReason()+" / "+r.GetRemedy(), text) {
				t.Errorf("%s: %q lacks %q", id, r.GetReason()+" / "+r.GetRemedy(), text)
			}
		}
	}
	c.submit(array("first", 6)) // 1
	want("first", volleyv1.WaitTier_WAIT_TIER_NO_WORKERS, "no worker", "volley worker")
	w := c.worker(workertest.Options{NodeID: "n", Lazy: true, Run: hold})
	c.until("granted", func(s *state.State) bool { return s.Job(1).Counts().GetStarting() == 4 })
	want("first:0", volleyv1.WaitTier_WAIT_TIER_DISPATCHING)
	w.Start()
	c.running("1", 4)
	want("first:0", volleyv1.WaitTier_WAIT_TIER_NONE, "is running")
	want("first:5", volleyv1.WaitTier_WAIT_TIER_CAPACITY, "1 CPU", "n, has")
	c.submit(array("second", 2)) // 2
	want("second", volleyv1.WaitTier_WAIT_TIER_PRIORITY, "behind 1 older", "with 2 tasks")
	big := single("big")
	big.Resources = &volleyv1.Resources{CpuMilli: 64_000}
	c.submit(big) // 3
	want("big", volleyv1.WaitTier_WAIT_TIER_MISCONFIGURED, "64 CPUs", "4 CPUs")
	after := single("after")
	after.DependsOn = []*volleyv1.Dependency{{JobId: "first"}}
	c.submit(after) // 4
	want("after", volleyv1.WaitTier_WAIT_TIER_DEPENDENCY, "job 1 (first)", "0 of 6")
	if _, err := c.TerminateJob(c.ctx, &volleyv1.TerminateJobRequest{JobId: "first", Reason: "enough"}); err != nil {
		t.Fatal(err)
	}
	c.ended("first")
	want("first", volleyv1.WaitTier_WAIT_TIER_NONE, "6 of 6 tasks failed", "volley rerun 1 --failed")
	want("first:0", volleyv1.WaitTier_WAIT_TIER_NONE, "enough")
	narrow := array("narrow", 5)
	narrow.Concurrency, narrow.Priority = 1, 9
	c.submit(narrow) // 5
	c.until("one is granted", func(s *state.State) bool { return s.Job(5).Slots() == 1 })
	want("narrow:4", volleyv1.WaitTier_WAIT_TIER_LIMIT, "concurrency: 1")
	_, err := c.ExplainJob(c.ctx, &volleyv1.ExplainJobRequest{JobId: "nobody"})
	wantStatus(t, err, codes.NotFound, `no job "nobody"`)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	w := c.worker(workertest.Options{NodeID: "n", Name: "big", Run: hold})
	c.submit(array("a", 2))
	c.running("1", 2)
	info, err := c.cluster.GetServerInfo(c.ctx, &volleyv1.GetServerInfoRequest{})
	if err != nil || info.GetVersion() != "v1" || info.GetClusterId() != "test" || info.GetJobs() != 1 || info.GetNodes() != 1 || info.GetStartedAt() == 0 {
		t.Errorf("info is %v, %v", info, err)
	}
	nodes, err := c.cluster.ListNodes(c.ctx, &volleyv1.ListNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 1 {
		t.Fatalf("nodes are %v, %v", nodes, err)
	}
	n := nodes.GetNodes()[0]
	if n.GetName() != "big" || n.GetState() != volleyv1.NodeState_NODE_STATE_READY || n.GetUsed().GetCpuMilli() != 2000 || n.GetRunning() != 2 || n.GetLastSeenAt() == 0 {
		t.Errorf("node is %v", n)
	}
	w.Cut()
	for n.GetState() != volleyv1.NodeState_NODE_STATE_DISCONNECTED {
		if nodes, err = c.cluster.ListNodes(c.ctx, &volleyv1.ListNodesRequest{}); err != nil {
			t.Fatal(err)
		}
		n = nodes.GetNodes()[0]
	}
}
