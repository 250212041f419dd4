// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// resources is an amount of what a node has.
type resources struct{ cpu, memory, gpu int64 }

// defaultCPU is what a task takes whose spec says nothing.
const defaultCPU = 1000

func need(r *volleyv1.Resources) resources {
	n := resources{r.GetCpuMilli(), r.GetMemoryBytes(), r.GetGpu()}
	if n.cpu == 0 {
		n.cpu = defaultCPU
	}
	return n
}

func (r resources) fits(n resources) bool {
	return n.cpu <= r.cpu && n.memory <= r.memory && n.gpu <= r.gpu
}

func (r *resources) take(n resources) { r.cpu -= n.cpu; r.memory -= n.memory; r.gpu -= n.gpu }
func (r *resources) give(n resources) { r.cpu += n.cpu; r.memory += n.memory; r.gpu += n.gpu }

// reserve takes what is there of n.
func (r *resources) reserve(n resources) {
	r.cpu = max(0, r.cpu-n.cpu)
	r.memory = max(0, r.memory-n.memory)
	r.gpu = max(0, r.gpu-n.gpu)
}

// part is the unstarted indexes of a lease that have the same attempt number.
// A lease nearly always has one.
type part struct {
	attempt   uint32
	unstarted sharding.Set
}

// lease is what the worker holds of one lease.
type lease struct {
	id       uint64
	job      *job // nil: only results that an earlier process left in the spool
	need     resources
	priority int32
	parallel int
	parts    []part
	// unstarted is the sum over parts. Invariant: the lease is in Agent.ready
	// exactly when it is not 0.
	unstarted uint64
	running   int // processes
	// held is every index that was granted and whose end (result, or handed
	// back) the coordinator is not known to have: what a repeated grant must
	// not start again.
	held sharding.Set
	acc  *account // nil: no news since the last report
	// dropped: not current any more; nothing of it is reported.
	dropped bool
}

// admission order
func compareLeases(a, b *lease) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.id, b.id))
}

// setReady keeps Agent.ready right after l.unstarted has changed.
func (a *Agent) setReady(l *lease, was uint64) {
	a.unstart += l.unstarted - was
	switch {
	case was == 0 && l.unstarted > 0:
		i, _ := slices.BinarySearchFunc(a.ready, l, compareLeases)
		a.ready = slices.Insert(a.ready, i, l)
	case was > 0 && l.unstarted == 0:
		if i, ok := slices.BinarySearchFunc(a.ready, l, compareLeases); ok {
			a.ready = slices.Delete(a.ready, i, i+1)
		}
		l.parts = l.parts[:0]
	}
}

// grant adds indexes to a lease.
func (a *Agent) grant(g *volleyv1.Grant) {
	id := g.GetLeaseId()
	set, err := sharding.ParsePacked(g.GetRuns())
	if err != nil || id == 0 || g.GetAttempt() == 0 {
		a.log.Error("ignored a malformed grant", "lease", id, "job", g.GetJob(), "attempt", g.GetAttempt(), "error", err)
		return
	}
	l := a.leases[id]
	if l == nil {
		l = &lease{id: id}
		a.leases[id] = l
	}
	if l.job == nil {
		if l.job = a.jobs[g.GetJob()]; l.job != nil {
			l.need = need(l.job.spec.GetResources())
		}
	}
	set.Subtract(&l.held) // a repetition
	l.held.Union(set)
	refused := false
	switch {
	case l.job == nil:
		a.log.Error("granted indexes of a job that was never described; handed back", "lease", id, "job", g.GetJob())
		refused = true
	case !a.total.fits(l.need):
		a.log.Error("granted a task that this node can never hold; handed back", "lease", id, "job", l.job.id)
		refused = true
	case a.stopping:
		refused = true
	}
	if refused {
		a.returned(l, set)
		set.Reset()
	}
	if l.running == 0 && l.held.Empty() {
		delete(a.leases, id)
		return
	}
	was := l.unstarted
	if was > 0 && l.priority != g.GetPriority() {
		if i, ok := slices.BinarySearchFunc(a.ready, l, compareLeases); ok {
			a.ready = slices.Delete(a.ready, i, i+1)
		}
		l.priority = g.GetPriority()
		i, _ := slices.BinarySearchFunc(a.ready, l, compareLeases)
		a.ready = slices.Insert(a.ready, i, l)
	}
	l.priority = g.GetPriority()
	l.parallel = max(1, int(min(g.GetParallel(), 1<<30)))
	if set.Empty() {
		return
	}
	a.prepareAgain(l.job)
	i := slices.IndexFunc(l.parts, func(p part) bool { return p.attempt == g.GetAttempt() })
	if i < 0 {
		i = len(l.parts)
		l.parts = append(l.parts, part{attempt: g.GetAttempt()})
	}
	l.parts[i].unstarted.Union(set)
	l.unstarted += set.Len()
	a.setReady(l, was)
}

// revoke takes indexes away.
func (a *Agent) revoke(r *volleyv1.Revoke) {
	l := a.leases[r.GetLeaseId()]
	if l == nil {
		return // its end is on the way, or was never here
	}
	var set *sharding.Set // nil: all
	if len(r.GetRuns()) > 0 {
		var err error
		if set, err = sharding.ParsePacked(r.GetRuns()); err != nil {
			a.log.Error("ignored a malformed revoke", "lease", l.id, "error", err)
			return
		}
	}
	if r.GetDrop() {
		a.dropLease(l)
		return
	}
	a.handBack(l, set)
	if !r.GetKill() {
		return
	}
	for _, s := range a.slots {
		// A fused process is stopped for any index of it; the others of it are
		// reported killed too and the coordinator runs them again.
		if s.lease == l && (set == nil || overlaps(set, s.task.Index, s.task.Count)) {
			a.stopSlot(s, verdictKill, "revoked by the coordinator")
		}
	}
}

func overlaps(set *sharding.Set, first, count uint64) bool {
	if count == 1 {
		return set.Contains(first)
	}
	s := sharding.NewSet(sharding.Run{First: first, Count: count})
	s.Intersect(set)
	return !s.Empty()
}

// handBack reports the unstarted indexes of l (those in set; nil: all) as
// returned.
func (a *Agent) handBack(l *lease, set *sharding.Set) {
	was := l.unstarted
	back := sharding.NewSet()
	for i := range l.parts {
		p := &l.parts[i]
		took := p.unstarted.Clone()
		if set != nil {
			took.Intersect(set)
		}
		p.unstarted.Subtract(took)
		back.Union(took)
	}
	l.unstarted -= back.Len()
	a.setReady(l, was)
	a.returned(l, back)
}

// returned notes indexes that will not be started here.
func (a *Agent) returned(l *lease, back *sharding.Set) {
	if back.Empty() {
		return
	}
	acc := a.account(l)
	acc.rep.Returned = back.AppendPacked(acc.rep.Returned)
	a.setUrgent()
}

// dropLease forgets a lease that is not current. What runs of it is stopped,
// and keeps its share of the node until it has ended.
func (a *Agent) dropLease(l *lease) {
	was := l.unstarted
	l.unstarted = 0
	a.setReady(l, was)
	l.dropped = true
	a.dirty = slices.DeleteFunc(a.dirty, func(acc *account) bool {
		if acc.lease != l {
			return false
		}
		a.recycle(acc)
		return true
	})
	l.acc = nil
	delete(a.leases, l.id)
	for _, s := range a.slots {
		if s.lease == l {
			a.stopSlot(s, verdictDrop, "lease is no longer current")
		}
	}
	a.notify()
}
