// SPDX-License-Identifier: Apache-2.0

package state

import (
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// Fault is a bug that a test of the simulator plants, to prove that the
// simulator would find it. Nothing else uses it.
type Fault uint8

const (
	// FaultDoubleRecord: a result counts although its index is not in the
	// remaining set of its lease.
	FaultDoubleRecord Fault = iota + 1
	// FaultUnfenced: a result under a lease that was lost counts.
	FaultUnfenced
)

// Plant breaks a state on purpose.
func Plant(s *State, f Fault) { s.fault = f }

// recordTwice is FaultDoubleRecord.
func (s *State) recordTwice(j *Job, l *Lease, w *Worker, i uint64, e *ended) {
	if s.fault == FaultDoubleRecord && i < j.Size {
		s.finish(j, l, w, i, e)
	}
}

// recordUnfenced is FaultUnfenced: results of a lost lease whose indexes wait
// to run again are taken in.
func (s *State) recordUnfenced(j *Job, w *Worker, lr *volleyv1.LeaseReport) {
	if s.fault != FaultUnfenced {
		return
	}
	l := &Lease{ID: lr.GetLeaseId(), Job: j.ID, Worker: w.Num, Attempt: 1, remaining: new(sharding.Set), running: new(sharding.Set), asked: new(sharding.Set)}
	for r := range pairs(lr.GetFinished()) {
		l.remaining.AddRange(r.First, r.Count)
	}
	l.remaining.Intersect(j.ready)
	j.ready.Subtract(l.remaining)
	j.leased += l.remaining.Len()
	s.finishAll(j, l, w, lr)
	s.settle(j)
}
