// SPDX-License-Identifier: Apache-2.0

package state

import (
	"maps"
	"math"
	"slices"
	"strconv"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// Shape is what one task needs and what a node has: the unit of scheduling.
type Shape struct {
	CPUMilli int64
	Memory   int64
	GPU      int64
}

// ShapeOf is the shape that a spec asks for, with defaults filled in.
func ShapeOf(r *volleyv1.Resources) Shape {
	s := Shape{CPUMilli: r.GetCpuMilli(), Memory: r.GetMemoryBytes(), GPU: r.GetGpu()}
	if s.CPUMilli == 0 {
		s.CPUMilli = 1000
	}
	return s
}

// Fits says how many tasks of shape t fit into s.
func (s Shape) Fits(t Shape) uint64 {
	n := int64(math.MaxInt32)
	if t.CPUMilli > 0 {
		n = min(n, s.CPUMilli/t.CPUMilli)
	}
	if t.Memory > 0 {
		n = min(n, s.Memory/t.Memory)
	}
	if t.GPU > 0 {
		n = min(n, s.GPU/t.GPU)
	}
	return uint64(max(n, 0))
}

func (s Shape) add(t Shape, n int64) Shape {
	return Shape{s.CPUMilli + n*t.CPUMilli, s.Memory + n*t.Memory, s.GPU + n*t.GPU}
}

// Job is one job of the state. Readers outside this package must treat it as
// immutable and must not keep it beyond the call that they got it in.
type Job struct {
	epoch uint64

	ID    uint64
	Spec  *volleyv1.JobSpec
	Size  uint64
	Array bool
	Key   string // idempotency key
	Shape Shape

	Created, Started, Stopped int64
	// terminal: every child is. It is a field, not derived from Stopped,
	// because a rerun clears it while Stopped tells the last end.
	terminal bool

	// Invariant: ready, cancelled, depFailed and the remaining sets of the
	// job's leases are disjoint.
	ready     *sharding.Set
	cancelled *sharding.Set
	depFailed *sharding.Set
	// killing has children that were cancelled one by one while leased. Those in
	// stopping were terminated: they are stopped even if they run.
	// Invariant: stopping is a subset of killing.
	killing, stopping *sharding.Set

	// cancel and terminate hold for the whole job: what comes back unstarted
	// is cancelled, and nothing is retried.
	cancel, terminate bool
	cancelReason      string

	leases []uint64 // ascending
	// fence: leases below it are not added to. Children that were lost unstarted,
	// as far as is known, may have run under any lease below it.
	fence uint64
	// Counters, so that nothing ever walks the children.
	leased, running, succeeded, failed, skipped uint64
	// slots is the sum of min(parallel, remaining) over the leases.
	slots uint64

	depends []*journalv1.Depend
	// satisfied has a bit for each of depends that holds for good: a rerun of
	// the dependency afterwards does not take it back.
	satisfied  uint64
	sequential bool
	dependents []uint64 // jobs that depend on this one, ascending

	reasons   []reason
	reasonIdx map[reason]uint16

	chunks map[uint64]*chunk

	best     Best
	taskUS   uint64 // sum of durations of ended attempts
	attempts uint64 // ended attempts
	stale    uint64
	lostRuns uint64
}

type reason struct{ status, detail string }

// Best is the best child by the job's metric.
type Best struct {
	OK    bool
	Index uint64
	Value float64
}

// Name of the job.
func (j *Job) Name() string { return j.Spec.GetName() }

// IDString is the public job id.
func (j *Job) IDString() string { return strconv.FormatUint(j.ID, 10) }

// Terminal says that every child has ended.
func (j *Job) Terminal() bool { return j.terminal }

// Ready is the number of children that may be leased now.
func (j *Job) Ready() uint64 { return j.ready.Len() }

// FrontAttempt says which attempt the first ready children would run as, and
// how many successive ready children (at most limit) would run as the same:
// a grant carries one attempt number.
func (j *Job) FrontAttempt(limit uint64) (runs []sharding.Run, attempt uint32) {
	runs = j.ready.AppendFront(nil, limit)
	if len(runs) == 0 {
		return nil, 0
	}
	attempt = uint32(j.attemptOf(runs[0].First)) + 1
	for n, r := range runs {
		for i := r.First; i < r.End(); i++ {
			if i&(chunkLen-1) == 0 || i == r.First {
				if j.chunks[i>>chunkBits] == nil {
					// A whole untouched chunk: attempt 1.
					if attempt != 1 {
						return cutRuns(runs, n, i), attempt
					}
					i |= chunkLen - 1
					continue
				}
			}
			if uint32(j.attemptOf(i))+1 != attempt {
				return cutRuns(runs, n, i), attempt
			}
		}
	}
	return runs, attempt
}

// areAt says whether the next attempt of every child of the set is the given
// one. What it costs depends on the children that have records.
func (j *Job) areAt(set *sharding.Set, attempt uint32) bool {
	if attempt != 1 && set.Len() > uint64(len(j.chunks))*chunkLen {
		return false // more than ever ran
	}
	at := func(first, end uint64) bool {
		for i := first; i < end; i++ {
			if uint32(j.attemptOf(i))+1 != attempt {
				return false
			}
		}
		return true
	}
	for r := range set.Ranges() {
		if (r.Count>>chunkBits)+1 > uint64(len(j.chunks)) { // attempt 1, as more than ever ran
			for base := range j.chunks {
				first, end := base<<chunkBits, (base+1)<<chunkBits
				if !at(max(first, r.First), min(end, r.End())) {
					return false
				}
			}
			if attempt == 1 {
				continue
			}
		}
		for i := r.First; i < r.End(); {
			end := min((i|(chunkLen-1))+1, r.End())
			if j.chunks[i>>chunkBits] == nil && attempt != 1 || j.chunks[i>>chunkBits] != nil && !at(i, end) {
				return false
			}
			i = end
		}
	}
	return true
}

// cutRuns cuts the list before index i, which lies in run n.
func cutRuns(runs []sharding.Run, n int, i uint64) []sharding.Run {
	runs = runs[:n+1]
	runs[n].Count = i - runs[n].First
	if runs[n].Count == 0 {
		runs = runs[:n]
	}
	return runs
}

// attemptOf is the number of the child's last attempt, 0 if none was made.
func (j *Job) attemptOf(i uint64) uint16 {
	if c := j.chunks[i>>chunkBits]; c != nil {
		return c.recs[i&(chunkLen-1)].attempt
	}
	return 0
}

// Slots is how many tasks of the job may be running now by its leases.
func (j *Job) Slots() uint64 { return j.slots }

// Room is how many more tasks the job's own concurrency allows.
func (j *Job) Room() uint64 {
	if j.Spec.GetConcurrency() == 0 {
		return math.MaxUint32
	}
	return j.Spec.GetConcurrency() - min(j.slots, j.Spec.GetConcurrency())
}

// MeanDuration of ended attempts in microseconds; 0: none has ended.
func (j *Job) MeanDuration() uint64 {
	if j.attempts == 0 {
		return 0
	}
	return max(j.taskUS/j.attempts, 1)
}

// Leases of the job by number, ascending.
func (j *Job) Leases() []uint64 { return j.leases }

// Extends says that a grant may add first attempts to the lease.
func (j *Job) Extends(l *Lease) bool {
	return l.Job == j.ID && l.Attempt == 1 && l.ID >= j.fence
}

// Depends lists the dependencies with their ids resolved.
func (j *Job) Depends() []*journalv1.Depend { return j.depends }

// Waiting is how many whole-job dependencies are not yet satisfied.
func (j *Job) Waiting() int {
	n := 0
	for i, d := range j.depends {
		if d.GetJob() != 0 && d.GetType() != nToN && j.satisfied>>i&1 == 0 {
			n++
		}
	}
	return n
}

// Best child by the job's metric.
func (j *Job) Best() Best { return j.best }

// State of the job as a whole.
func (j *Job) State() volleyv1.JobState {
	switch {
	case j.terminal && j.failed > 0:
		return volleyv1.JobState_JOB_STATE_FAILED
	case j.terminal:
		return volleyv1.JobState_JOB_STATE_SUCCEEDED
	case j.running > 0, j.Array && j.attempts > 0:
		return volleyv1.JobState_JOB_STATE_RUNNING
	case j.leased > 0:
		return volleyv1.JobState_JOB_STATE_STARTING
	case !j.ready.Empty():
		return volleyv1.JobState_JOB_STATE_RUNNABLE
	default:
		return volleyv1.JobState_JOB_STATE_PENDING
	}
}

func (j *Job) pending() uint64 {
	return j.Size - j.ready.Len() - j.leased - j.succeeded - j.failed
}

// clone copies what a mutation may write to, see State.mut.
func (j *Job) clone(epoch uint64) *Job {
	n := *j
	n.epoch = epoch
	n.ready, n.cancelled = j.ready.Clone(), j.cancelled.Clone()
	n.depFailed, n.killing, n.stopping = j.depFailed.Clone(), j.killing.Clone(), j.stopping.Clone()
	n.leases = slices.Clone(j.leases)
	n.dependents = slices.Clone(j.dependents)
	n.reasons = slices.Clone(j.reasons)
	// reasonIdx is not part of a snapshot and may be shared.
	n.chunks = maps.Clone(j.chunks)
	return &n
}

// spare forgets that child i was cancelled while it was leased: it has ended.
func (j *Job) spare(i uint64) {
	j.killing.Remove(i)
	j.stopping.Remove(i)
}

// rec returns the child's record for writing.
func (j *Job) rec(i uint64) (*chunk, uint16, *record) {
	k := uint16(i & (chunkLen - 1))
	c := j.chunks[i>>chunkBits]
	switch {
	case c == nil:
		c = newChunk(j.epoch, j.Size, i&^(chunkLen-1))
		j.chunks[i>>chunkBits] = c
	case c.epoch != j.epoch:
		c = c.clone(j.epoch)
		j.chunks[i>>chunkBits] = c
	}
	return c, k, &c.recs[k]
}

// peek returns the child's record for reading; the zero record if it has none.
func (j *Job) peek(i uint64) (*chunk, record) {
	if c := j.chunks[i>>chunkBits]; c != nil {
		return c, c.recs[i&(chunkLen-1)]
	}
	return nil, record{}
}

// maxReasons bounds the table of different reasons; the last entry stands for
// all that came later. A job whose every task fails with a text of its own
// must not grow the state without bound.
const maxReasons = 4096

func (j *Job) intern(status, detail string) uint16 {
	r := reason{status, detail}
	if j.reasonIdx == nil {
		j.reasonIdx = make(map[reason]uint16)
		for i, r := range j.reasons {
			j.reasonIdx[r] = uint16(i)
		}
	}
	if i, ok := j.reasonIdx[r]; ok && int(i) < len(j.reasons) && j.reasons[i] == r {
		return i
	}
	if len(j.reasons) >= maxReasons-1 {
		r = reason{status, "more than 4,095 different reasons in this job: see the task's log"}
		if i := slices.Index(j.reasons, r); i >= 0 {
			return uint16(i)
		}
		if len(j.reasons) >= maxReasons+64 {
			return uint16(len(j.reasons) - 1)
		}
	}
	j.reasons = append(j.reasons, r)
	i := uint16(len(j.reasons) - 1)
	j.reasonIdx[r] = i
	return i
}

func (j *Job) hasChildDeps() bool {
	if j.sequential {
		return true
	}
	for _, d := range j.depends {
		if d.GetType() == nToN {
			return true
		}
	}
	return false
}

// childDone says whether child i has succeeded.
func (j *Job) childDone(i uint64) bool {
	_, r := j.peek(i)
	return r.phase() == phaseSucceeded || r.phase() == phaseSkipped
}

// childFailed says whether child i has failed for good.
func (j *Job) childFailed(i uint64) bool {
	_, r := j.peek(i)
	return r.phase() == phaseFailed || j.cancelled.Contains(i) || j.depFailed.Contains(i)
}

// Satisfied says that the n-th dependency holds for good.
func (j *Job) Satisfied(n int) bool { return j.satisfied>>n&1 == 1 }
