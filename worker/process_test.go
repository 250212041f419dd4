// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// site is a worker with real processes, and its coordinator.
type site struct {
	t     *testing.T
	c     *coordinator
	r     *running
	s     *fakeSession
	dir   string
	led   *ledger
	lease uint64
}

func newSite(t *testing.T, n int64) *site {
	t.Helper()
	x := &site{t: t, c: newCoordinator(t), dir: t.TempDir(), led: newLedger(t)}
	x.r = x.c.start(Config{DataDir: x.dir, Capacity: cpus(n), Name: "node"})
	x.s = x.c.welcomed()
	return x
}

// grant describes job 1 and gives indexes of it; it does not wait.
func (x *site) grant(spec *volleyv1.JobSpec, attempt uint32, n uint64) uint64 {
	x.t.Helper()
	x.lease++
	x.s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, n, spec)},
		Grants: []*volleyv1.Grant{{LeaseId: x.lease, Job: 1, Attempt: attempt, Parallel: 8, Runs: []uint64{0, n}}},
	})
	return x.lease
}

// run runs n indexes of the spec as job 1 and answers their results.
func (x *site) run(spec *volleyv1.JobSpec, n uint64) map[uint64]rowResult {
	x.t.Helper()
	lease := x.grant(spec, 1, n)
	x.s.collect(x.led, true, "results", func() bool { return x.led.finished(lease) == int(n) })
	return x.led.results[lease]
}

// log asks for a stream of an attempt.
func (x *site) log(r *volleyv1.LogRequest) (string, string) {
	x.t.Helper()
	x.lease++
	r.RequestId, r.Job = x.lease, 1
	if r.Attempt == 0 {
		r.Attempt = 1
	}
	if r.Stream == 0 {
		r.Stream = volleyv1.LogStream_LOG_STREAM_STDOUT
	}
	paid := r.Credit != 0
	if !paid {
		r.Credit = 1 << 30
	}
	x.s.send(&volleyv1.ConnectResponse{LogRequests: []*volleyv1.LogRequest{r}})
	var out strings.Builder
	var problem string
	x.s.await("end of the log", func(m *volleyv1.ConnectRequest) bool {
		for _, c := range m.GetLogs() {
			if c.GetRequestId() != r.RequestId {
				continue
			}
			if len(c.GetData()) > maxChunk {
				x.t.Errorf("chunk of %d bytes", len(c.GetData()))
			}
			out.Write(c.GetData())
			if paid && len(c.GetData()) > 0 {
				// What was read is paid for again, as a reader does.
				if int64(len(c.GetData())) > r.Credit {
					x.t.Errorf("%d bytes came on a credit of %d", len(c.GetData()), r.Credit)
				}
				x.s.send(&volleyv1.ConnectResponse{LogRequests: []*volleyv1.LogRequest{{RequestId: r.RequestId, Credit: int64(len(c.GetData()))}}})
			}
			if c.GetEnd() {
				problem = c.GetError()
				return true
			}
		}
		return false
	})
	return out.String(), problem
}

func (x *site) workDirs() []string {
	x.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(x.dir, "work", "*", "*"))
	if err != nil {
		x.t.Fatal(err)
	}
	return dirs
}

func sweep(params ...*volleyv1.Param) *volleyv1.Space {
	return &volleyv1.Space{Kind: &volleyv1.Space_Sweep{Sweep: &volleyv1.Sweep{Sampler: volleyv1.Sampler_SAMPLER_GRID, Params: params}}}
}

func choice(name string, values ...string) *volleyv1.Param {
	c := &volleyv1.Choices{}
	for _, v := range values {
		c.Values = append(c.Values, &volleyv1.Value{Kind: &volleyv1.Value_StringValue{StringValue: v}})
	}
	return &volleyv1.Param{Name: name, Axis: &volleyv1.Param_Choices{Choices: c}}
}

func TestTaskSeesItsEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret of the node")
	t.Setenv("VOLLEY_TOKEN", "token of the worker")
	x := newSite(t, 1)
	rows := x.run(&volleyv1.JobSpec{
		Name: "envy", Queue: "q", Run: "env; echo arg={word} {index} {attempt} {job} {size}; pwd", SubmitDir: "/submitted/here",
		Space: sweep(choice("word", "it's", "b"), choice("k", "x")),
		Env:   []*volleyv1.EnvVar{{Name: "GREETING", Value: "hi {word}"}, {Name: "LANG", Value: "C.UTF-8"}},
	}, 2)
	if rows[0].outcome != 0 || rows[0].exit != 0 {
		t.Fatalf("result: %+v", rows[0])
	}
	out, problem := x.log(&volleyv1.LogRequest{Index: 1})
	if problem != "" {
		t.Fatal(problem)
	}
	dir := filepath.Join(x.dir, "work", "j1", "1.1")
	for _, want := range []string{
		"VOLLEY_JOB_ID=j1", "VOLLEY_JOB_NAME=envy", "VOLLEY_INDEX=1", "VOLLEY_SIZE=2", "VOLLEY_ATTEMPT=1", "VOLLEY_LEASE=1",
		`VOLLEY_PARAMS={"word":"b","k":"x"}`, "VOLLEY_PARAM_WORD=b", "VOLLEY_PARAM_K=x", "VOLLEY_SUBMIT_DIR=/submitted/here",
		"VOLLEY_WORKDIR=" + dir, "VOLLEY_NODE=node", "VOLLEY_WORKER=" + x.r.agent.home.identity(), "GREETING=hi b", "LANG=C.UTF-8",
		"AWS_BATCH_JOB_ID=j1:1", "AWS_BATCH_JOB_ARRAY_INDEX=1", "AWS_BATCH_JOB_ARRAY_SIZE=2", "AWS_BATCH_JOB_ATTEMPT=1",
		"AWS_BATCH_JQ_NAME=q", "AWS_BATCH_CE_NAME=volley", "AWS_EXECUTION_ENV=VOLLEY", "arg=b 1 1 j1 2", dir,
	} {
		if !strings.Contains("\n"+out, "\n"+want+"\n") {
			t.Errorf("output lacks the line %q", want)
		}
	}
	for _, bad := range []string{"secret of the node", "token of the worker"} {
		if strings.Contains(out, bad) {
			t.Errorf("the task sees %q", bad)
		}
	}
	if strings.Count("\n"+out, "\nLANG=") != 1 {
		t.Error("LANG is there more than once")
	}
	if out, _ := x.log(&volleyv1.LogRequest{Index: 0}); !strings.Contains(out, "\narg=it's 0 1") {
		t.Errorf("a quote in a value: %q", out)
	}
	if dirs := x.workDirs(); len(dirs) != 0 {
		t.Errorf("empty work directories stay: %v", dirs)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	type want struct {
		outcome volleyv1.Outcome
		exit    uint32
		reason  string
	}
	for _, tc := range []struct {
		name string
		spec *volleyv1.JobSpec
		want want
	}{
		{"exit code", &volleyv1.JobSpec{Run: "exit 7"}, want{volleyv1.Outcome_OUTCOME_FAILED, 7, ""}},
		{"signal", &volleyv1.JobSpec{Run: "kill -SEGV $$"}, want{volleyv1.Outcome_OUTCOME_FAILED, 139, ""}},
		{"timeout", &volleyv1.JobSpec{Command: []string{"sleep", "60"}, TimeoutMs: 50}, want{volleyv1.Outcome_OUTCOME_TIMED_OUT, 143, "Job attempt duration exceeded timeout"}},
		{"no such command", &volleyv1.JobSpec{Command: []string{"trian.py"}}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, `command "trian.py" not found in PATH`}},
		{"no such directory", &volleyv1.JobSpec{Command: []string{"true"}, Workdir: "/does/not/exist"}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, "/does/not/exist"}},
		{"unknown parameter", &volleyv1.JobSpec{Command: []string{"echo", "{nothing}"}}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, "nothing"}},
		{"neither command nor run", &volleyv1.JobSpec{Name: "x"}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, "neither a command nor a run line"}},
		{"input path leads out", &volleyv1.JobSpec{Run: "true", Inputs: []*volleyv1.Input{{Path: "../x", Digest: make([]byte, 32)}}}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, "leads out"}},
		{"input is not there", &volleyv1.JobSpec{Run: "true", Inputs: []*volleyv1.Input{{Path: "x", Digest: make([]byte, 32)}}}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, "no such blob"}},
		{"external input is not there", &volleyv1.JobSpec{Run: "true", Inputs: []*volleyv1.Input{{Path: "x", External: "/no/such/file"}}}, want{volleyv1.Outcome_OUTCOME_NOT_STARTED, 0, "/no/such/file"}},
		{"results not JSON", &volleyv1.JobSpec{Run: "echo '{\"a\": NaN}' > results.json"}, want{0, 0, "JSON has no NaN"}},
		{"results too large", &volleyv1.JobSpec{Run: "head -c 70000 /dev/zero > results.json"}, want{0, 0, "larger than 65536 bytes"}},
		{"results a pipe", &volleyv1.JobSpec{Run: "mkfifo results.json"}, want{0, 0, "not a regular file"}},
		{"results a link", &volleyv1.JobSpec{Run: "ln -s /etc/passwd results.json"}, want{0, 0, "symbolic link"}},
		{"metric no number", &volleyv1.JobSpec{Run: `echo '{"loss": "low"}' > results.json`, Metric: &volleyv1.Metric{Name: "loss"}}, want{0, 0, `metric "loss" is no finite number`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			row := newSite(t, 1).run(tc.spec, 1)[0]
			if row.outcome != tc.want.outcome || row.exit != tc.want.exit || !strings.Contains(row.reason, tc.want.reason) {
				t.Errorf("got %v, exit %d, reason %q; want %+v", row.outcome, row.exit, row.reason, tc.want)
			}
		})
	}
}

func TestResultsFileAndWorkDirectory(t *testing.T) {
	t.Parallel()
	x := newSite(t, 2)
	spec := &volleyv1.JobSpec{
		Run:    `echo '{"metrics": {"loss": 0.'${VOLLEY_INDEX}'5}, "big": 9007199254740993}' > results.json; test $VOLLEY_INDEX = 0 || echo model > model.bin`,
		Metric: &volleyv1.Metric{Name: "loss"},
	}
	rows := x.run(spec, 2)
	if rows[0].metric != 0.05 || rows[1].metric != 0.15 {
		t.Errorf("metrics %v and %v", rows[0].metric, rows[1].metric)
	}
	if want := `{"metrics":{"loss":0.05},"big":9007199254740993}`; rows[0].output != want {
		t.Errorf("output %s, want %s", rows[0].output, want)
	}
	// The directory with more than the recorded results stays as it is.
	want := []string{filepath.Join(x.dir, "work", "j1", "1.1")}
	if diff := cmp.Diff(want, x.workDirs()); diff != "" {
		t.Errorf("work directories (-want +got):\n%s", diff)
	}
	for _, name := range []string{"results.json", "model.bin"} {
		if _, err := os.Stat(filepath.Join(want[0], name)); err != nil {
			t.Error(err)
		}
	}
	// The same attempt again does not find what was left.
	lease := x.grant(&volleyv1.JobSpec{}, 1, 2)
	x.s.collect(x.led, true, "results", func() bool { return x.led.finished(lease) == 2 })
	if got := x.workDirs(); len(got) != 2 || !strings.HasSuffix(got[1], "1.1.2") {
		t.Errorf("work directories after the second run: %v", got)
	}
}

func TestSharedWorkDirectory(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "results.json"), []byte(`{"old":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	rows := x.run(&volleyv1.JobSpec{Run: "pwd > where", Workdir: dir}, 2)
	if rows[0].output != "" || rows[1].output != "" {
		t.Errorf("results of someone else taken: %+v", rows)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "where")); err != nil || strings.TrimSpace(string(b)) != dir {
		t.Errorf("ran in %q (%v), want %q", b, err, dir)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	// No tool of the base system speaks to unix sockets, so this test binary
	// is the task.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rows := x.run(&volleyv1.JobSpec{
		Command: []string{exe, "-test.run=^TestHelperSocket$"},
		Env:     []*volleyv1.EnvVar{{Name: "HELPER_SOCKET", Value: "1"}},
		Metric:  &volleyv1.Metric{Name: "loss"},
	}, 3)
	for i, row := range rows {
		if row.outcome != 0 {
			out, _ := x.log(&volleyv1.LogRequest{Index: i})
			t.Fatalf("index %d: %+v\n%s", i, row, out)
		}
		want := fmt.Sprintf(`{"metrics":{"loss":%d,"acc":2},"note":"later"}`, i)
		if row.output != want || row.metric != float64(i) {
			t.Errorf("index %d: output %s metric %v, want %s", i, row.output, row.metric, want)
		}
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	x := newSite(t, 2)
	program := []byte("#!/bin/sh\ncat data/in.txt ext; echo $1\n")
	data := []byte("some data\n")
	put := func(b []byte) []byte {
		sum := sha256.Sum256(b)
		x.c.mu.Lock()
		defer x.c.mu.Unlock()
		x.c.blobs[string(sum[:])] = b
		return sum[:]
	}
	x.c.fails = 2 // the coordinator restarts
	external := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(external, []byte("large file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := &volleyv1.JobSpec{
		Command: []string{"./prog.sh", "{index}"},
		Inputs: []*volleyv1.Input{
			{Path: "prog.sh", Digest: put(program), Size: int64(len(program)), Mode: 0o755},
			{Path: "data/in.txt", Digest: put(data), Size: int64(len(data)), Mode: 0o644},
			{Path: "ext", External: external},
		},
	}
	rows := x.run(spec, 20)
	for i, row := range rows {
		if row.outcome != 0 {
			t.Fatalf("index %d: %+v", i, row)
		}
	}
	if out, _ := x.log(&volleyv1.LogRequest{Index: 13}); out != "some data\nlarge file\n13\n" {
		t.Errorf("output %q", out)
	}
	if x.c.reads != 4 {
		t.Errorf("%d blobs read, want 2 and the 2 that failed", x.c.reads)
	}
	if dirs := x.workDirs(); len(dirs) != 0 {
		t.Errorf("work directories stay although links are all they hold: %v", dirs)
	}
	x.s.send(&volleyv1.ConnectResponse{ForgetJobs: []uint64{1}})
	// The next job is handled after the forgetting; blobs go in the background
	// before the agent ends.
	x.c.relax()
	x.r.cancel()
	if err := x.r.wait(); err != nil {
		t.Errorf("the agent ends: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(x.dir, "blobs")); err != nil || len(left) != 0 {
		t.Errorf("blobs left: %v %v", left, err)
	}
}

func TestCorruptInputFailsTheTask(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	sum := sha256.Sum256([]byte("good"))
	x.c.blobs[string(sum[:])] = []byte("evil")
	row := x.run(&volleyv1.JobSpec{Run: "cat f", Inputs: []*volleyv1.Input{{Path: "f", Digest: sum[:], Size: 4}}}, 1)[0]
	if row.outcome != volleyv1.Outcome_OUTCOME_NOT_STARTED || !strings.Contains(row.reason, "does not match its digest") {
		t.Errorf("%+v", row)
	}
}

func TestKillRunningProcess(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	lease := x.grant(&volleyv1.JobSpec{Run: "echo up; sleep 60", GraceMs: 5000}, 1, 1)
	x.s.collect(x.led, true, "start", func() bool { return size(x.led.started, lease) == 1 })
	x.s.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: lease, Kill: true}}})
	x.s.collect(x.led, true, "result", func() bool { return x.led.finished(lease) == 1 })
	if row := x.led.results[lease][0]; row.outcome != volleyv1.Outcome_OUTCOME_KILLED {
		t.Errorf("%+v", row)
	}
}

func TestLeavingWorkerStopsItsProcesses(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	// Ignores SIGTERM: SIGKILL comes after the grace.
	lease := x.grant(&volleyv1.JobSpec{Run: "trap '' TERM; echo $$ > pid; while :; do sleep 1; done", GraceMs: 100}, 1, 1)
	x.s.collect(x.led, true, "start", func() bool { return size(x.led.started, lease) == 1 })
	x.r.cancel()
	x.s.collect(x.led, true, "preemption", func() bool { return size(x.led.preempt, lease) == 1 })
	x.s.await("bye", func(m *volleyv1.ConnectRequest) bool { return m.GetBye() })
	x.s.end <- nil
	if err := x.r.wait(); err != nil {
		t.Error(err)
	}
}

func TestFollowAndCancelLogs(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	stop := filepath.Join(t.TempDir(), "stop")
	lease := x.grant(&volleyv1.JobSpec{Run: "echo one; echo err >&2; while ! test -e " + stop + "; do sleep 0.01; done; echo two"}, 1, 1)
	x.s.collect(x.led, true, "start", func() bool { return size(x.led.started, lease) == 1 })
	follow := func(id uint64, stream volleyv1.LogStream) {
		x.s.send(&volleyv1.ConnectResponse{LogRequests: []*volleyv1.LogRequest{{RequestId: id, Job: 1, Attempt: 1, Stream: stream, Follow: true, Credit: 1 << 20}}})
	}
	follow(1001, volleyv1.LogStream_LOG_STREAM_STDOUT)
	var got strings.Builder
	until := func(text string, id uint64, end bool) {
		t.Helper()
		x.s.await("log "+text, func(m *volleyv1.ConnectRequest) bool {
			x.led.add(m.GetReport())
			for _, c := range m.GetLogs() {
				if c.GetRequestId() == id {
					got.Write(c.GetData())
					if c.GetEnd() {
						return end
					}
				}
			}
			return !end && strings.Contains(got.String(), text)
		})
	}
	until("one\n", 1001, false)
	got.Reset()
	follow(1002, volleyv1.LogStream_LOG_STREAM_STDERR)
	until("err\n", 1002, false)
	x.s.send(&volleyv1.ConnectResponse{LogRequests: []*volleyv1.LogRequest{{RequestId: 1002, Cancel: true}}})
	until("end of the cancelled one", 1002, true)
	got.Reset()
	if err := os.WriteFile(stop, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	until("two", 1001, true)
	if got.String() != "two\n" {
		t.Errorf("followed %q after the first line, want %q", got.String(), "two\n")
	}
	if out, _ := x.log(&volleyv1.LogRequest{TailBytes: 3}); out != "wo\n" {
		t.Errorf("tail %q", out)
	}
	if _, problem := x.log(&volleyv1.LogRequest{Index: 5}); !strings.Contains(problem, "not found") {
		t.Errorf("log of an attempt that never ran: %q", problem)
	}
}
