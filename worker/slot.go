// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// verdict is why a running task was told to stop.
type verdict uint8

const (
	verdictNone verdict = iota
	// The coordinator revoked it: reported as OUTCOME_KILLED.
	verdictKill
	// The worker leaves: reported as preempted.
	verdictPreempt
	// The lease is not current: not reported.
	verdictDrop
	// It wrote too much: reported as OUTCOME_FAILED.
	verdictOutput
)

// stopSlot tells the task of s to stop. The first verdict stays: a task that
// the coordinator has killed is not queued again because the worker leaves.
func (a *Agent) stopSlot(s *slot, v verdict, reason string) {
	if s.verdict == verdictNone {
		s.verdict = v
	}
	s.task.stop(reason)
}

// slot runs one task after the other.
type slot struct {
	id    int
	agent *Agent
	wake  chan struct{} // closed: end
	task  Task
	runs  []sharding.Run

	// Guarded by Agent.mu.
	lease   *lease // nil: idle
	verdict verdict
	told    bool // reported as started
}

func (s *slot) loop() {
	run := s.agent.exec.newSlot()
	defer run.close()
	var r Result
	for {
		r = Result{}
		run.run(&s.task, &r)
		if r.StartedAt.IsZero() {
			r.StartedAt = time.Now().Add(-r.Duration)
		}
		if s.agent.finish(s, &r) {
			continue
		}
		if _, ok := <-s.wake; !ok {
			return
		}
	}
}

// pick takes the next task into the idle slot s; false: nothing may start.
//
// Leases go by priority, then age. One that does not fit keeps what it needs
// of the free capacity: small tasks behind it may use the rest, not starve it.
// Blocking everything behind it instead would leave the CPUs idle while a task
// waits for a GPU.
func (a *Agent) pick(s *slot) bool {
	if a.stopping {
		return false
	}
	free := a.free
	for _, l := range a.ready {
		if l.running >= l.parallel || !l.job.ready {
			continue
		}
		if !free.fits(l.need) {
			if free.reserve(l.need); free.cpu == 0 {
				return false // every task takes some
			}
			continue
		}
		a.start(s, l)
		return true
	}
	return false
}

// start moves the smallest unstarted index of l, or several for one process,
// into the slot.
func (a *Agent) start(s *slot, l *lease) {
	p := &l.parts[0]
	first, _ := p.unstarted.Min()
	for i := 1; i < len(l.parts); i++ {
		q := &l.parts[i]
		if f, ok := q.unstarted.Min(); ok && (p.unstarted.Empty() || f < first) {
			p, first = q, f
		}
	}
	count := uint64(1)
	if want := l.job.fuse(p.attempt, l.unstarted, l.parallel); want > 1 {
		s.runs = p.unstarted.AppendFront(s.runs[:0], want)
		count = s.runs[0].Count
	}
	p.unstarted.RemoveRange(first, count)
	was := l.unstarted
	l.unstarted -= count
	attempt := p.attempt
	a.setReady(l, was)
	l.running++
	a.free.take(l.need)
	a.busy++
	s.lease, s.verdict, s.told = l, verdictNone, false
	t := &s.task
	t.reset()
	t.prep = l.job.prep
	t.job, t.Job, t.JobID, t.Spec, t.Size = l.job, l.job.number, l.job.id, l.job.spec, l.job.size
	t.Index, t.Count, t.Attempt, t.Lease = first, count, attempt, l.id
}

// kick starts what may start in slots that are idle or not made yet.
func (a *Agent) kick() {
	for len(a.ready) > 0 && a.free.cpu > 0 && !a.stopping {
		var s *slot
		if n := len(a.idle); n > 0 {
			s = a.idle[n-1]
			if !a.pick(s) {
				return
			}
			a.idle = a.idle[:n-1]
			s.wake <- struct{}{} // room for one; the slot waits or is about to
			continue
		}
		if len(a.slots) >= a.cfg.MaxSlots || a.closing {
			return
		}
		s = &slot{id: len(a.slots), agent: a, wake: make(chan struct{}, 1)}
		s.task.agent = a
		if !a.pick(s) {
			return
		}
		a.slots = append(a.slots, s)
		a.slotsWG.Go(s.loop)
	}
}

// finish records how the slot's task ended and picks the next one for it;
// false: the slot is idle now.
func (a *Agent) finish(s *slot, r *Result) bool {
	a.mu.Lock()
	l, t := s.lease, &s.task
	s.lease = nil
	l.running--
	a.free.give(l.need)
	a.busy--
	if !l.dropped {
		a.record(l, s, t, r)
	}
	more := a.pick(s)
	if !more {
		if a.closing {
			close(s.wake)
		} else {
			a.idle = append(a.idle, s)
		}
		a.notify()
	}
	// The task that ended may have been larger than what took its place.
	a.kick()
	a.mu.Unlock()
	return more
}

// record puts the end of a task into the open account of its lease.
func (a *Agent) record(l *lease, s *slot, t *Task, r *Result) {
	acc := a.account(l)
	if acc.bytes >= sealAt {
		// Seal it; the next report takes it as it is.
		l.acc = nil
		acc = a.account(l)
		a.setUrgent()
	}
	switch s.verdict {
	case verdictPreempt:
		acc.rep.Preempted = append(acc.rep.Preempted, t.Index, t.Count)
		a.setUrgent()
		return
	case verdictKill:
		r.Outcome = volleyv1.Outcome_OUTCOME_KILLED
		r.isolated = nil
	case verdictOutput:
		if r.Outcome == volleyv1.Outcome_OUTCOME_KILLED {
			r.Outcome = volleyv1.Outcome_OUTCOME_FAILED
		}
	}
	failed := r.Outcome != volleyv1.Outcome_OUTCOME_UNSPECIFIED
	if len(r.isolated) > 0 {
		for i := range r.isolated {
			p := &r.isolated[i]
			failed = failed || p.result.Outcome != volleyv1.Outcome_OUTCOME_UNSPECIFIED
			acc.add(p.first, p.count, &p.result, l.job.metric)
		}
	} else {
		acc.add(t.Index, t.Count, r, l.job.metric)
	}
	a.finished += t.Count
	if !failed {
		l.job.measure(r.Duration, t.Count)
	}
	if failed || a.unstart < a.lowWater || l.unstarted == 0 && l.running == 0 {
		a.setUrgent()
	}
}
