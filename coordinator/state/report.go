// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"math"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// maxFinished bounds the results in one lease report: they are walked one by
// one, and an all-well report may name a run of any length in two numbers.
const maxFinished = 1 << 22

// report records what a worker says has happened. Indexes that are not in the
// remaining set of their lease are passed over: they were recorded before, or
// the lease is not current any more.
func (s *State) report(op *journalv1.WorkerReport) (Result, error) {
	w := s.WorkerByNode(op.GetNodeId())
	if w == nil || w.Epoch != op.GetEpoch() || w.Session != op.GetSession() {
		return Result{}, fmt.Errorf("report of %q, epoch %d: %w", op.GetNodeId(), op.GetEpoch(), ErrNotFound)
	}
	// All columns are checked before anything is changed.
	for n, lr := range op.GetReport().GetLeases() {
		if err := checkColumns(lr); err != nil {
			return Result{}, fmt.Errorf("report of %q: leases[%d] (lease %d): %w: %w", w.Name(), n, lr.GetLeaseId(), ErrInvalid, err)
		}
	}
	// A repeated report from before the Hello tells of results only: the Hello
	// said later what is held, and what was handed back then may have been
	// granted again since.
	repeated := op.GetReport().GetSeq() <= w.Hello.GetLastSeq()
	for _, lr := range op.GetReport().GetLeases() {
		l := s.leases[lr.GetLeaseId()]
		if l == nil || l.Worker != w.Num {
			s.refuseStale(w, lr)
			continue
		}
		j := s.mut(l.Job)
		s.finishAll(j, l, w, lr)
		if !repeated {
			// Mostly there are results and nothing else: sets of nothing would be
			// three allocations for each report.
			if len(lr.GetStarted()) > 0 {
				s.beginAll(j, l, w, lr.GetStarted())
			}
			if len(lr.GetPreempted()) > 0 {
				s.preemptAll(j, l, w, lr.GetPreempted())
			}
			if len(lr.GetReturned()) > 0 {
				if set := within(lr.GetReturned(), l); !set.Empty() {
					set.Subtract(l.running)
					s.giveBack(j, l, set)
				}
			}
		}
		s.charge(j, l)
		s.settle(j)
	}
	s.emit(AckEffect{Worker: w.Num, Epoch: w.Epoch, Seq: op.GetReport().GetSeq()})
	return Result{Worker: w.Num}, nil
}

// refuseStale counts results under a lease that was given up for lost.
func (s *State) refuseStale(w *Worker, lr *volleyv1.LeaseReport) {
	if j := s.mut(s.retired[lr.GetLeaseId()]); j != nil {
		for r := range pairs(lr.GetFinished()) {
			j.stale += r.Count
		}
		s.recordUnfenced(j, w, lr)
	}
}

func (s *State) beginAll(j *Job, l *Lease, w *Worker, started []uint64) {
	for i := range within(started, l).All() {
		s.begin(j, l, w, i)
	}
}

func (s *State) preemptAll(j *Job, l *Lease, w *Worker, preempted []uint64) {
	set := within(preempted, l)
	for i := range set.All() {
		s.begin(j, l, w, i) // it had started, whether we were told or not
	}
	s.preempt(j, l, w, set)
}

func (s *State) finishAll(j *Job, l *Lease, w *Worker, lr *volleyv1.LeaseReport) {
	var e ended
	n := 0
	for r := range pairs(lr.GetFinished()) {
		for i := r.First; i < r.End(); i++ {
			readColumns(&e, lr, n)
			n++
			if !l.remaining.Remove(i) {
				s.recordTwice(j, l, w, i, &e)
				continue // recorded before: a repeated report
			}
			if l.running.Remove(i) {
				j.running--
			}
			l.asked.Remove(i)
			j.leased--
			s.finish(j, l, w, i, &e)
		}
	}
}

// readColumns reads the n-th element of every column. Starts are differences,
// so elements must be read in order.
func readColumns(e *ended, lr *volleyv1.LeaseReport, n int) {
	start := e.start
	if n == 0 {
		start = 0
	}
	*e = ended{start: start, metric: math.NaN()}
	if len(lr.StartMs) > 0 {
		e.start += lr.StartMs[n]
	}
	if len(lr.DurationUs) > 0 {
		e.us = lr.DurationUs[n]
	}
	if len(lr.Outcome) > 0 {
		e.outcome = volleyv1.Outcome(lr.Outcome[n])
	}
	if len(lr.ExitCode) > 0 {
		e.exit = uint16(min(lr.ExitCode[n], noExit))
	}
	if e.outcome == volleyv1.Outcome_OUTCOME_NOT_STARTED {
		e.exit = noExit
	}
	if len(lr.PeakKib) > 0 {
		e.peakKiB = lr.PeakKib[n]
	}
	if len(lr.CpuMs) > 0 {
		e.cpuMS = lr.CpuMs[n]
	}
	if len(lr.Reason) > 0 && lr.Reason[n] > 0 {
		e.detail = lr.Reasons[lr.Reason[n]-1]
	}
	if len(lr.Metric) > 0 {
		e.metric = lr.Metric[n]
	}
	if len(lr.Output) > 0 {
		e.output = lr.Output[n]
	}
}

func checkColumns(lr *volleyv1.LeaseReport) error {
	var total uint64
	for _, set := range [][]uint64{lr.GetFinished(), lr.GetStarted(), lr.GetReturned(), lr.GetPreempted()} {
		if len(set)%2 != 0 {
			return fmt.Errorf("a set of indexes has %d numbers, they come in pairs", len(set))
		}
		for i := 0; i < len(set); i += 2 {
			if set[i+1] == 0 || set[i] > maxSize || set[i+1] > maxSize || set[i]+set[i+1] > maxSize {
				return fmt.Errorf("run (%d, %d) is out of range", set[i], set[i+1])
			}
		}
	}
	for r := range pairs(lr.GetFinished()) {
		if total += r.Count; total > maxFinished {
			return fmt.Errorf("more than %d finished indexes in one report", maxFinished)
		}
	}
	for _, c := range []struct {
		name string
		n    int
	}{
		{"start_ms", len(lr.GetStartMs())},
		{"duration_us", len(lr.GetDurationUs())},
		{"outcome", len(lr.GetOutcome())},
		{"exit_code", len(lr.GetExitCode())},
		{"peak_kib", len(lr.GetPeakKib())},
		{"cpu_ms", len(lr.GetCpuMs())},
		{"reason", len(lr.GetReason())},
		{"metric", len(lr.GetMetric())},
		{"output", len(lr.GetOutput())},
	} {
		if c.n != 0 && uint64(c.n) != total {
			return fmt.Errorf("column %s has %d elements for %d finished indexes", c.name, c.n, total)
		}
	}
	for n, r := range lr.GetReason() {
		if int64(r) > int64(len(lr.GetReasons())) {
			return fmt.Errorf("reason[%d] is %d, there are %d reasons", n, r, len(lr.GetReasons()))
		}
	}
	return nil
}

// pairs iterates over runs in the order given, touching or not.
func pairs(flat []uint64) func(yield func(sharding.Run) bool) {
	return func(yield func(sharding.Run) bool) {
		for i := 0; i+1 < len(flat); i += 2 {
			if !yield(sharding.Run{First: flat[i], Count: flat[i+1]}) {
				return
			}
		}
	}
}

// within is the part of runs that checkColumns has passed which the lease
// still holds.
func within(flat []uint64, l *Lease) *sharding.Set {
	set := new(sharding.Set)
	for r := range pairs(flat) {
		set.AddRange(r.First, r.Count)
	}
	set.Intersect(l.remaining)
	return set
}
