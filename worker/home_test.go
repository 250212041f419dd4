// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestEpochGrowsWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *home {
		t.Helper()
		h, err := openHome(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.close(); err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := open()
	second := open()
	if second.epoch <= first.epoch || second.nodeID != first.nodeID {
		t.Errorf("epoch %d after %d, node %s after %s", second.epoch, first.epoch, second.nodeID, first.nodeID)
	}
	future := uint64(time.Now().Add(1000 * time.Hour).UnixNano()) // the clock was wrong then
	if err := second.write("epoch", strconv.FormatUint(future, 10)); err != nil {
		t.Fatal(err)
	}
	if third := open(); third.epoch != future+1 {
		t.Errorf("epoch %d after %d", third.epoch, future)
	}
	if err := second.write("epoch", "many"); err != nil {
		t.Fatal(err)
	}
	if _, err := openHome(dir); err == nil || !strings.Contains(err.Error(), `"many" is not a number`) {
		t.Errorf("a damaged epoch: %v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t)
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Dial: c.dial}, "data directory is empty"},
		{Config{DataDir: "x"}, "dial function is missing"},
		{Config{DataDir: "x", Dial: c.dial, MaxSlots: -1}, "max slots -1"},
		{Config{DataDir: "x", Dial: c.dial, MaxOutputBytes: -1}, "max output of -1"},
		{Config{DataDir: "x", Dial: c.dial, Capacity: &volleyv1.Resources{CpuMilli: -4}}, "negative"},
		{Config{DataDir: filepath.Join(os.DevNull, "x"), Dial: c.dial}, "data directory"},
	} {
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.cfg, err, tc.want)
		}
	}
}

func TestUnrunAgentCloses(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t)
	dir := t.TempDir()
	for range 2 { // the lock is free again
		a, err := New(Config{DataDir: dir, Dial: c.dial})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	row := x.run(&volleyv1.JobSpec{Run: "echo kept; touch file"}, 1)[0]
	if row.outcome != 0 || len(x.workDirs()) != 1 {
		t.Fatalf("%+v %v", row, x.workDirs())
	}
	p := x.r.agent.procs
	p.keep.add(1, "j1")
	p.keep.add(1, "j1") // said again
	p.keep.add(2, "../../etc")
	p.keep.sweep(time.Now().Add(-time.Hour))
	if out, problem := x.log(&volleyv1.LogRequest{}); out != "kept\n" {
		t.Errorf("output before its time: %q %s", out, problem)
	}
	again, err := openRetention(p, p.keep.path, time.Hour)
	if err != nil || len(again.jobs) != 2 {
		t.Fatalf("after a restart: %v %v", again, err)
	}
	again.sweep(time.Now().Add(time.Hour))
	if _, problem := x.log(&volleyv1.LogRequest{}); !strings.Contains(problem, "not found") {
		t.Errorf("output after its time: %q", problem)
	}
	if dirs := x.workDirs(); len(dirs) != 0 {
		t.Errorf("work directories after their time: %v", dirs)
	}
	again.remove(2)
	if len(again.jobs) != 0 {
		t.Errorf("list: %v", again.jobs)
	}
}

// TestInputsGetAnotherChance: a job whose inputs could not be had is prepared
// again for the next grant.
func TestInputsGetAnotherChance(t *testing.T) {
	t.Parallel()
	x := newSite(t, 1)
	spec := &volleyv1.JobSpec{Run: "cat in", Inputs: []*volleyv1.Input{{Path: "in", External: filepath.Join(t.TempDir(), "late")}}}
	if row := x.run(spec, 1)[0]; row.outcome != volleyv1.Outcome_OUTCOME_NOT_STARTED {
		t.Fatalf("%+v", row)
	}
	if err := os.WriteFile(spec.Inputs[0].External, []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	lease := x.grant(spec, 2, 1)
	x.s.collect(x.led, true, "result", func() bool { return x.led.finished(lease) == 1 })
	if row := x.led.results[lease][0]; row.outcome != 0 {
		t.Errorf("%+v", row)
	}
}

// TestOutage: results of a long outage come from the spool, in order, and what
// is reported meanwhile comes after them.
func TestOutage(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	r := c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	const n = 3 * maxInFlight
	s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, n, nil)}, Grants: []*volleyv1.Grant{grantOf(1, 1, 0, n+1)}})
	x := g.next()
	s.end <- status.Error(codes.Unavailable, "gone")
	s = c.next() // not welcomed: the outage goes on
	for range n {
		x.result <- Result{Output: []byte(`{"a":1}`)}
		x = g.next()
		r.agent.flush() // one report each
	}
	r.agent.mu.Lock()
	last := r.agent.entries[len(r.agent.entries)-1]
	r.agent.mu.Unlock()
	if last.report != nil {
		t.Error("every report of an outage is kept in memory")
	}
	s.send(&volleyv1.ConnectResponse{Welcome: &volleyv1.Welcome{LeaseTtlMs: math.MaxInt32}})
	x.succeed()
	l := newLedger(t)
	s.collect(l, true, "results", func() bool { return l.finished(1) == n+1 })
	if l.results[1][n-1].output != `{"a":1}` {
		t.Errorf("result from the spool: %+v", l.results[1][n-1])
	}
}
