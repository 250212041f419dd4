// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"slices"
)

// ClassKey is what the scheduler looks at instead of tasks: jobs with the same
// key are interchangeable but for their age.
type ClassKey struct {
	Priority int32
	Queue    string
	Shape    Shape
}

// Class is the jobs of one key that have ready children and room under their
// own concurrency, oldest first.
type Class struct {
	Key ClassKey
	// jobs[head:] is ascending. Jobs mostly leave from the front, which only
	// moves head; a plain slice would move 10^5 ids for each.
	jobs []uint64
	head int
}

// Jobs of the class, oldest first.
func (c *Class) Jobs() []uint64 { return c.jobs[c.head:] }

func (c *Class) insert(id uint64) {
	if n := len(c.jobs); n == c.head || c.jobs[n-1] < id {
		c.jobs = append(c.jobs, id)
		return
	}
	i, found := slices.BinarySearch(c.Jobs(), id)
	if found {
		return
	}
	if i == 0 && c.head > 0 {
		c.head--
		c.jobs[c.head] = id
		return
	}
	c.jobs = slices.Insert(c.jobs, c.head+i, id)
}

func (c *Class) remove(id uint64) {
	i, found := slices.BinarySearch(c.Jobs(), id)
	if !found {
		return
	}
	if i > 0 {
		c.jobs = slices.Delete(c.jobs, c.head+i, c.head+i+1)
		return
	}
	c.head++
	if c.head > 64 && c.head > len(c.jobs)/2 {
		c.jobs = slices.Delete(c.jobs, 0, c.head)
		c.head = 0
	}
}

func (a ClassKey) compare(b ClassKey) int {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(a.Queue, b.Queue),
		// Large shapes first: small ones fill the gaps that are left.
		cmp.Compare(b.Shape.GPU, a.Shape.GPU),
		cmp.Compare(b.Shape.CPUMilli, a.Shape.CPUMilli),
		cmp.Compare(b.Shape.Memory, a.Shape.Memory),
	)
}

// Classes with work, by priority, descending.
func (s *State) Classes() []*Class { return s.classes }

func (s *State) keyOf(j *Job) ClassKey {
	return ClassKey{Priority: j.Spec.GetPriority(), Queue: j.Spec.GetQueue(), Shape: j.Shape}
}

// refile puts the job into its class or takes it out, by whether it has work
// that may be leased now. Call after any change of ready or slots.
func (s *State) refile(j *Job) {
	key := s.keyOf(j)
	i, found := slices.BinarySearchFunc(s.classes, key, func(c *Class, k ClassKey) int { return c.Key.compare(k) })
	if !j.ready.Empty() && j.Room() > 0 {
		if !found {
			s.classes = slices.Insert(s.classes, i, &Class{Key: key})
		}
		s.classes[i].insert(j.ID)
		return
	}
	if !found {
		return
	}
	s.classes[i].remove(j.ID)
	if len(s.classes[i].Jobs()) == 0 {
		s.classes = slices.Delete(s.classes, i, i+1)
	}
}
