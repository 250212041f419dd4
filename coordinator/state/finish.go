// SPDX-License-Identifier: Apache-2.0

package state

import (
	"math"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// ended is how one attempt ended, as its worker reports it.
type ended struct {
	start    int64 // Unix ms
	us       uint64
	outcome  volleyv1.Outcome
	exit     uint16
	peakKiB  uint64
	cpuMS    uint64
	detail   string
	metric   float64
	output   []byte
	uncharge bool // does not count against the budget
}

// finish records the end of an attempt of child i under lease l, whose
// remaining set has lost i already, and decides what becomes of the child.
func (s *State) finish(j *Job, l *Lease, w *Worker, i uint64, e *ended) {
	c, k, r := j.rec(i)
	r.keepHistory(c, k)
	r.setStart(e.start - j.Created)
	r.duration = packDuration(e.us)
	r.worker = w.Num
	r.peakKiB = uint32(min(e.peakKiB, math.MaxUint32))
	r.cpu = packDuration(min(e.cpuMS, math.MaxUint64/1000) * 1000)
	r.attempt = uint16(min(l.Attempt, math.MaxUint16))
	r.exit = e.exit
	j.attempts++
	j.taskUS += e.us
	if j.Started == 0 || e.start < j.Started {
		j.Started = max(e.start, j.Created)
	}
	if len(e.output) > MaxOutput {
		e.output = nil // not that of an earlier attempt either
	}
	c.setOutput(k, e.output)
	c.setMetric(k, e.metric)

	status := s.statusOf(j, w, i, e)
	r.reason = j.intern(status, e.detail)
	collateral := e.outcome == volleyv1.Outcome_OUTCOME_KILLED && !j.terminate && !j.killing.Contains(i)
	if e.uncharge || collateral {
		c.addBase(k, 1)
	}
	if e.outcome == volleyv1.Outcome_OUTCOME_UNSPECIFIED {
		r.setPhase(phaseSucceeded)
		j.succeeded++
		j.offerBest(i, e.metric)
		j.spare(i)
		s.childEnded(j, i)
		return
	}
	if s.again(j, c, k, r, i, status, e) {
		r.setPhase(phaseWaiting)
		// Retried children go to the front of the queue: ready is taken from
		// the lowest index, and those were granted first.
		j.ready.Add(i)
		return
	}
	r.setPhase(phaseFailed)
	j.failed++
	j.spare(i)
	s.childEnded(j, i)
}

func (s *State) statusOf(j *Job, w *Worker, i uint64, e *ended) string {
	switch {
	case e.uncharge:
		return hostReason(w.Name())
	case e.outcome == volleyv1.Outcome_OUTCOME_KILLED && !j.terminate && !j.killing.Contains(i):
		return reasonCollateral
	case e.outcome == volleyv1.Outcome_OUTCOME_NOT_STARTED:
		return reasonNotStarted
	case e.outcome == volleyv1.Outcome_OUTCOME_TIMED_OUT:
		return reasonTimedOut
	case e.outcome == volleyv1.Outcome_OUTCOME_KILLED:
		return j.cancelReason
	default:
		return reasonExited
	}
}

// again decides whether a failed attempt is followed by another.
func (s *State) again(j *Job, c *chunk, k uint16, r *record, i uint64, status string, e *ended) bool {
	if j.cancel || j.killing.Contains(i) || e.outcome == volleyv1.Outcome_OUTCOME_TIMED_OUT || r.attempt == math.MaxUint16 {
		return false
	}
	if status == reasonCollateral {
		// Nobody asked for this one: it shared a process with one that was
		// terminated.
		return true
	}
	if e.uncharge {
		if ruleAction(j.Spec.GetRetry(), status, e.detail, e.exit) == volleyv1.RetryAction_RETRY_ACTION_EXIT {
			return false
		}
		r.setLost(r.lost() + 1)
		return r.lost() <= maxLost
	}
	charged := int(r.attempt) - int(c.base[k])
	return shouldRetry(j.Spec.GetRetry(), charged, status, e.detail, e.exit)
}

// offerBest takes the value if it is the best so far. On a tie the lower index
// stays, so that the answer does not depend on who finished first.
func (j *Job) offerBest(i uint64, v float64) {
	if math.IsNaN(v) || j.Spec.GetMetric().GetName() == "" {
		return
	}
	better := v < j.best.Value
	if j.Spec.GetMetric().GetGoal() == volleyv1.Goal_GOAL_MAX {
		better = v > j.best.Value
	}
	if !j.best.OK || better || v == j.best.Value && i < j.best.Index {
		j.best = Best{OK: true, Index: i, Value: v}
	}
}

// giveBack returns granted indexes of a lease that were not executed.
func (s *State) giveBack(j *Job, l *Lease, runs *sharding.Set) {
	l.remaining.Subtract(runs)
	l.running.Subtract(runs)
	l.asked.Subtract(runs)
	j.leased -= runs.Len()
	back := runs.Clone()
	cancelled := new(sharding.Set)
	if j.cancel {
		cancelled, back = back, cancelled
	} else if !j.killing.Empty() {
		cancelled = back.Clone()
		cancelled.Intersect(j.killing)
		back.Subtract(cancelled)
	}
	s.cancelSet(j, cancelled)
	j.ready.Union(back)
}

func (s *State) cancelSet(j *Job, set *sharding.Set) {
	if set.Empty() {
		return
	}
	j.ready.Subtract(set)
	j.killing.Subtract(set)
	j.stopping.Subtract(set)
	j.cancelled.Union(set)
	j.failed += set.Len()
	s.setFailed(j, set)
	if !j.sequential {
		return
	}
	// Usually one run. Several come back together when results that were taken
	// over have cut the chain into pieces.
	for r := range set.Ranges() {
		if r.End() < j.Size {
			s.recheckChild(j, r.End())
		}
	}
}

// charge keeps the accounts of a lease, its worker and its job true after its
// remaining set or parallel changed, and drops the lease when nothing remains.
func (s *State) charge(j *Job, l *Lease) {
	w := s.workers[l.Worker]
	slots := min(l.Parallel, l.remaining.Len())
	if slots != l.slots {
		w.Used = w.Used.add(j.Shape, int64(slots)-int64(l.slots))
		j.slots += slots - l.slots
		l.slots = slots
	}
	s.dirtyWorkers[w.Num] = struct{}{}
	s.noteBacklog(l)
	if l.remaining.Empty() {
		delete(s.leases, l.ID)
		j.leases = removeSorted(j.leases, l.ID)
		w.leases = removeSorted(w.leases, l.ID)
	}
}

func (s *State) noteBacklog(l *Lease) {
	if l.remaining.Len() > l.slots+l.asked.Len() {
		s.backlog[l.ID] = struct{}{}
	} else {
		delete(s.backlog, l.ID)
	}
}

func removeSorted(ids []uint64, id uint64) []uint64 {
	if i, ok := slices.BinarySearch(ids, id); ok {
		return slices.Delete(ids, i, i+1)
	}
	return ids
}

// settle brings everything that is derived from the job's children up to date
// and tells the world that the job changed. It is the last step of every
// change to a job.
func (s *State) settle(j *Job) {
	s.refile(j)
	if !j.terminal && j.succeeded+j.failed == j.Size {
		j.terminal = true
		j.Stopped = s.now
		s.live--
		s.done = append(s.done, j.ID)
		s.emit(JobEffect{Job: j.ID, Terminal: true})
		s.jobEnded(j)
		return
	}
	s.emit(JobEffect{Job: j.ID})
}
