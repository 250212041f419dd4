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
	return &volleyv1.ExplainJobResponse{Failures: f.failures}, f.explain
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
