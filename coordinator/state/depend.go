// SPDX-License-Identifier: Apache-2.0

package state

import (
	"maps"
	"slices"

	"github.com/volley-batch/volley/sharding"
)

// release makes ready what nothing holds back: at submit, when the last
// whole-job dependency is satisfied, and after a rerun. What is leased, has
// ended, or has failed unstarted, stays as it is.
func (s *State) release(j *Job) {
	if j.cancel || j.Waiting() > 0 {
		return
	}
	free := s.unstarted(j)
	if !j.hasChildDeps() {
		j.ready.Union(free)
		return
	}
	// By sets, never child by child: two arrays of 10^8 that wait for each other
	// cost what their records cost.
	ok, failed := free.Clone(), new(sharding.Set)
	if j.sequential {
		done, bad := s.outcomes(j)
		next := shifted(done)
		next.Add(0)
		ok.Intersect(next)
		failed.Union(shifted(bad))
	}
	for _, d := range j.depends {
		dep := s.jobs[d.GetJob()]
		if d.GetType() != nToN || dep == nil { // a purged one holds nothing back
			continue
		}
		done, bad := s.outcomes(dep)
		ok.Intersect(done)
		failed.Union(bad)
	}
	failed.Intersect(free)
	ok.Subtract(failed)
	j.ready.Union(ok)
	s.dependencyFailed(j, failed)
}

// shifted is the set of those that follow one of the set.
func shifted(set *sharding.Set) *sharding.Set {
	next := new(sharding.Set)
	for r := range set.Ranges() {
		next.AddRange(r.First+1, r.Count)
	}
	return next
}

// outcomes are the children that have succeeded and those that have failed.
func (s *State) outcomes(j *Job) (done, failed *sharding.Set) {
	done, failed = new(sharding.Set), j.cancelled.Clone()
	failed.Union(j.depFailed)
	for _, base := range slices.Sorted(maps.Keys(j.chunks)) {
		for k := range j.chunks[base].recs {
			switch i := base<<chunkBits + uint64(k); j.chunks[base].recs[k].phase() {
			case phaseSucceeded, phaseSkipped:
				done.Add(i)
			case phaseFailed:
				failed.Add(i)
			default:
			}
		}
	}
	return done, failed
}

// ended is every child that has ended, in whatever way.
func (s *State) ended(j *Job) *sharding.Set {
	done, failed := s.outcomes(j)
	done.Union(failed)
	return done
}

// unstarted is every child that is neither leased nor ended.
func (s *State) unstarted(j *Job) *sharding.Set {
	rest := sharding.NewSet(sharding.Run{First: 0, Count: j.Size})
	rest.Subtract(s.ended(j))
	for _, id := range j.leases {
		rest.Subtract(s.leases[id].remaining)
	}
	return rest
}

// childReleased says whether the child-level dependencies of child i are
// satisfied, or can never be.
func (s *State) childReleased(j *Job, i uint64) (ok, failed bool) {
	ok = true
	if j.sequential && i > 0 {
		if j.childFailed(i - 1) {
			return false, true
		}
		ok = j.childDone(i - 1)
	}
	for _, d := range j.depends {
		if d.GetType() != nToN {
			continue
		}
		dep := s.jobs[d.GetJob()]
		switch {
		case dep == nil: // purged: only jobs without waiting dependents are
		case dep.childFailed(i):
			return false, true
		case !dep.childDone(i):
			ok = false
		}
	}
	return ok, false
}

// childEnded tells those that wait for child i, in this job and in others.
func (s *State) childEnded(j *Job, i uint64) {
	if j.sequential && i+1 < j.Size {
		s.recheckChild(j, i+1)
	}
	for _, id := range j.dependents {
		d := s.mut(id)
		if d == nil || d.terminal {
			continue
		}
		for n, dep := range d.depends {
			switch {
			case dep.GetJob() != j.ID:
			case dep.GetType() == nToN:
				s.recheckChild(d, i)
			case dep.Index != nil && dep.GetIndex() == i:
				s.wholeChanged(d, j, n)
			}
		}
		s.settle(d)
	}
}

// jobEnded tells the jobs that wait for the whole of j.
func (s *State) jobEnded(j *Job) {
	for _, id := range j.dependents {
		d := s.mut(id)
		if d == nil || d.terminal {
			continue
		}
		for n, dep := range d.depends {
			if dep.GetJob() == j.ID && dep.Index == nil && dep.GetType() != nToN {
				s.wholeChanged(d, j, n)
			}
		}
		s.settle(d)
	}
}

// wholeChanged looks again at the n-th dependency of d, which is on j.
func (s *State) wholeChanged(d, j *Job, n int) {
	ok, failed := wholeDependency(j, d.depends[n])
	switch {
	case d.satisfied>>n&1 == 1:
	case failed:
		s.failUnstarted(d)
	case ok:
		d.satisfied |= 1 << n
		s.release(d)
	}
}

// recheckChild makes child i ready or failed if its dependencies say so now.
func (s *State) recheckChild(j *Job, i uint64) {
	_, r := j.peek(i)
	if r.phase().terminal() || j.cancelled.Contains(i) || j.depFailed.Contains(i) || s.isLeased(j, i) {
		return
	}
	switch ok, failed := s.childReleased(j, i); {
	case failed:
		s.dependencyFailed(j, sharding.NewSet(sharding.Run{First: i, Count: 1}))
	case ok && !j.cancel && j.Waiting() == 0:
		j.ready.Add(i)
	}
}

// dependencyFailed fails the given children, and in a sequential job all that
// follow one of them without a gap: as ranges, since a chain may be 10^8 long.
// Behind a gap, a child has a predecessor that has started or succeeded.
func (s *State) dependencyFailed(j *Job, hit *sharding.Set) {
	if hit.Empty() {
		return
	}
	if j.sequential {
		chain := new(sharding.Set)
		for r := range s.unstarted(j).Ranges() {
			part := sharding.NewSet(r)
			part.Intersect(hit)
			if first, ok := part.Min(); ok {
				chain.AddRange(first, r.End()-first)
			}
		}
		hit.Union(chain)
	}
	s.failSet(j, hit)
}

// failUnstarted fails everything of a job that no lease holds, because a
// dependency of the whole job failed.
func (s *State) failUnstarted(j *Job) { s.failSet(j, s.unstarted(j)) }

func (s *State) failSet(j *Job, hit *sharding.Set) {
	if hit.Empty() {
		return
	}
	j.ready.Subtract(hit)
	j.depFailed.Union(hit)
	j.failed += hit.Len()
	s.setFailed(j, hit)
}

// setFailed tells child-level dependents that all of hit have failed. Jobs
// that have none pay nothing, so cancelling 10^8 children stays quick.
func (s *State) setFailed(j *Job, hit *sharding.Set) {
	for _, id := range j.dependents {
		if d := s.mut(id); d != nil && !d.terminal {
			s.dependentFailed(d, j, hit)
		}
	}
}

// dependentFailed handles one dependent of setFailed. For a single index the
// cheap test of recheckChild serves; unstarted walks all records of d.
func (s *State) dependentFailed(d, j *Job, hit *sharding.Set) {
	first, _ := hit.Min()
	for _, dep := range d.depends {
		switch {
		case dep.GetJob() != j.ID:
		case dep.GetType() == nToN && hit.Len() == 1:
			s.recheckChild(d, first)
		case dep.GetType() == nToN:
			mine := s.unstarted(d)
			mine.Intersect(hit)
			s.dependencyFailed(d, mine)
		case dep.Index != nil && hit.Contains(dep.GetIndex()):
			s.failUnstarted(d)
		}
	}
	s.settle(d)
}

// isLeased says whether some lease of the job holds child i.
func (s *State) isLeased(j *Job, i uint64) bool {
	for _, id := range j.leases {
		if s.leases[id].remaining.Contains(i) {
			return true
		}
	}
	return false
}
