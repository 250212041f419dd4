// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/scheduler"
)

// Bug is a fault of the coordinator that a run can be given on purpose, to see
// that it is found.
type Bug uint8

// The bugs that can be planted.
const (
	BugNone Bug = iota
	// BugDoubleRecord: results outside the remaining set of their lease count.
	BugDoubleRecord
	// BugAckEarly: reports and commands are acknowledged before their batch is
	// durable.
	BugAckEarly
	// BugGrantEarly: grants are sent before their batch is durable.
	BugGrantEarly
	// BugUnfenced: results under a lease that was lost count.
	BugUnfenced
	// BugForgetReturned: indexes that a worker hands back are forgotten.
	BugForgetReturned
)

// Options of a run.
type Options struct {
	Seed uint64
	Bug  Bug
}

// Stats say what a run has done, so that a test can see that it did something.
type Stats struct {
	Events, Jobs, Executions, Recorded, Stale int
	Crashes, Lost, Snapshots                  int
}

// Failure is a broken promise, with what led to it.
type Failure struct {
	Seed uint64
	What string
	// Trace has the last events, oldest first.
	Trace []string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s\nthe last events:\n  %s\nreplay: VOLLEY_SEED=%d go test -run 'TestSimulation$' ./coordinator/sim",
		f.What, strings.Join(f.Trace, "\n  "), f.Seed)
}

// Virtual times are in microseconds.
const (
	millisecond = int64(1000)
	second      = 1000 * millisecond
)

// base is when every run begins.
var base = time.UnixMilli(1_800_000_000_000)

// Run does one simulation to its end and returns the first broken promise, a
// *Failure.
func Run(o Options) (Stats, error) {
	s := newSim(o)
	s.setUp()
	for s.err == nil && s.step() {
		s.checkStep()
	}
	if s.err == nil {
		s.checkEnd()
	}
	if s.err != nil {
		return s.stats, s.err
	}
	return s.stats, nil
}

type sim struct {
	opts  Options
	rng   *rand.Rand
	now   int64
	queue eventQueue
	seq   uint64
	stats Stats
	err   error
	trace [80]traced
	ntrac int

	coord   *coord
	workers []*worker
	client  *client
	oracle  *oracle
	// calm: the faults have stopped.
	calm     bool
	calmAt   int64
	deadline int64
}

type traced struct {
	at     int64
	format string
	args   []any
}

func newSim(o Options) *sim {
	s := &sim{opts: o, rng: rand.New(rand.NewPCG(o.Seed, 0x766f6c6c6579))}
	s.oracle = newOracle(s)
	s.coord = newCoord(s, engine.Options{
		WorkerLease:     time.Duration(1+s.rng.IntN(4)) * time.Second,
		KeepJobs:        pick(s, 3, 8, 10_000),
		KeepAge:         time.Duration(pick(s, 5, 600)) * time.Second,
		SnapshotRecords: uint64(pick(s, 5, 20, 100, 100_000)),
		Scheduler:       scheduler.Options{Target: time.Duration(pick(s, 1, 50, 500)) * time.Millisecond, MaxLease: uint64(pick(s, 2, 16, 1<<16))},
	})
	s.client = &client{s: s}
	return s
}

// setUp schedules the first events.
func (s *sim) setUp() {
	s.calmAt = s.between(8*second, 30*second)
	s.deadline = s.calmAt + 300*second
	s.after(0, s.coord.start)
	for i := range 1 + s.rng.IntN(4) {
		w := newWorker(s, i)
		s.workers = append(s.workers, w)
		s.after(s.between(0, second), w.start)
	}
	s.after(s.between(0, 100*millisecond), s.client.act)
	s.after(s.between(0, second), s.fault)
	s.after(s.calmAt, s.becomeCalm)
}

// step runs the next event; false: the run is over.
func (s *sim) step() bool {
	if len(s.queue) == 0 {
		return false
	}
	e := heap.Pop(&s.queue).(event)
	s.now = e.at
	s.stats.Events++
	e.run()
	s.coord.pump()
	if s.calm && s.finished() {
		return false
	}
	if s.now > s.deadline {
		s.failf("%s", s.stuck())
	}
	return s.err == nil
}

func (s *sim) failf(format string, args ...any) {
	if s.err != nil {
		return
	}
	f := &Failure{Seed: s.opts.Seed, What: fmt.Sprintf("seed %d, at %.3f ms: ", s.opts.Seed, float64(s.now)/1000) + fmt.Sprintf(format, args...)}
	for i := max(0, s.ntrac-len(s.trace)); i < s.ntrac; i++ {
		t := s.trace[i%len(s.trace)]
		f.Trace = append(f.Trace, fmt.Sprintf("%10.3f ms  ", float64(t.at)/1000)+fmt.Sprintf(t.format, t.args...))
	}
	s.err = f
}

// note keeps an event for the trace. Arguments must not change later.
func (s *sim) note(format string, args ...any) {
	s.trace[s.ntrac%len(s.trace)] = traced{s.now, format, args}
	s.ntrac++
}

func (s *sim) after(delay int64, run func()) {
	s.seq++
	heap.Push(&s.queue, event{s.now + delay, s.seq, run})
}

// between is a random time, short ones more often: most delays are small and
// the interesting ones are not.
func (s *sim) between(lo, hi int64) int64 {
	f := s.rng.Float64()
	return lo + int64(f*f*float64(hi-lo))
}

func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

func pick[T any](s *sim, of ...T) T { return of[s.rng.IntN(len(of))] }

type event struct {
	at  int64
	seq uint64
	run func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// Add sums up.
func (s *Stats) Add(o Stats) {
	s.Events += o.Events
	s.Jobs += o.Jobs
	s.Executions += o.Executions
	s.Recorded += o.Recorded
	s.Stale += o.Stale
	s.Crashes += o.Crashes
	s.Lost += o.Lost
	s.Snapshots += o.Snapshots
}
