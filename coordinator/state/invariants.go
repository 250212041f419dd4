// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"slices"

	"github.com/volley-batch/volley/sharding"
)

// CheckInvariants walks everything and returns the first thing that is not
// as the comments of this package promise. Tests call it after every entry;
// it costs as much as the state is large.
func (s *State) CheckInvariants() error {
	slots := map[uint32]Shape{}
	for id, l := range s.leases {
		j, w := s.jobs[l.Job], s.Worker(l.Worker)
		switch {
		case j == nil || w == nil:
			return fmt.Errorf("lease %d: job %d or worker %d is gone", id, l.Job, l.Worker)
		case l.remaining.Empty():
			return fmt.Errorf("lease %d is empty", id)
		case w.Status == NodeLost || w.Status == NodeLeft:
			return fmt.Errorf("lease %d: worker %s is lost", id, w.Name())
		case l.slots != min(l.Parallel, l.remaining.Len()):
			return fmt.Errorf("lease %d: charged with %d slots, parallel %d, remaining %d", id, l.slots, l.Parallel, l.remaining.Len())
		case !subset(l.running, l.remaining) || !subset(l.asked, l.remaining):
			return fmt.Errorf("lease %d: running or asked is not within remaining", id)
		case !contains(j.leases, id) || !contains(w.leases, id):
			return fmt.Errorf("lease %d is not listed with its job and worker", id)
		}
		if _, in := s.backlog[id]; in != (l.remaining.Len() > l.slots+l.asked.Len()) {
			return fmt.Errorf("lease %d: backlog is %v with remaining %d, slots %d, asked %d", id, in, l.remaining.Len(), l.slots, l.asked.Len())
		}
		slots[w.Num] = slots[w.Num].add(j.Shape, int64(l.slots))
	}
	if len(s.backlog) > len(s.leases) {
		return fmt.Errorf("backlog lists %d leases of %d", len(s.backlog), len(s.leases))
	}
	ready := 0
	for _, w := range s.Workers() {
		if w.Status == NodeReady {
			ready++
		}
		if w.Used != slots[w.Num] {
			return fmt.Errorf("worker %s: used %+v, its leases add up to %+v", w.Name(), w.Used, slots[w.Num])
		}
	}
	if ready != s.ready {
		return fmt.Errorf("%d workers are ready, counted as %d", ready, s.ready)
	}
	if err := s.checkNumbers(); err != nil {
		return err
	}
	live := 0
	for _, j := range s.jobs {
		if err := s.checkJob(j); err != nil {
			return fmt.Errorf("job %d: %w", j.ID, err)
		}
		if !j.terminal {
			live++
		}
	}
	if live != s.live {
		return fmt.Errorf("%d live jobs, counted as %d", live, s.live)
	}
	return s.checkClasses()
}

// checkNumbers looks at what is counted or listed once for the cluster.
func (s *State) checkNumbers() error {
	for id := range s.jobs {
		if id == 0 || id >= s.nextJob {
			return fmt.Errorf("job %d: the next number is %d", id, s.nextJob)
		}
	}
	for id := range s.leases {
		if id == 0 || id >= s.nextLease {
			return fmt.Errorf("lease %d: the next number is %d", id, s.nextLease)
		}
	}
	done := map[uint64]bool{}
	for _, id := range s.done {
		if j := s.jobs[id]; j == nil || !j.terminal || done[id] {
			return fmt.Errorf("job %d is listed as done and is not, or twice", id)
		}
		done[id] = true
	}
	if len(done) != len(s.jobs)-s.live {
		return fmt.Errorf("%d jobs are done, listed are %d", len(s.jobs)-s.live, len(done))
	}
	return nil
}

func (s *State) checkJob(j *Job) error {
	if j.Size == 0 || j.Size > maxSize {
		return fmt.Errorf("size %d", j.Size)
	}
	if !subset(j.stopping, j.killing) {
		return fmt.Errorf("stopping is not within killing")
	}
	for i, d := range j.depends {
		dep := s.jobs[d.GetJob()]
		if dep != nil && (dep.ID >= j.ID || d.Index != nil && d.GetIndex() >= dep.Size || d.GetType() == nToN && dep.Size != j.Size) {
			return fmt.Errorf("dependency %d cannot be", i)
		}
	}
	seen := new(sharding.Set)
	disjoint := func(name string, set *sharding.Set) error {
		if i, ok := set.Max(); ok && i >= j.Size {
			return fmt.Errorf("index %d of %s is not below its size %d", i, name, j.Size)
		}
		both := set.Clone()
		both.Intersect(seen)
		if i, ok := both.Min(); ok {
			return fmt.Errorf("index %d is in %s and in another set", i, name)
		}
		seen.Union(set)
		return nil
	}
	leased, running, slots := uint64(0), uint64(0), uint64(0)
	for _, id := range j.leases {
		l := s.leases[id]
		if l == nil || l.Job != j.ID {
			return fmt.Errorf("lists lease %d, which is not its own", id)
		}
		leased += l.remaining.Len()
		running += l.running.Len()
		slots += l.slots
		if err := disjoint(fmt.Sprintf("lease %d", id), l.remaining); err != nil {
			return err
		}
	}
	for _, n := range []struct {
		name string
		set  *sharding.Set
	}{{"ready", j.ready}, {"cancelled", j.cancelled}, {"depFailed", j.depFailed}} {
		if err := disjoint(n.name, n.set); err != nil {
			return err
		}
	}
	var succeeded, failed, skipped uint64
	for base, c := range j.chunks {
		for k := range c.recs {
			i := base<<chunkBits + uint64(k)
			p := c.recs[k].phase()
			if p.terminal() && seen.Contains(i) {
				return fmt.Errorf("index %d has ended and is in a set as well", i)
			}
			switch p {
			case phaseSkipped:
				skipped++
				succeeded++
			case phaseSucceeded:
				succeeded++
			case phaseFailed:
				failed++
			case phaseRunning:
				if !s.isLeased(j, i) {
					return fmt.Errorf("index %d runs without a lease", i)
				}
			default:
			}
		}
	}
	failed += j.cancelled.Len() + j.depFailed.Len()
	got := [6]uint64{j.leased, j.running, j.slots, j.succeeded, j.failed, j.skipped}
	if want := [6]uint64{leased, running, slots, succeeded, failed, skipped}; got != want {
		return fmt.Errorf("counters (leased, running, slots, succeeded, failed, skipped) are %v, should be %v", got, want)
	}
	if j.ready.Len()+leased+succeeded+failed > j.Size {
		return fmt.Errorf("more children than its size %d", j.Size)
	}
	if j.terminal != (succeeded+failed == j.Size) {
		return fmt.Errorf("terminal is %v with %d of %d ended", j.terminal, succeeded+failed, j.Size)
	}
	if c := j.Spec.GetConcurrency(); c > 0 && j.slots > c {
		return fmt.Errorf("%d slots exceed its concurrency %d", j.slots, c)
	}
	return nil
}

func (s *State) checkClasses() error {
	filed := map[uint64]bool{}
	for n, c := range s.classes {
		if n > 0 && s.classes[n-1].Key.compare(c.Key) >= 0 {
			return fmt.Errorf("classes are out of order at %d", n)
		}
		if !slices.IsSorted(c.Jobs()) || len(c.Jobs()) == 0 {
			return fmt.Errorf("class %d: jobs %v", n, c.Jobs())
		}
		for _, id := range c.Jobs() {
			filed[id] = true
		}
	}
	for id, j := range s.jobs {
		if want := !j.ready.Empty() && j.Room() > 0; filed[id] != want {
			return fmt.Errorf("job %d: filed is %v, should be %v", id, filed[id], want)
		}
		delete(filed, id)
	}
	if len(filed) > 0 {
		return fmt.Errorf("classes list jobs that do not exist: %v", filed)
	}
	return nil
}

func subset(a, b *sharding.Set) bool {
	rest := a.Clone()
	rest.Subtract(b)
	return rest.Empty()
}

func contains(ids []uint64, id uint64) bool {
	_, ok := slices.BinarySearch(ids, id)
	return ok
}
