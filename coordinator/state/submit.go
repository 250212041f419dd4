// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"slices"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

const nToN = volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N

// maxDepends is the number of bits in Job.satisfied.
const maxDepends = 64

// maxSize is the largest number of children: indexes are below 2^63.
const maxSize = 1<<63 - 1

func (s *State) submit(op *journalv1.Submit) (Result, error) {
	if id, ok := s.byKey[op.GetIdempotencyKey()]; ok && op.GetIdempotencyKey() != "" {
		return Result{Job: id, Existed: true}, nil
	}
	if err := s.checkSubmit(op); err != nil {
		return Result{}, fmt.Errorf("submit: %w", err)
	}
	j := &Job{
		epoch: s.epoch, ID: s.nextJob, Spec: op.GetSpec(), Size: op.GetSize(), Array: op.GetArray(),
		Key: op.GetIdempotencyKey(), Shape: ShapeOf(op.GetSpec().GetResources()), Created: s.now,
		ready: new(sharding.Set), cancelled: new(sharding.Set), depFailed: new(sharding.Set), killing: new(sharding.Set), stopping: new(sharding.Set),
		depends: op.GetDependsOn(), chunks: map[uint64]*chunk{},
		reasons: []reason{{}},
	}
	s.nextJob++
	s.live++
	s.jobs[j.ID] = j
	s.byName[j.Name()] = append(s.byName[j.Name()], j.ID)
	if j.Key != "" {
		s.byKey[j.Key] = j.ID
	}
	for _, r := range op.GetReuse() {
		s.takeOver(j, r)
	}
	s.hookDependencies(j)
	s.release(j)
	s.settle(j)
	return Result{Job: j.ID}, nil
}

func (s *State) checkSubmit(op *journalv1.Submit) error {
	size := op.GetSize()
	if size == 0 || size > maxSize {
		return fmt.Errorf("%w: size %d is not in [1, 2^63-1]", ErrInvalid, size)
	}
	if op.GetSpec().GetName() == "" {
		return fmt.Errorf("%w: the job has no name", ErrInvalid)
	}
	if n := len(op.GetDependsOn()); n > maxDepends {
		return fmt.Errorf("%w: dependsOn has %d entries, at most %d are allowed", ErrInvalid, n, maxDepends)
	}
	for i, d := range op.GetDependsOn() {
		sequential := d.GetType() == volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL
		if sequential && d.GetJob() == 0 {
			continue
		}
		dep := s.jobs[d.GetJob()]
		if dep == nil {
			return fmt.Errorf("dependsOn[%d]: job %d: %w", i, d.GetJob(), ErrNotFound)
		}
		if d.Index != nil && d.GetIndex() >= dep.Size {
			return fmt.Errorf("dependsOn[%d]: %w: job %d has %d children, there is no index %d", i, ErrInvalid, dep.ID, dep.Size, d.GetIndex())
		}
		if d.GetType() == nToN {
			if d.Index != nil {
				return fmt.Errorf("dependsOn[%d]: %w: N_TO_N names a whole job, not a child", i, ErrInvalid)
			}
			if dep.Size != size {
				return fmt.Errorf("dependsOn[%d]: %w: N_TO_N needs two arrays of the same size; job %d has %d children, this one %d",
					i, ErrInvalid, dep.ID, dep.Size, size)
			}
		}
	}
	end := uint64(0)
	for i, r := range op.GetReuse() {
		from := s.jobs[r.GetFromJob()]
		switch {
		case from == nil:
			return fmt.Errorf("reuse[%d]: job %d: %w", i, r.GetFromJob(), ErrNotFound)
		case r.GetFirst() < end, r.GetCount() == 0, r.GetCount() > size, r.GetFirst() > size-r.GetCount():
			return fmt.Errorf("reuse[%d]: %w: run %d+%d of %d", i, ErrInvalid, r.GetFirst(), r.GetCount(), size)
		case r.GetCount() > from.Size, r.GetFromFirst() > from.Size-r.GetCount():
			return fmt.Errorf("reuse[%d]: %w: run %d+%d of job %d with %d children", i, ErrInvalid, r.GetFromFirst(), r.GetCount(), from.ID, from.Size)
		}
		end = r.GetFirst() + r.GetCount()
	}
	return nil
}

// takeOver copies the records of children that an earlier job has done. They
// are copied rather than referred to, so that the earlier job can be purged.
// A child that has not succeeded there (it was right when the client planned,
// and a rerun came between) is left to run.
func (s *State) takeOver(j *Job, r *journalv1.Reuse) {
	from := s.jobs[r.GetFromJob()]
	done, _ := s.outcomes(from)
	done.Intersect(sharding.NewSet(sharding.Run{First: r.GetFromFirst(), Count: r.GetCount()}))
	for o := range done.All() {
		src, old := from.peek(o)
		i := r.GetFirst() + o - r.GetFromFirst()
		c, n, rec := j.rec(i)
		*rec = old
		rec.setStart(old.start() + from.Created - j.Created)
		rec.setPhase(phaseSkipped)
		why := from.reasons[old.reason]
		if old.phase() == phaseSucceeded {
			why = reason{status: "Done before by job " + from.IDString(), detail: from.IDString()}
		}
		rec.reason = j.intern(why.status, why.detail)
		if src.output != nil {
			c.setOutput(n, src.output[o&(chunkLen-1)])
		}
		if src.metric != nil {
			v := src.metric[o&(chunkLen-1)]
			c.setMetric(n, v)
			j.offerBest(i, v)
		}
		j.succeeded++
		j.skipped++
	}
}

// hookDependencies registers the job with those that it waits for.
func (s *State) hookDependencies(j *Job) {
	for _, d := range j.depends {
		if d.GetType() == volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL && d.GetJob() == 0 {
			j.sequential = true
			continue
		}
		dep := s.mut(d.GetJob())
		if !slices.Contains(dep.dependents, j.ID) {
			dep.dependents = append(dep.dependents, j.ID)
		}
	}
	s.checkWhole(j)
}

// checkWhole looks at the whole-job dependencies that are not satisfied yet.
// A purged one cannot be asked any more and counts as satisfied.
func (s *State) checkWhole(j *Job) {
	for i, d := range j.depends {
		if d.GetJob() == 0 || d.GetType() == nToN || j.satisfied>>i&1 == 1 {
			continue
		}
		dep := s.jobs[d.GetJob()]
		ok, failed := dep == nil, false
		if dep != nil {
			ok, failed = wholeDependency(dep, d)
		}
		if ok {
			j.satisfied |= 1 << i
		}
		if failed {
			s.failUnstarted(j)
		}
	}
}

// wholeDependency says whether the job or child that d names has succeeded or
// failed.
func wholeDependency(dep *Job, d *journalv1.Depend) (ok, failed bool) {
	if d.Index != nil {
		return dep.childDone(d.GetIndex()), dep.childFailed(d.GetIndex())
	}
	return dep.terminal && dep.failed == 0, dep.terminal && dep.failed > 0
}
