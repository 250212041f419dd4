// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/jobfile"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	kind := func(k client.ErrorKind) error {
		return fmt.Errorf("outer: %w", &client.Error{Kind: k, Msg: "m"})
	}
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), nil, exitOK},
		{t.Context(), errTaskFailed, exitFailed},
		{t.Context(), errors.Join(errTaskFailed, errors.New("x")), exitFailed},
		{t.Context(), usagef("x"), exitUsage},
		{t.Context(), &jobfile.Error{}, exitUsage},
		{t.Context(), fs.ErrPermission, exitUsage},
		{t.Context(), kind(client.Unreachable), exitUnreachable},
		{t.Context(), kind(client.NotFound), exitNotFound},
		{t.Context(), kind(client.Refused), exitRefused},
		{t.Context(), kind(client.Unauthenticated), exitRefused},
		{t.Context(), kind(client.Invalid), exitUsage},
		{interrupted, errInterrupted, exitInterrupted},
		{interrupted, &client.Error{Kind: client.Canceled, Err: context.Canceled}, exitInterrupted},
		{interrupted, kind(client.NotFound), exitNotFound},
	} {
		if got := exitStatus(tt.ctx, tt.err); got != tt.want {
			t.Errorf("exitStatus(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

// Every command has the statuses in its help, an example or no arguments, and
// one line of description without a full stop.
func TestHelpIsComplete(t *testing.T) {
	t.Parallel()
	root := (&app{out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}).root()
	n := 0
	for _, c := range root.Commands() {
		if c.Name() == "jobfile" {
			continue
		}
		n++
		if !strings.Contains(c.Long, "EXIT STATUS\n  0 ") {
			t.Errorf("%s: no EXIT STATUS", c.Name())
		}
		if got := strings.Contains(c.Long, "\n  1    some task failed\n"); got != slices.Contains([]string{"run", "wait", "bench"}, c.Name()) {
			t.Errorf("%s: some task failed is listed: %v", c.Name(), got)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q", c.Name(), c.Short)
		}
		if strings.Contains(c.Use, "JOB") && c.Example == "" {
			t.Errorf("%s: no example", c.Name())
		}
	}
	if n != 16 {
		t.Errorf("%d commands", n)
	}
}

func TestPlanText(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]*volleyv1.PlanJobResponse{
		"24 points": {Total: 24, NewPoints: 24},
		"24 points: 20 done before, 3 new, 1 failed or cut off before; train.py changed since job 4":    {Total: 24, Reused: 20, NewPoints: 3, Failed: 1, PreviousJobId: "4", Reasons: []string{"train.py changed since job 4"}},
		"1,000,000 points: 1,000,000 changed; the command changed since job 4; a b changed since job 4": {Total: 1e6, Changed: 1e6, PreviousJobId: "4", Reasons: []string{"the command changed since job 4", "a\nb changed since job 4"}},
		"9 points: 2 done before, 4 being done by job 6 (they run here too), 3 new":                     {Total: 9, Reused: 2, NewPoints: 3, InProgress: 4, PreviousJobId: "6", LiveJobId: "6"},
		"6 points: 2 done before, 4 being done by job 6":                                                {Total: 6, Reused: 2, InProgress: 4, PreviousJobId: "6", LiveJobId: "6", SameWork: true},
		"1 point: 1 done before": {Total: 1, Reused: 1, PreviousJobId: "1"},
	} {
		if got := planText(p, "point"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	j := &volleyv1.Job{
		Id: "3", Name: "a", State: volleyv1.JobState_JOB_STATE_FAILED, Size: 40, StartedAt: 1000, StoppedAt: 3500, TaskMs: 9000,
		Counts: &volleyv1.Counts{Succeeded: 38, Failed: 2, Skipped: 20}, Best: &volleyv1.Best{Index: 4, Value: 0.5},
	}
	b, err := outcome(j).Compact()
	want := `{"jobId":"3","name":"a","state":"FAILED","statusReason":"","total":40,"succeeded":38,"failed":2,"skipped":20,"durationMs":2500,"taskMs":9000,"best":{"index":4,"value":0.5}}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v\nwant %s", b, err, want)
	}
}

func TestListings(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(10_000_000)
	code := int32(137)
	metric := 0.25
	var b bytes.Buffer
	err := errors.Join(
		jobListing(now).Write(&b, render.FormatTable, render.Style{}, 0, render.Slice([]*volleyv1.Job{
			{Id: "12", Name: "digits", State: volleyv1.JobState_JOB_STATE_RUNNING, Size: 40, CreatedAt: 9_900_000, StartedAt: 9_910_000, Counts: &volleyv1.Counts{Succeeded: 12, Failed: 1, Running: 4}},
			{Id: "9", Name: "prepare", State: volleyv1.JobState_JOB_STATE_PENDING, Size: 1, CreatedAt: 1, Counts: &volleyv1.Counts{}},
		})),
		childListing("12").Write(&b, render.FormatTable, render.Style{}, 0, render.Slice([]*volleyv1.Child{
			{Index: 0, State: volleyv1.JobState_JOB_STATE_SUCCEEDED, Params: `{"lr":0.1}`, Metric: &metric, ReusedFrom: "9:0"},
			{Index: 11, State: volleyv1.JobState_JOB_STATE_FAILED, Params: `{"lr":0.2}`, Attempts: []*volleyv1.Attempt{{Attempt: 2, ExitCode: &code, DurationUs: 1_500_000}}},
		})),
		nodeListing(now).Write(&b, render.FormatTable, render.Style{}, 0, render.Slice([]*volleyv1.Node{
			{Name: "gpu-1", State: volleyv1.NodeState_NODE_STATE_READY, Capacity: &volleyv1.Resources{CpuMilli: 16000, MemoryBytes: 64 << 30, Gpu: 2}, Used: &volleyv1.Resources{CpuMilli: 1500, MemoryBytes: 1 << 30}, Running: 3, Leased: 7, LastSeenAt: 9_999_000},
			{Name: "old", State: volleyv1.NodeState_NODE_STATE_LOST},
		})),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := `JOB  NAME     STATE    SIZE  SUCCEEDED  FAILED  RUNNING   TIME  CREATED
 12  digits   RUNNING    40         12       1        4  1m30s  1m40s ago
  9  prepare  PENDING     1          0       0        0      -  2h46m ago
INDEX  STATE      EXIT  ATTEMPT  TIME  METRIC  PARAMETERS
    0  SUCCEEDED     -        -     -    0.25  lr=0.1
   11  FAILED      137        2  1.5s       -  lr=0.2
NODE   STATE        CPU           MEMORY     GPU  RUNNING  LEASED  SEEN
gpu-1  READY  1.5 of 16  1 GiB of 64 GiB  0 of 2        3       7  1s ago
old    LOST      0 of 0       0 B of 0 B  0 of 0        0       0  -
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(10_000_000)
	o := lsOptions{states: []string{"running", "FAILED"}, labels: []string{"a=b=c"}, sort: "stopped", since: time.Second, limit: 5}
	r, err := o.request(now)
	if err != nil || len(r.States) != 2 || r.Labels[0].Value != "b=c" || r.Sort != volleyv1.JobSort_JOB_SORT_STOPPED || r.Since != 9_999_000 || r.PageSize != 5 {
		t.Errorf("%v, %v", r, err)
	}
	for _, bad := range []lsOptions{
		{sort: ""},
		{sort: "unspecified"},
		{sort: "created", limit: -1},
		{sort: "created", states: []string{"unspecified"}},
		{sort: "created", labels: []string{"=x"}},
	} {
		if _, err := bad.request(now); exitStatus(t.Context(), err) != exitUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"1": 1, "512B": 512, "16GiB": 16 << 30, "1.5 GB": 15e8, "100kB": 1e5, "2TiB": 2 << 40} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "GiB", "-1GiB", "0", "1GIB", "1 GB GB", "NaN", "infGB", "1e30TB", "0.1"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q = %d, want an error", in, got)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"127.0.0.1:0": "127.0.0.1:0", "localhost:7480": "127.0.0.1:7480", "[::1]:1": "[::1]:1", "127.5.5.5:1": "127.5.5.5:1"} {
		if got, err := loopback(in); err != nil || got != want {
			t.Errorf("%q = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "7480", ":7480", "0.0.0.0:7480", "10.1.1.1:1", "example.com:1", "[::]:1"} {
		if got, err := loopback(in); err == nil {
			t.Errorf("%q = %q, want an error", in, got)
		}
	}
}

func TestSuggestFlag(t *testing.T) {
	t.Parallel()
	c := &cobra.Command{}
	c.Flags().Bool("failed", false, "")
	c.Flags().Bool("follow", false, "")
	for in, want := range map[string]string{
		"unknown flag: --fail":   "unknown flag: --fail; did you mean --failed?",
		"unknown flag: --folow":  "unknown flag: --folow; did you mean --follow?",
		"unknown flag: --colour": "unknown flag: --colour",
		"something else":         "something else",
	} {
		if got := suggestFlag(c, errors.New(in)).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPrefixer(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := &prefixer{w: &b, prefix: "3| "}
	for _, s := range []string{"a", "b\nc\n", "", "\n", "d"} {
		if n, err := p.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	p.end()
	p.end()
	if got := b.String(); got != "3| ab\n3| c\n3| \n3| d\n" {
		t.Errorf("%q", got)
	}
}

// A second worker beside the first one has another directory, and one that
// starts again finds its own.
func TestFreeWorkerDir(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	env := func(name string) string { return map[string]string{"XDG_STATE_HOME": state}[name] }
	get := func() (string, func()) {
		dir, _, release, err := freeWorkerDir(env, "127.0.0.1:7480")
		if err != nil {
			t.Fatal(err)
		}
		return dir, release
	}
	a, releaseA := get()
	b, releaseB := get()
	if a == b || filepath.Dir(a) != filepath.Dir(b) {
		t.Errorf("%s, %s", a, b)
	}
	releaseA()
	again, releaseA := get()
	if again != a {
		t.Errorf("%s, want %s", again, a)
	}
	releaseA()
	releaseB()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]*volleyv1.JobSpec{
		"python3 train.py --lr {lr}":  {Command: []string{"python3", "train.py", "--lr", "{lr}"}},
		"sh -c 'echo '\\''a'\\''' ''": {Command: []string{"sh", "-c", "echo 'a'", ""}},
		"for i in 1; do date; done":   {Run: "for i in 1; do\ndate; done"},
	} {
		if got := commandLine(spec); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
