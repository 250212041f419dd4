// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator"
	"github.com/volley-batch/volley/internal/credential"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// runOK runs a load in a directory of the test, which must be empty afterwards.
func runOK(t *testing.T, c Config) *Report {
	t.Helper()
	c.Dir, c.Version = t.TempDir(), "test"
	r, err := Run(limit(t), c)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(c.Dir); err != nil || len(left) > 0 {
		t.Errorf("the directory holds %v afterwards (%v)", left, err)
	}
	if !r.OK() || r.Interrupted {
		t.Errorf("checks %+v, interrupted %v", r.Checks, r.Interrupted)
	}
	if r.Storage.Fsync.Count == 0 || r.Journal.Syncs == 0 || r.Journal.Bytes == 0 || len(r.Processes) == 0 || r.Machine.CPUs == 0 {
		t.Errorf("something was not measured: %+v", r)
	}
	return r
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	r := runOK(t, Config{Kind: Dispatch, Tasks: 5000, Workers: 2, Duration: time.Millisecond})
	if r.Result.Tasks%5000 != 0 || r.Result.Tasks == 0 || r.Result.TasksPerSecond <= 0 || r.Processes[0].CPUSeconds <= 0 {
		t.Errorf("result is %+v, processes %+v", r.Result, r.Processes)
	}
}

func TestSpawn(t *testing.T) {
	t.Parallel()
	r := runOK(t, Config{Kind: Spawn, Tasks: 20, Command: []string{"/bin/echo", "hello"}})
	if r.Result.Tasks != 20 {
		t.Errorf("result is %+v", r.Result)
	}
}

// TestSpawnFails: tasks that fail are counted, and fail a check.
func TestSpawnFails(t *testing.T) {
	t.Parallel()
	r, err := Run(limit(t), Config{Kind: Spawn, Tasks: 3, Command: []string{"/bin/sh", "-c", "exit 7"}, Dir: t.TempDir()})
	if err != nil || r.OK() || r.Result.Tasks != 3 {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	for _, on := range []string{"", Missing, Busy} {
		t.Run("queued="+on, func(t *testing.T) {
			t.Parallel()
			c := Config{Kind: Latency, Samples: 3, QueuedOn: on}
			if on != "" {
				c.Queued = 1_000_000
			}
			r := runOK(t, c)
			if len(r.Latencies) != 2 || r.Latencies[1].Count != 3 || r.Latencies[1].P50 <= r.Latencies[0].P50/2 {
				t.Errorf("latencies are %+v", r.Latencies)
			}
		})
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	r := runOK(t, Config{Kind: Scale, Tasks: 100_000, Workers: 150, Samples: 3})
	if r.Result.Tasks != 100_000 || r.Setup.Connections != 2 || r.Latencies[0].Count != 150 {
		t.Errorf("result %+v, setup %+v, latencies %+v", r.Result, r.Setup, r.Latencies)
	}
	for _, name := range []string{"recorded once", "executed once", "read back"} {
		found := false
		for _, c := range r.Checks {
			found = found || c.Name == name
		}
		if !found {
			t.Errorf("there is no check %q in %+v", name, r.Checks)
		}
	}
}

// TestScalePaced: tasks take time, and what waits is taken back for workers
// that are idle at the end.
func TestScalePaced(t *testing.T) {
	t.Parallel()
	for _, each := range []time.Duration{time.Microsecond, 20 * time.Millisecond} {
		t.Run(each.String(), func(t *testing.T) {
			t.Parallel()
			const workers, slots = 40, 2
			tasks := uint64(workers*slots) * uint64(200*time.Millisecond/max(each, 100*time.Microsecond))
			r := runOK(t, Config{Kind: Scale, Tasks: tasks, TaskTime: each, Workers: workers, Slots: slots, Samples: 3})
			// As many tasks at once as there are slots, and not more.
			if least := each.Seconds() * float64(tasks) / ((workers + 3) * slots); r.Result.Tasks != tasks || r.Result.Seconds < least {
				t.Errorf("result is %+v, and must take %.3f s at least", r.Result, least)
			}
		})
	}
}

// listener is a log handler that calls a function at every message.
type listener func(message string)

func (l listener) Enabled(context.Context, slog.Level) bool { return true }
func (l listener) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l listener) WithGroup(string) slog.Handler            { return l }
func (l listener) Handle(_ context.Context, r slog.Record) error {
	l(r.Message)
	return nil
}

// TestInterrupted: what was measured until the end of the context is reported.
// It ends when the first worker has connected, or a little later.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Dispatch, Spawn, Latency, Scale} {
		for _, after := range []time.Duration{0, 300 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s/%v", kind, after), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(limit(t))
				defer cancel()
				log := listener(func(message string) {
					if message == "worker connected" {
						time.AfterFunc(after, cancel)
					}
				})
				dir := t.TempDir()
				r, err := Run(ctx, Config{
					Kind: kind, Tasks: MaxTasks / 10, Workers: 1, Samples: MaxSamples, Duration: time.Hour, Dir: dir, Logger: slog.New(log),
				})
				if err != nil || !r.Interrupted {
					t.Errorf("%v: %+v", err, r)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("the directory holds %v afterwards (%v)", left, err)
				}
			})
		}
	}
}

// serving starts a coordinator as another process would.
func serving(t *testing.T) (addr string, cl *client.Client) {
	t.Helper()
	token := credential.Generate()
	s, err := coordinator.Open(limit(t), coordinator.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", Token: token, Version: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if err := credential.Save(s.Addr(), token); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(credential.Remove(s.Addr()), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s.Addr(), client.New(s.Conn())
}

// TestRunningCoordinator: simulated workers go to an idle one, and never to one
// that has work for others. Not parallel: it sets where credentials lie.
func TestRunningCoordinator(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	addr, cl := serving(t)
	c := Config{Kind: Scale, Tasks: 1000, Workers: 3, Samples: 1, Coordinator: addr, Dir: t.TempDir(), Version: "test"}
	r, err := Run(limit(t), c)
	if err != nil || !r.OK() || r.Machine.Coordinator != "other" {
		t.Fatalf("%v: %+v", err, r)
	}
	nodes, err := cl.Nodes(limit(t))
	if err != nil || len(nodes) > 0 {
		t.Errorf("the workers left %v behind (%v)", nodes, err)
	}
	refused := func(c Config, text string) {
		t.Helper()
		if _, err := Run(limit(t), c); client.Kind(err) != client.Refused || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want a refusal with %q", c.Kind, err, text)
		}
	}
	refused(Config{Kind: Spawn, Coordinator: addr, Dir: t.TempDir()}, "no worker")
	spec := &volleyv1.JobSpec{Name: "mine", Command: []string{"/bin/true"}}
	if _, err := cl.Submit(limit(t), client.Submission{Spec: spec}); err != nil {
		t.Fatal(err)
	}
	refused(c, "unfinished jobs")
	refused(Config{Kind: Dispatch, Coordinator: addr, Dir: t.TempDir()}, "unfinished jobs")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{Kind: "speed"}, `no benchmark "speed"`},
		{Config{Kind: Dispatch, Tasks: MaxTasks + 1}, "--tasks 1000000001"},
		{Config{Kind: Dispatch, Workers: -1}, "--workers -1"},
		{Config{Kind: Dispatch, Workers: 257}, "from 1 to 256"},
		{Config{Kind: Scale, Workers: MaxWorkers + 1}, "from 1 to 10000"},
		{Config{Kind: Scale, Slots: MaxSlots + 1}, "--slots 1025"},
		{Config{Kind: Scale, Connections: -2}, "--connections -2"},
		{Config{Kind: Latency, Samples: -1}, "--samples -1"},
		{Config{Kind: Latency, QueuedOn: "moon"}, `--queued-on "moon"`},
		{Config{Kind: Latency, Queued: 1, QueuedOn: Busy, Coordinator: "127.0.0.1:1"}, "without --coordinator"},
		{Config{Kind: Dispatch, Duration: -1}, "--duration"},
		{Config{Kind: Dispatch, Separate: true, Coordinator: "127.0.0.1:1"}, "--separate"},
	} {
		if _, err := Run(t.Context(), tt.c); client.Kind(err) != client.Invalid || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.want)
		}
	}
}

// TestServe: the process of a coordinator ends with its input.
func TestServe(t *testing.T) {
	t.Parallel()
	in, feed := io.Pipe()
	read, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Serve(limit(t), in, out, "test", nil) }()
	token := credential.Generate()
	line, err := json.Marshal(order{Dir: t.TempDir(), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = feed.Write(append(line, '\n')) }()
	buf := make([]byte, 64)
	n, err := read.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.Dial(limit(t), client.Options{Addr: strings.TrimSpace(string(buf[:n])), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.Close(); err != nil {
		t.Error(err)
	}
	_ = feed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "{", "{}\n", "no json\n"} {
		if err := Serve(limit(t), strings.NewReader(bad), io.Discard, "test", nil); err == nil {
			t.Errorf("%q was served", bad)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := &Report{
		Benchmark: Scale, Interrupted: true, Durability: "words", Setup: Setup{Coordinator: "here", Workers: 3, Slots: 1, Seed: 9},
		Result:    Result{Tasks: 1234, Seconds: 2, TasksPerSecond: 617, Jobs: 1},
		Storage:   &Storage{FileSystem: "ext4", Fsync: &Distribution{P50: 0.1, P99: 12.34}},
		Latencies: []Distribution{{Name: "join", Count: 5, P50: 1, P99: 22.2, P999: 333.3, Max: 4444}},
		Processes: []Process{{Role: "coordinator", CPUSeconds: 1.5, CPUMicrosPerTask: 0.25, PeakRSSBytes: 1 << 20}},
		Journal:   &Journal{Batches: 7, Bytes: 2468, Syncs: 6},
		Checks:    []Check{{Name: "kept", OK: true, Text: "all"}, {Name: "lost", Text: "3 tasks"}},
	}
	var b bytes.Buffer
	if err := r.Table(&b, render.Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"interrupted", "1,234 recorded in 2.00 s, 1 job", "617", "fsync p50 0.100 ms, p99 12.3 ms", "2.00 B a task", "join", "333", "4444", "FAILED", "3 tasks", "1 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}
