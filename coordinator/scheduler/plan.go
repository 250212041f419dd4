// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
)

// Options tune the size of leases. The zero value means the defaults.
type Options struct {
	// Target is how much work, by measured durations, a worker should hold
	// beyond what runs. Longer hides slower round trips and makes messages
	// rarer; shorter leaves less to take back at the end. Default: 200 ms.
	Target time.Duration
	// MaxLease is the largest number of indexes that one lease may hold.
	// Default: 65,536.
	MaxLease uint64
}

func (o Options) withDefaults() Options {
	if o.Target == 0 {
		o.Target = 200 * time.Millisecond
	}
	if o.MaxLease == 0 {
		o.MaxLease = 1 << 16
	}
	return o
}

// Scheduler plans. It is not safe for concurrent use. What it remembers is
// only which classes found no room; forgetting it costs time, nothing else.
type Scheduler struct {
	opts  Options
	round uint64
	// blocked is the round in which the class last found no room. It counts only
	// if that was the last one: while a class has no work nobody notes the room
	// that comes free, and when it has work again all workers are looked at.
	blocked map[state.ClassKey]uint64
	// held is the worker kept for heldFor, the first class that found no room;
	// 0: none.
	held    uint32
	heldFor state.ClassKey
}

// New makes a scheduler.
func New(o Options) *Scheduler {
	return &Scheduler{opts: o.withDefaults(), round: 1, blocked: map[state.ClassKey]uint64{}}
}

// Emit applies a decision to the state that Plan is looking at.
type Emit func(*journalv1.Entry)

// Plan emits decisions until there is nothing left to decide. With all set it
// looks at every worker, not only at those that changed: call it so after a
// start, and now and then, so that a worker which fell idle while others had
// little to give is looked at again when they turn out to be slow.
func (p *Scheduler) Plan(s *state.State, all bool, emit Emit) {
	dirty := s.TakeDirtyWorkers()
	p.round++
	if all {
		clear(p.blocked)
		dirty = dirty[:0]
		for _, w := range s.Workers() {
			if w.Status == state.NodeReady {
				dirty = append(dirty, w.Num)
			}
		}
	}
	r := round{p: p, s: s, emit: emit, dirty: dirty}
	if p.held != 0 && !slices.ContainsFunc(s.Classes(), func(c *state.Class) bool { return c.Key == p.heldFor }) {
		r.unhold() // it was cancelled, or is at its concurrency
	}
	for _, c := range r.order() {
		r.class(c)
	}
	if len(r.barriers) == 0 {
		p.held = 0
	}
	r.takeBack()
	// What was emitted above has marked workers as changed; they lost room
	// and have nothing new to say.
	s.TakeDirtyWorkers()
	if len(p.blocked) > 4*len(s.Classes())+16 {
		clear(p.blocked)
	}
}

// round is one call of Plan.
type round struct {
	p     *Scheduler
	s     *state.State
	emit  Emit
	dirty []uint32
	// barriers are the shapes of classes that found no room so far.
	barriers []state.Shape
	// passed: the class that a worker is kept for has had its turn.
	passed bool
}

// order lists the classes by priority, then by the age of their oldest job.
func (r *round) order() []*state.Class {
	cs := slices.Clone(r.s.Classes())
	slices.SortStableFunc(cs, func(a, b *state.Class) int {
		return cmp.Or(cmp.Compare(b.Key.Priority, a.Key.Priority), cmp.Compare(a.Jobs()[0], b.Jobs()[0]))
	})
	return cs
}

func (r *round) class(c *state.Class) {
	key := c.Key
	r.passed = r.passed || r.p.held != 0 && r.p.heldFor == key
	if r.p.blocked[key] == r.p.round-1 {
		for _, num := range r.dirty {
			r.worker(c, r.s.Worker(num))
		}
		if r.p.held != 0 && !r.passed {
			// It may have become older than the class that passed it over.
			r.worker(c, r.s.Worker(r.p.held))
		}
	} else {
		for _, w := range r.s.Workers() {
			r.worker(c, w)
			if len(c.Jobs()) == 0 {
				break
			}
		}
	}
	if len(c.Jobs()) == 0 {
		delete(r.p.blocked, key)
		if r.p.held != 0 && r.p.heldFor == key {
			r.unhold()
		}
		return
	}
	r.p.blocked[key] = r.p.round
	if len(r.barriers) == 0 {
		r.reserve(key)
	}
	r.barriers = append(r.barriers, key.Shape)
}

// unhold gives the kept worker to the classes behind. They passed it over and
// wait for a change of it, which the end of the wait of another class is not.
func (r *round) unhold() {
	if !slices.Contains(r.dirty, r.p.held) {
		r.dirty = append(r.dirty, r.p.held)
	}
	r.p.held = 0
}

// reserve keeps for a class the worker that is nearest to having room for it,
// until the class finds room. Only shapes larger than what comes free next
// need it, but a worker kept for a shape that fits next anyway loses nothing.
func (r *round) reserve(key state.ClassKey) {
	if r.p.held != 0 && r.p.heldFor == key && r.s.Worker(r.p.held).Status == state.NodeReady {
		return
	}
	if r.p.held != 0 {
		r.unhold()
	}
	r.p.heldFor, r.passed = key, true
	most := int64(-1)
	for _, w := range r.s.Workers() {
		if w.Status == state.NodeReady && w.Capacity.Fits(key.Shape) > 0 && w.Free().CPUMilli > most {
			r.p.held, most = w.Num, w.Free().CPUMilli
		}
	}
}

// worker gives jobs of the class to one worker while there is room.
func (r *round) worker(c *state.Class, w *state.Worker) {
	// The kept worker is closed to classes behind the one that it is kept for.
	// One before it may be older than all: skipped as well, it would wait beside
	// an idle node for the next full look.
	if w.Status != state.NodeReady || w.Num == r.p.held && c.Key != r.p.heldFor && r.passed {
		return
	}
	for {
		jobs := c.Jobs()
		if len(jobs) == 0 {
			return
		}
		// Each grant leaves the job less that is ready or the worker less room,
		// so this ends; when the oldest job finds no room, no later one does.
		if !r.give(r.s.Job(jobs[0]), w) {
			return
		}
	}
}

// give grants what the job can use on the worker now, and says whether it did.
func (r *round) give(j *state.Job, w *state.Worker) bool {
	runs, attempt := j.FrontAttempt(1)
	if len(runs) == 0 {
		return false
	}
	lease := r.leaseOf(j, w, attempt)
	have, slots := uint64(0), uint64(0)
	if lease != nil {
		have, slots = lease.Remaining(), lease.Slots()
	}
	fit := min(w.Free().Fits(j.Shape), j.Room())
	if fit == 0 && (lease == nil || r.barred(w)) {
		return false
	}
	// Take in at once all the slots that are free: leases with few slots each
	// would cost a message each.
	parallel := slots + min(fit, j.Ready())
	want := r.size(j, parallel)
	if fit == 0 && have > parallel+(want-parallel)/2 {
		return false
	}
	give := max(want, have) - have
	if fit > 0 {
		give = max(give, min(fit, j.Ready()))
	}
	if give == 0 {
		return false
	}
	runs, attempt = j.FrontAttempt(give)
	op := &journalv1.Grant{NodeId: w.NodeID(), Job: j.ID, Attempt: attempt, Parallel: uint32(min(parallel, math.MaxUint32))}
	got := uint64(0)
	for _, run := range runs {
		op.Runs = append(op.Runs, run.First, run.Count)
		got += run.Count
	}
	if lease != nil {
		op.LeaseId = lease.ID
	}
	op.Parallel = uint32(min(uint64(op.Parallel), have+got))
	r.emit(&journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: op}})
	return true
}

// leaseOf finds the lease that a grant may be added to. Only first attempts
// are, and only to leases younger than the last loss of the job: a later
// execution of an index must be under a larger lease number.
func (r *round) leaseOf(j *state.Job, w *state.Worker, attempt uint32) *state.Lease {
	if attempt != 1 {
		return nil
	}
	for _, id := range w.Leases() {
		if l := r.s.Lease(id); j.Extends(l) {
			return l
		}
	}
	return nil
}

// barred says that an older class waits for room which this worker could give.
func (r *round) barred(w *state.Worker) bool {
	for _, shape := range r.barriers {
		if w.Capacity.Fits(shape) > 0 {
			return true
		}
	}
	return false
}

// size is how many indexes a worker with so many slots should hold.
func (r *round) size(j *state.Job, slots uint64) uint64 {
	mean := j.MeanDuration()
	if mean == 0 {
		return slots
	}
	want := slots * max(uint64(r.p.opts.Target.Microseconds())/mean, 1)
	share := j.Ready() / uint64(2*max(r.s.ReadyWorkers(), 1))
	return max(min(want, share, r.p.opts.MaxLease), slots)
}
