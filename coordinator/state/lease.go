// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"slices"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// grant leases ready children to a worker, under a new lease or, for first
// attempts only, one that it holds.
func (s *State) grant(op *journalv1.Grant) (Result, error) {
	w := s.WorkerByNode(op.GetNodeId())
	j := s.jobs[op.GetJob()]
	if w == nil || j == nil || j.terminal || w.Status != NodeReady {
		return Result{}, fmt.Errorf("grant of job %d to %q: %w", op.GetJob(), op.GetNodeId(), ErrConflict)
	}
	set, err := sharding.ParsePacked(op.GetRuns())
	if err != nil {
		return Result{}, fmt.Errorf("grant of job %d to %q: %w: %w", op.GetJob(), op.GetNodeId(), ErrInvalid, err)
	}
	if set.Empty() || op.GetParallel() == 0 {
		return Result{}, fmt.Errorf("grant of job %d to %q: %w: %d indexes, parallel %d", op.GetJob(), op.GetNodeId(), ErrInvalid, set.Len(), op.GetParallel())
	}
	probe := set.Clone()
	probe.Intersect(j.ready)
	if probe.Len() != set.Len() {
		return Result{}, fmt.Errorf("grant of job %d: %w: not all of its %d indexes are ready", j.ID, ErrConflict, set.Len())
	}
	l := s.leases[op.GetLeaseId()]
	switch {
	case op.GetLeaseId() == 0:
		l = &Lease{
			ID: s.nextLease, Job: j.ID, Worker: w.Num, Attempt: op.GetAttempt(),
			remaining: new(sharding.Set), running: new(sharding.Set), asked: new(sharding.Set),
		}
	case l == nil || l.Worker != w.Num || !j.Extends(l) || op.GetAttempt() != 1:
		return Result{}, fmt.Errorf("grant to lease %d: %w: it cannot be added to", op.GetLeaseId(), ErrConflict)
	}
	have := uint64(0)
	if op.GetLeaseId() != 0 {
		have = l.slots
	}
	// What runs is not stopped by a smaller number; the room that it would
	// seem to give back would be granted a second time.
	if uint64(op.GetParallel()) < have {
		return Result{}, fmt.Errorf("grant to lease %d: %w: parallel %d is less than the %d tasks that may run under it", l.ID, ErrConflict, op.GetParallel(), have)
	}
	slots := min(uint64(op.GetParallel()), l.remaining.Len()+set.Len())
	if more := slots - min(have, slots); more > j.Room() || more > 0 && more > w.Free().Fits(j.Shape) {
		return Result{}, fmt.Errorf("grant of job %d to %q: %w: no room for %d tasks more", j.ID, op.GetNodeId(), ErrConflict, more)
	}
	if !j.areAt(set, op.GetAttempt()) {
		return Result{}, fmt.Errorf("grant of job %d: %w: not all of its indexes are at attempt %d", j.ID, ErrConflict, op.GetAttempt())
	}
	// From here on nothing fails.
	j = s.mut(j.ID)
	if op.GetLeaseId() == 0 {
		s.nextLease++
		s.leases[l.ID] = l
		j.leases = append(j.leases, l.ID)
		w.leases = append(w.leases, l.ID)
	}
	j.ready.Subtract(set)
	l.remaining.Union(set)
	l.Parallel = uint64(op.GetParallel())
	j.leased += set.Len()
	s.charge(j, l)
	s.settle(j)
	s.emit(GrantEffect{Worker: w.Num, Grant: &volleyv1.Grant{
		LeaseId: l.ID, Job: j.ID, Attempt: l.Attempt, Parallel: op.GetParallel(), Runs: op.GetRuns(), Priority: j.Spec.GetPriority(),
	}})
	return Result{Lease: l.ID}, nil
}

// takeBack asks a worker to hand back what it has not started.
func (s *State) takeBack(op *journalv1.TakeBack) (Result, error) {
	l := s.leases[op.GetLeaseId()]
	if l == nil {
		return Result{}, fmt.Errorf("take back from lease %d: %w", op.GetLeaseId(), ErrNotFound)
	}
	set, err := sharding.ParsePacked(op.GetRuns())
	if err != nil {
		return Result{}, fmt.Errorf("take back from lease %d: %w: %w", op.GetLeaseId(), ErrInvalid, err)
	}
	set.Intersect(l.remaining)
	l.asked.Union(set)
	s.noteBacklog(l)
	if !set.Empty() {
		s.emit(RevokeEffect{Worker: l.Worker, Revoke: &volleyv1.Revoke{LeaseId: l.ID, Runs: set.AppendPacked(nil)}})
	}
	return Result{Lease: l.ID}, nil
}

// cancel fails what has not started and, when terminate is set, has what runs
// stopped. Cancelling what has ended is no error, as in AWS Batch.
func (s *State) cancel(op *journalv1.Cancel) (Result, error) {
	j := s.jobs[op.GetJob()]
	if j == nil {
		return Result{}, fmt.Errorf("job %d: %w", op.GetJob(), ErrNotFound)
	}
	if op.Index != nil && op.GetIndex() >= j.Size {
		return Result{}, fmt.Errorf("job %d has %d children, there is no index %d: %w", j.ID, j.Size, op.GetIndex(), ErrNotFound)
	}
	if j.terminal {
		return Result{}, nil
	}
	j = s.mut(j.ID)
	why := op.GetReason()
	if why == "" {
		why = reasonCancelled
		if op.GetTerminate() {
			why = reasonTerminated
		}
	}
	j.cancelReason = why
	if op.Index != nil {
		s.cancelChild(j, op.GetIndex(), op.GetTerminate())
	} else {
		j.cancel = true
		j.terminate = j.terminate || op.GetTerminate()
		s.cancelSet(j, s.unstarted(j))
		for _, id := range j.leases {
			s.emit(RevokeEffect{Worker: s.leases[id].Worker, Revoke: &volleyv1.Revoke{LeaseId: id, Kill: j.terminate}})
		}
	}
	s.settle(j)
	return Result{}, nil
}

func (s *State) cancelChild(j *Job, i uint64, terminate bool) {
	if _, r := j.peek(i); r.phase().terminal() || j.cancelled.Contains(i) || j.depFailed.Contains(i) {
		return
	}
	one := sharding.NewSet(sharding.Run{First: i, Count: 1})
	for _, id := range j.leases {
		l := s.leases[id]
		if !l.remaining.Contains(i) {
			continue
		}
		if terminate || !l.running.Contains(i) {
			j.killing.Add(i)
			if terminate {
				j.stopping.Add(i)
			}
			s.emit(RevokeEffect{Worker: l.Worker, Revoke: &volleyv1.Revoke{LeaseId: id, Runs: []uint64{i, 1}, Kill: terminate}})
		}
		return
	}
	s.cancelSet(j, one)
}

// rerun makes children of a terminal job runnable again with a fresh budget.
func (s *State) rerun(op *journalv1.Rerun) (Result, error) {
	j := s.jobs[op.GetJob()]
	if j == nil {
		return Result{}, fmt.Errorf("job %d: %w", op.GetJob(), ErrNotFound)
	}
	if !j.terminal {
		return Result{}, fmt.Errorf("%w: job %d has not ended yet: wait for it or terminate it first", ErrConflict, j.ID)
	}
	if op.GetFailedOnly() && j.failed == 0 {
		return Result{}, nil
	}
	j = s.mut(j.ID)
	count := j.cancelled.Len() + j.depFailed.Len()
	j.cancelled.Reset()
	j.depFailed.Reset()
	j.killing.Reset()
	j.stopping.Reset()
	for base, c := range j.chunks {
		for k := range c.recs {
			p := c.recs[k].phase()
			if !p.terminal() || op.GetFailedOnly() && p != phaseFailed {
				continue
			}
			c, k, r := j.rec(base<<chunkBits + uint64(k))
			count++
			if p == phaseSkipped {
				j.skipped--
				*r = record{}
				c.setOutput(k, nil)
				continue
			}
			r.setPhase(phaseWaiting)
			r.setLost(0)
			if c.base == nil {
				c.base = make(map[uint16]uint16)
			}
			c.base[k] = r.attempt
		}
	}
	if op.GetFailedOnly() {
		j.failed = 0
	} else {
		j.failed, j.succeeded, j.best = 0, 0, Best{}
	}
	j.terminal, j.cancel, j.terminate = false, false, false
	j.Stopped = 0
	s.live++
	if i := slices.Index(s.done, j.ID); i >= 0 {
		s.done = slices.Delete(s.done, i, i+1)
	}
	s.checkWhole(j)
	s.release(j)
	s.settle(j)
	return Result{Count: count}, nil
}

// purge forgets terminal jobs that nothing waits for.
func (s *State) purge(op *journalv1.Purge) (Result, error) {
	for _, id := range op.GetJobs() {
		if !s.Purgeable(id) {
			return Result{}, fmt.Errorf("purge of job %d: %w", id, ErrConflict)
		}
	}
	for _, id := range op.GetJobs() {
		j := s.jobs[id]
		if j == nil { // named twice
			continue
		}
		delete(s.jobs, id)
		delete(s.byKey, j.Key)
		if s.byName[j.Name()] = removeSorted(s.byName[j.Name()], id); len(s.byName[j.Name()]) == 0 {
			delete(s.byName, j.Name())
		}
		for lease, job := range s.retired {
			if job == id {
				delete(s.retired, lease)
			}
		}
		s.emit(ForgetEffect{Job: id})
	}
	s.done = slices.DeleteFunc(s.done, func(id uint64) bool { return s.jobs[id] == nil })
	return Result{}, nil
}

// Purgeable says that the job has ended and no living job waits for it.
func (s *State) Purgeable(id uint64) bool {
	j := s.jobs[id]
	if j == nil || !j.terminal {
		return false
	}
	for _, d := range j.dependents {
		if d := s.jobs[d]; d != nil && !d.terminal {
			return false
		}
	}
	return true
}
