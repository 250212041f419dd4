// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// hello is the worker's whole view.
func (w *worker) hello() *volleyv1.Hello {
	w.cut()
	h := &volleyv1.Hello{
		NodeId: w.node, Name: w.node, Epoch: w.epoch, Version: "sim", Platform: "sim/sim",
		Capacity: &volleyv1.Resources{CpuMilli: w.cap, MemoryBytes: 1 << 30}, LastSeq: w.seq,
	}
	finished := map[uint64]*sharding.Set{}
	var order []uint64
	for _, r := range w.spool {
		for _, lr := range r.GetLeases() {
			if finished[lr.GetLeaseId()] == nil {
				finished[lr.GetLeaseId()] = new(sharding.Set)
				order = append(order, lr.GetLeaseId())
			}
			_ = finished[lr.GetLeaseId()].AddPacked(lr.GetFinished())
		}
	}
	for _, l := range w.leases {
		un, run := l.unstarted.Clone(), new(sharding.Set)
		for _, e := range l.running {
			un.Add(e.index)
			if e.told {
				run.Add(e.index)
			}
		}
		hl := &volleyv1.HeldLease{LeaseId: l.id, Unfinished: un.AppendPacked(nil), Running: run.AppendPacked(nil)}
		if f := finished[l.id]; f != nil {
			hl.Finished = f.AppendPacked(nil)
			order = slices.DeleteFunc(order, func(id uint64) bool { return id == l.id })
		}
		h.Held = append(h.Held, hl)
	}
	for _, id := range order {
		h.Held = append(h.Held, &volleyv1.HeldLease{LeaseId: id, Finished: finished[id].AppendPacked(nil)})
	}
	slices.SortFunc(h.Held, func(a, b *volleyv1.HeldLease) int { return int(a.LeaseId) - int(b.LeaseId) })
	w.s.note("worker %s says hello: %d leases held, last seq %d", w.node, len(h.Held), w.seq)
	return h
}

func (w *worker) newsOf(l *lease) *volleyv1.LeaseReport {
	if l.news == nil {
		l.news = &volleyv1.LeaseReport{LeaseId: l.id}
	}
	w.newsSoon()
	return l.news
}

func (w *worker) newsSoon() {
	if !w.flushing {
		w.flushing = true
		w.later(w.s.between(0, 30*millisecond), func() {
			w.cut()
			w.sendReports()
		})
	}
}

// cut puts the news into a report and the report into the spool.
func (w *worker) cut() {
	w.flushing = false
	r := &volleyv1.Report{}
	for _, l := range w.leases {
		for _, e := range l.running {
			if !e.told && !e.killed {
				e.told = true
				if l.news == nil {
					l.news = &volleyv1.LeaseReport{LeaseId: l.id}
				}
				l.news.Started = sharding.NewSet(append(runsOf(l.news.GetStarted()), sharding.Run{First: e.index, Count: 1})...).AppendPacked(nil)
			}
		}
		if l.news != nil {
			r.Leases = append(r.Leases, l.news)
			l.news = nil
		}
	}
	if len(r.GetLeases()) > 0 {
		w.seq++
		r.Seq = w.seq
		w.spool = append(w.spool, r)
	}
	w.leases = slices.DeleteFunc(w.leases, func(l *lease) bool {
		return len(l.running) == 0 && l.unstarted.Empty() && l.news == nil
	})
}

func runsOf(flat []uint64) []sharding.Run {
	var runs []sharding.Run
	for i := 0; i+1 < len(flat); i += 2 {
		runs = append(runs, sharding.Run{First: flat[i], Count: flat[i+1]})
	}
	return runs
}

// sendReports sends what this session has not carried yet.
func (w *worker) sendReports() {
	if w.session == nil || !w.welcome {
		return
	}
	for _, r := range w.spool {
		if r.GetSeq() > w.sent {
			w.sent = r.GetSeq()
			w.session.up(&volleyv1.ConnectRequest{Report: r})
		}
	}
}
