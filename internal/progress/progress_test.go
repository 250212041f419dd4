// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

var epoch = time.UnixMilli(1_000_000)

func at(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

func state(size, ok, skipped, failed, running uint64) State {
	v := 0.125
	return State{
		Job: &volleyv1.Job{
			Id: "3", Name: "digits-sweep", Size: size, Array: true, State: volleyv1.JobState_JOB_STATE_RUNNING, StartedAt: epoch.UnixMilli(),
			Counts: &volleyv1.Counts{Succeeded: ok, Skipped: skipped, Failed: failed, Running: running, Runnable: size - ok - failed - running},
			Metric: &volleyv1.Metric{Name: "val_loss", Goal: volleyv1.Goal_GOAL_MIN},
		},
		Best: &volleyv1.Child{Index: 17, Params: `{"lr":0.01,"depth":4}`, Metric: &v},
	}
}

func TestPlainCadence(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := &Plain{W: &b}
	steps := []struct {
		at   float64
		s    State
		line bool
	}{
		{0, state(100, 20, 20, 0, 2), false},   // done before: no progress
		{0.5, state(100, 31, 20, 0, 2), false}, // a tenth, too soon
		{2, state(100, 31, 20, 0, 2), true},
		{3, state(100, 34, 20, 0, 2), false},
		{12, state(100, 35, 20, 1, 2), true},  // ten seconds
		{30, state(100, 35, 20, 1, 2), false}, // nothing new
		{73, state(100, 35, 20, 1, 2), true},  // a sign of life
		{80, state(100, 99, 20, 1, 0), false}, // the summary says it
	}
	for _, s := range steps {
		b.Reset()
		p.Update(s.s, at(s.at))
		if (b.Len() > 0) != s.line {
			t.Errorf("at %v: printed %q", s.at, b.String())
		}
	}
	b.Reset()
	p = &Plain{W: &b}
	p.Update(state(100, 20, 20, 0, 4), at(0))
	p.Update(state(100, 40, 20, 1, 4), at(10))
	if diff := cmp.Diff("job 3: 41 of 100 done (20 before)  4 running  1 failed  2.1/s  about 28s left  best val_loss 0.125 (17)\n", b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLiveFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := &Live{W: &b, Width: func() int { return 60 }, ASCII: true}
	l.Update(state(40, 10, 0, 0, 4), at(0))
	first := `digits-sweep  job 3  0s
  ############-----.................................  25%
  10 of 40 done  4 running
  best val_loss 0.125  index 17  lr=0.01 depth=4
`
	if diff := cmp.Diff(first, b.String()); diff != "" {
		t.Fatal(diff)
	}
	b.Reset()
	l.Update(state(40, 10, 0, 0, 4), at(0.5)) // the same picture is not drawn again
	if b.Len() > 0 {
		t.Errorf("drew %q again", b.String())
	}
	l.Update(state(40, 19, 0, 1, 4), at(10))
	out := b.String()
	if !strings.HasPrefix(out, "\x1b[4A\r\x1b[J") || !strings.Contains(out, "20 of 40 done  4 running  1 failed  1.0/s  about 20s left\n") {
		t.Errorf("second frame: %q", out)
	}
	b.Reset()
	l.Note("failed 3:1\n")
	if !strings.HasPrefix(b.String(), "\x1b[4A\r\x1b[Jfailed 3:1\ndigits-sweep") {
		t.Errorf("note: %q", b.String())
	}
	b.Reset()
	l.Close()
	l.Close()
	if b.String() != "\x1b[4A\r\x1b[J" {
		t.Errorf("close: %q", b.String())
	}
}

// No line may be wider than the terminal, whatever the job says.
func TestLiveFitsTheTerminal(t *testing.T) {
	t.Parallel()
	for _, width := range []int{0, 20, 21, 40, 80, 200} {
		for _, s := range []State{state(1, 0, 0, 0, 0), state(3, 1, 1, 1, 1), state(1e18, 5e17, 1e17, 1, 1e6), state(1e6, 1e6-1, 0, 1, 0), state(2, 0, 0, 2, 0)} {
			var b bytes.Buffer
			l := &Live{W: &b, Width: func() int { return width }}
			s.Job.Name = strings.Repeat("学", 60)
			s.Best.Params = `{"a":"` + strings.Repeat("x", 300) + `\u001b[2J"}`
			l.Update(s, at(0))
			l.Update(s, at(100))
			for line := range strings.Lines(b.String()) {
				line = strings.TrimSuffix(strings.TrimPrefix(line, l.erase()), "\n")
				if w := render.Width(line); w > max(width-1, 20) {
					t.Errorf("width %d: %d cells in %q", width, w, line)
				}
				if strings.Contains(line, "\x1b") {
					t.Errorf("escape sequence in %q", line)
				}
			}
		}
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	var m Meter
	if m.Rate() != 0 || m.Left(5) != 0 {
		t.Error("a rate of nothing")
	}
	for i := range 1000 { // 10 a second, observed every 10 ms
		m.Observe(at(float64(i)/100), &volleyv1.Counts{Succeeded: uint64(i/10) + 500, Skipped: 500})
	}
	if r := m.Rate(); r < 9.5 || r > 10.5 {
		t.Errorf("rate %v, want 10", r)
	}
	if len(m.samples) > 120 {
		t.Errorf("%d samples", len(m.samples))
	}
	if d := m.Left(100); d < 9*time.Second || d > 11*time.Second {
		t.Errorf("left %v, want 10s", d)
	}
	// Slower than the window: still a rate.
	m.Observe(at(200), &volleyv1.Counts{Succeeded: 600, Skipped: 500})
	m.Observe(at(300), &volleyv1.Counts{Succeeded: 601, Skipped: 500})
	if r := m.Rate(); r < 0.009 || r > 0.011 {
		t.Errorf("rate %v, want 0.01", r)
	}
	// A rerun takes tasks back: the measurement begins again.
	m.Observe(at(301), &volleyv1.Counts{Succeeded: 550, Skipped: 500})
	if m.Rate() != 0 {
		t.Errorf("rate %v after a rerun", m.Rate())
	}
	m.Observe(at(302), &volleyv1.Counts{Succeeded: 552, Skipped: 500})
	if d := m.Left(1 << 62); d != 0 {
		t.Errorf("estimate of %v", d)
	}
}

// TestFailuresOfAStop: what a stop did to the others is behind what it was for.
func TestFailuresOfAStop(t *testing.T) {
	t.Parallel()
	zero, term, bad := int32(0), int32(143), int32(3)
	const why = "Stopped at the first failed task"
	job := &volleyv1.Job{Id: "4", Array: true, Cancelled: true, StatusReason: why}
	var b bytes.Buffer
	err := Failures(&b, Report{Job: job, Failures: []*volleyv1.FailureGroup{
		{Count: 21, StatusReason: why, Examples: []uint64{9}},
		{Count: 6, StatusReason: why, Reason: revoked, ExitCode: &term, Examples: []uint64{0}},
		{Count: 1, StatusReason: usual, ExitCode: &bad, Examples: []uint64{1}},
		{Count: 1, StatusReason: why, Reason: revoked, ExitCode: &zero, Examples: []uint64{2}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `
FAILED  REASON                                          EXAMPLE
     1  exit code 3                                     volley logs 4:1
    21  Stopped at the first failed task                volley show 4:9
     7  Stopped at the first failed task, while it ran  volley logs 4:0
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	s := state(24, 22, 20, 2, 0)
	s.Job.State = volleyv1.JobState_JOB_STATE_FAILED
	s.Job.StoppedAt = s.Job.StartedAt + 12_400
	s.Job.TaskMs, s.Job.FinishedAttempts, s.Job.LostAttempts = 80_000, 6, 1
	code := int32(137)
	a, c := 0.125, 0.25
	var b bytes.Buffer
	err := Summary(&b, Report{
		Job: s.Job, Noun: "point",
		Failures: []*volleyv1.FailureGroup{
			{Count: 1, StatusReason: usual, Reason: "OutOfMemoryError: Container killed due to memory usage", ExitCode: &code, Examples: []uint64{17}},
			{Count: 1, StatusReason: "Job attempt duration exceeded timeout", Examples: []uint64{3, 4}},
		},
		Top: []*volleyv1.Child{{Index: 4, Metric: &a, Params: `{"lr":0.01,"depth":4}`}, {Index: 11, Metric: &c, Params: `{"lr":0.1,"opt":"a b"}`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `digits-sweep  job 3  FAILED in 12s
  24 points: 22 succeeded (20 done before), 2 failed
  task time 1m20s, 2 attempts repeated, 1 lost with a node

FAILED  REASON                                                                                EXAMPLE
     1  OutOfMemoryError: Container killed due to memory usage, exit code 137 (SIGKILL)       volley logs 3:17
     1  Job attempt duration exceeded timeout                                                 volley show 3:3

ranked by val_loss, lowest first
RANK  INDEX  val_loss    lr  depth    opt
   1      4     0.125  0.01      4      -
   2     11      0.25   0.1      -  "a b"
`
	// The width of the middle column is that of its longest cell.
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(b.String())); diff != "" {
		t.Errorf("%s\n%s", diff, b.String())
	}
	if !strings.Contains(b.String(), "RANK  INDEX  val_loss    lr  depth    opt\n   1      4     0.125  0.01      4      -\n   2     11      0.25   0.1      -  \"a b\"\n") {
		t.Errorf("alignment:\n%s", b.String())
	}
}

func TestNoticeAndKind(t *testing.T) {
	t.Parallel()
	code := int32(1)
	for _, tt := range []struct {
		g    *volleyv1.FailureGroup
		want string
	}{
		{&volleyv1.FailureGroup{ExitCode: &code, StatusReason: usual}, "exit code 1"},
		{&volleyv1.FailureGroup{StatusReason: "Cancelled by user"}, "Cancelled by user"},
		{&volleyv1.FailureGroup{StatusReason: usual}, usual},
		{&volleyv1.FailureGroup{Reason: `command "trian" not found in PATH`, StatusReason: "Task failed to start"}, `command "trian" not found in PATH, Task failed to start`},
		{&volleyv1.FailureGroup{Reason: revoked, ExitCode: &code, StatusReason: "Terminated by user"}, "Terminated by user, while it ran"},
		{&volleyv1.FailureGroup{Reason: revoked, ExitCode: &code, StatusReason: usual}, "revoked by the coordinator, exit code 1"},
		{&volleyv1.FailureGroup{}, "no reason was recorded"},
	} {
		if got := Kind(tt.g); got != tt.want {
			t.Errorf("Kind = %q, want %q", got, tt.want)
		}
	}
	got := Notice(render.Style{}, client.Ref{ID: "3", Index: 17, Child: true}, "exit code 1", []byte("1\n2\n3\n4\n5\n6\n\x1b[2J7\n\n8\n"))
	if diff := cmp.Diff("failed 3:17: exit code 1\n  | 4\n  | 5\n  | 6\n  | \ufffd[2J7\n  | 8\n", got); diff != "" {
		t.Error(diff)
	}
	if got := Notice(render.Style{}, client.Ref{ID: "3"}, "x", nil); got != "failed 3: x\n" {
		t.Errorf("no output: %q", got)
	}
}

func TestNoun(t *testing.T) {
	t.Parallel()
	m := func(s *volleyv1.Shard) *volleyv1.JobSpec {
		return &volleyv1.JobSpec{Space: &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: &volleyv1.Map{Shard: s}}}}
	}
	for want, spec := range map[string]*volleyv1.JobSpec{
		"task":   {Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: 3}}},
		"point":  {Space: &volleyv1.Space{Kind: &volleyv1.Space_Sweep{}}},
		"shard":  m(&volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: 3}}),
		"record": m(&volleyv1.Shard{By: &volleyv1.Shard_TargetMs{TargetMs: 3}}),
	} {
		if got := Noun(spec); got != want {
			t.Errorf("Noun = %q, want %q", got, want)
		}
	}
	if Noun(nil) != "task" || Noun(m(nil)) != "record" {
		t.Error("Noun of nothing")
	}
}
