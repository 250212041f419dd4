// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// fake plays one job.
type fake struct {
	volleyv1.UnimplementedJobServiceServer
	steps []*volleyv1.Job
	// hang keeps the stream open after the steps.
	hang     bool
	failures []*volleyv1.FailureGroup
	explain  error
	tier     volleyv1.WaitTier
	reason   string
}

func (f *fake) WatchJob(r *volleyv1.WatchJobRequest, s grpc.ServerStreamingServer[volleyv1.WatchJobResponse]) error {
	for _, j := range f.steps {
		if err := s.Send(&volleyv1.WatchJobResponse{Job: j}); err != nil {
			return err
		}
	}
	if f.hang {
		<-s.Context().Done()
	}
	return nil
}

func (f *fake) DescribeJobs(_ context.Context, r *volleyv1.DescribeJobsRequest) (*volleyv1.DescribeJobsResponse, error) {
	return &volleyv1.DescribeJobsResponse{Jobs: []*volleyv1.JobDetail{{Child: &volleyv1.Child{Index: 17, Params: `{"lr":0.5}`}}}}, nil
}

func (f *fake) ExplainJob(context.Context, *volleyv1.ExplainJobRequest) (*volleyv1.ExplainJobResponse, error) {
	return &volleyv1.ExplainJobResponse{Failures: f.failures, Tier: f.tier, Reason: f.reason}, f.explain
}

func (f *fake) ReadLogs(r *volleyv1.ReadLogsRequest, s grpc.ServerStreamingServer[volleyv1.ReadLogsResponse]) error {
	if len(r.Streams) != 1 || r.Streams[0] != volleyv1.LogStream_LOG_STREAM_STDERR || r.TailBytes == 0 {
		return grpcstatus.Error(codes.InvalidArgument, "not the end of stderr")
	}
	return s.Send(&volleyv1.ReadLogsResponse{Data: []byte("boom in " + r.JobId + "\n")})
}

func serve(t *testing.T, f *fake) *client.Client {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	volleyv1.RegisterJobServiceServer(s, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); s.Stop(); <-done })
	return client.New(conn)
}

// record keeps what a view was told.
type record struct {
	bytes.Buffer
	states []State
	closed int
}

func (r *record) Update(s State, _ time.Time) { r.states = append(r.states, s) }
func (r *record) Note(text string)            { r.WriteString(text) }
func (r *record) Close()                      { r.closed++ }

func step(st volleyv1.JobState, ok, failed uint64) *volleyv1.Job {
	return &volleyv1.Job{
		Id: "3", Size: 20, Array: true, State: st, Counts: &volleyv1.Counts{Succeeded: ok, Failed: failed},
		Best: &volleyv1.Best{Index: 17, Value: 0.25}, Metric: &volleyv1.Metric{Name: "loss"},
	}
}

const (
	running = volleyv1.JobState_JOB_STATE_RUNNING
	failed  = volleyv1.JobState_JOB_STATE_FAILED
)

func TestFollow(t *testing.T) {
	t.Parallel()
	one, two := int32(1), int32(2)
	f := &fake{
		steps: []*volleyv1.Job{step(running, 1, 0), step(running, 2, 3), step(failed, 2, 18)},
		failures: []*volleyv1.FailureGroup{
			{Count: 2, ExitCode: &one, StatusReason: usual, Examples: []uint64{4, 5}},
			{Count: 1, ExitCode: &two, StatusReason: usual, Examples: []uint64{6}},
			{Count: 1, ExitCode: &one, StatusReason: usual, Examples: []uint64{9}}, // the first kind again
		},
	}
	v := &record{}
	p := &Follower{Client: serve(t, f), View: v}
	job, err := p.Follow(t.Context(), "3")
	if err != nil || job.State != failed || v.closed != 1 {
		t.Fatalf("%v, %v, closed %d times", job, err, v.closed)
	}
	if got, want := v.String(), "failed 3:4: exit code 1\n  | boom in 3:4\nfailed 3:6: exit code 2\n  | boom in 3:6\n"; got != want {
		t.Errorf("notes:\n%swant:\n%s", got, want)
	}
	if !slices.ContainsFunc(v.states, func(s State) bool {
		return s.Best.GetParams() == `{"lr":0.5}` && s.Best.GetMetric() == 0.25
	}) {
		t.Errorf("the best point was not shown: %v", v.states)
	}
}

// What a view shows beside the counts may be missing; the following goes on.
func TestFollowWithoutExtras(t *testing.T) {
	t.Parallel()
	f := &fake{steps: []*volleyv1.Job{step(running, 1, 2), step(failed, 2, 18)}, explain: grpcstatus.Error(codes.Internal, "broken")}
	v := &record{}
	job, err := (&Follower{Client: serve(t, f), View: v}).Follow(t.Context(), "3")
	if err != nil || job.State != failed || v.Len() > 0 {
		t.Errorf("%v, %v, %q", job, err, v.String())
	}
}

func TestFollowEndsEarly(t *testing.T) {
	t.Parallel()
	f := &fake{steps: []*volleyv1.Job{step(running, 1, 0), step(running, 2, 3)}, hang: true}
	c := serve(t, f)
	v := &record{}
	p := &Follower{Client: c, View: v, StopWhen: func(j *volleyv1.Job) bool { return j.Counts.Failed > 0 }}
	job, err := p.Follow(t.Context(), "3")
	if !errors.Is(err, ErrStopped) || job.GetCounts().GetFailed() != 3 {
		t.Errorf("stop: %v, %v", job, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	job, err = (&Follower{Client: c, View: v}).Follow(ctx, "3")
	if !errors.Is(err, context.DeadlineExceeded) || job.GetCounts().GetFailed() != 3 {
		t.Errorf("deadline: %v, %v", job, err)
	}
	if v.closed != 2 {
		t.Errorf("closed %d times", v.closed)
	}
}

func TestStoppingIsSaidOnce(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := &Plain{W: &b}
	for i := range 100 {
		s := state(40, 12, 0, uint64(i%28), 2)
		s.Stopping = true
		p.Update(s, at(float64(i)))
	}
	if b.String() != "job 3: stopping running tasks\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	l := &Live{W: &b, Width: func() int { return 80 }}
	s := state(40, 12, 0, 28, 0)
	s.Stopping = true
	l.Update(s, at(0))
	if !strings.Contains(b.String(), "  12 of 40 done  stopping running tasks\n") {
		t.Errorf("%q", b.String())
	}
}

// A job that no node can ever run is not waited for where no other can come.
func TestFollowNever(t *testing.T) {
	t.Parallel()
	waits := &volleyv1.Job{Id: "3", Size: 1, State: volleyv1.JobState_JOB_STATE_RUNNABLE, Counts: &volleyv1.Counts{Runnable: 1}}
	f := &fake{steps: []*volleyv1.Job{waits}, hang: true, tier: volleyv1.WaitTier_WAIT_TIER_MISCONFIGURED, reason: "too large"}
	c := serve(t, f)
	_, err := (&Follower{Client: c, View: &record{}, OnlyNode: true}).Follow(t.Context(), "3")
	if never, ok := errors.AsType[*NeverError](err); !ok || never.Reason != "too large" {
		t.Errorf("error %v", err)
	}
	// Elsewhere the view says it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	v := &record{}
	p := &Follower{Client: c, View: told{v, cancel}}
	if _, err := p.Follow(ctx, "3"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if last := v.states[len(v.states)-1]; last.Wait.GetReason() != "too large" {
		t.Errorf("%v", last)
	}
}

// told ends the following when a state says why nothing runs.
type told struct {
	*record
	end func()
}

func (v told) Update(s State, now time.Time) {
	v.record.Update(s, now)
	if s.Wait != nil {
		v.end()
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	job := func(running, done uint64) *volleyv1.Job {
		return &volleyv1.Job{Counts: &volleyv1.Counts{Running: running, Succeeded: done, Runnable: 9}}
	}
	var w waiting
	for _, s := range []struct {
		at  float64
		job *volleyv1.Job
		ask bool
	}{
		{0, job(0, 0), false},
		{1.9, job(0, 0), false},
		{2, job(0, 0), true},
		{2.5, job(0, 0), false}, // not at every frame
		{3, job(0, 0), true},
		{4, job(1, 0), false},   // something runs
		{60, job(1, 0), false},  // for as long as it likes
		{61, job(0, 1), false},  // between two tasks
		{62, job(0, 40), false}, // tasks too short to be seen running
		{63.9, job(0, 40), false},
		{64, job(0, 40), true},
	} {
		if got := w.observe(s.job, at(s.at), idle); got != s.ask {
			t.Errorf("at %v: asked %v", s.at, got)
		}
	}
}

func TestPlainSaysWhyNothingRuns(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := &Plain{W: &b}
	why := func(tier volleyv1.WaitTier, reason string) *volleyv1.ExplainJobResponse {
		return &volleyv1.ExplainJobResponse{Tier: tier, Reason: reason, Remedy: "do something"}
	}
	for _, step := range []struct {
		at   float64
		wait *volleyv1.ExplainJobResponse
		want string
	}{
		{0, nil, ""},
		{2, why(8, "no worker"), "no worker: do something\n"},
		{3, why(8, "no worker"), ""},
		{4, why(7, "room: 1 free"), "room: 1 free: do something\n"},
		{5, why(7, "room: 2 free"), ""}, // numbers change all the time
		{40, why(7, "room: 3 free"), "room: 3 free: do something\n"},
		{41, nil, ""},
		{43, why(7, "room: 3 free"), "room: 3 free: do something\n"}, // it ran in between
	} {
		b.Reset()
		s := state(40, 12, 0, 0, 0)
		s.Wait = step.wait
		p.Update(s, at(step.at))
		got := strings.Join(slices.DeleteFunc(strings.SplitAfter(b.String(), "\n"), func(l string) bool { return strings.HasPrefix(l, "job 3:") }), "")
		if got != step.want {
			t.Errorf("at %v: %q, want %q", step.at, got, step.want)
		}
	}
}

func TestLiveSaysWhyNothingRuns(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := &Live{W: &b, Width: func() int { return 40 }}
	s := state(40, 12, 0, 0, 0)
	s.Best = nil
	s.Wait = &volleyv1.ExplainJobResponse{Reason: "job 3 waits: no worker is connected, and none has been", Remedy: "start one with `volley worker`"}
	l.Update(s, at(0))
	want := "  job 3 waits: no worker is connected,\n  and none has been\n  start one with `volley worker`\n"
	if !strings.HasSuffix(b.String(), want) {
		t.Errorf("got %q, want at the end %q", b.String(), want)
	}
}
