// SPDX-License-Identifier: Apache-2.0

package load

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// paced are the tasks of a simulated worker that take time. As many as it has
// slots run; a timer in place of processes says when they have ended. The
// worker's mutex guards it.
type paced struct {
	leases []*pacedLease // in the order of their numbers
	// timer runs while tasks do.
	timer *time.Timer
}

type pacedLease struct {
	id  uint64
	job *tally
	// waiting and running are disjoint.
	waiting, running sharding.Set
}

// coalesce is how many results are gathered for one report: a real worker
// does so too, see package worker.
const coalesce = 10 * time.Millisecond

// accept takes what was granted.
func (w *simulated) accept(g *volleyv1.Grant) error {
	t, _, err := w.check(g)
	if err != nil {
		return err
	}
	p := &w.paced
	n, ok := slices.BinarySearchFunc(p.leases, g.GetLeaseId(), func(l *pacedLease, id uint64) int {
		switch {
		case l.id < id:
			return -1
		case l.id > id:
			return 1
		}
		return 0
	})
	if !ok {
		p.leases = slices.Insert(p.leases, n, &pacedLease{id: g.GetLeaseId(), job: t})
	}
	if err := p.leases[n].waiting.AddPacked(g.GetRuns()); err != nil {
		return status.Errorf(codes.InvalidArgument, "a grant of lease %d: %v", g.GetLeaseId(), err)
	}
	return nil
}

// revoke hands back what has not started. What runs goes on to its end, unless
// the lease is dropped: tasks here are short.
func (w *simulated) revoke(r *volleyv1.Revoke) *volleyv1.LeaseReport {
	n := slices.IndexFunc(w.paced.leases, func(l *pacedLease) bool { return l.id == r.GetLeaseId() })
	if n < 0 {
		return nil
	}
	l := w.paced.leases[n]
	idle, running := l.waiting.Clone(), l.running.Clone()
	if len(r.GetRuns()) > 0 {
		set, err := sharding.ParsePacked(r.GetRuns())
		if err != nil {
			return nil // what is malformed names nothing
		}
		idle.Intersect(set)
		running.Intersect(set)
	}
	l.waiting.Subtract(idle)
	if r.GetDrop() {
		l.running.Subtract(running)
		return nil
	}
	if idle.Empty() {
		return nil
	}
	return &volleyv1.LeaseReport{LeaseId: l.id, Returned: idle.AppendPacked(nil)}
}

// pace starts what there are slots for, unless tasks run already.
func (w *simulated) pace() {
	p := &w.paced
	if p.timer != nil || w.leaving {
		return
	}
	each, slots := w.f.r.c.TaskTime, uint64(w.f.r.c.Slots)
	room := slots
	if each > 0 && each < coalesce {
		room = min(room*uint64((coalesce+each-1)/each), maxLease)
	}
	started := uint64(0)
	for _, l := range p.leases {
		for _, run := range l.waiting.PopFront(min(room-started, l.waiting.Len())) {
			l.running.AddRange(run.First, run.Count)
			started += run.Count
		}
	}
	if started > 0 {
		p.timer = time.AfterFunc(each*time.Duration((started+slots-1)/slots), w.finish)
	}
}

// finish ends what runs, and starts what is next.
func (w *simulated) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &w.paced
	p.timer = nil
	if w.f.ctx.Err() != nil {
		return
	}
	var news []*volleyv1.LeaseReport
	for _, l := range p.leases {
		if l.running.Empty() {
			continue
		}
		for run := range l.running.Ranges() {
			l.job.mark(run.First, run.Count)
		}
		news = append(news, w.results(l.id, l.running.AppendPacked(nil), l.running.Len()))
		l.running.Reset()
	}
	p.leases = slices.DeleteFunc(p.leases, func(l *pacedLease) bool { return l.waiting.Empty() })
	w.pace()
	_ = w.report(news) // kept, and repeated in the next session
}
