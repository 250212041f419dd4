// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"container/heap"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
)

// takeBack asks for indexes from the backlog of busy workers when others have
// room for them and nothing else to do.
//
// The leases are sorted once for all idle workers: a look at every lease for
// every worker is 10^8 looks on a cluster of 10,000, at each turn of the loop.
func (r *round) takeBack() {
	var idle []*state.Worker
	for _, num := range r.dirty {
		w := r.s.Worker(num)
		if w.Status == state.NodeReady && num != r.p.held && w.Free().CPUMilli > 0 {
			idle = append(idle, w)
		}
	}
	if len(idle) == 0 {
		return
	}
	shapes := r.donors()
	for _, w := range idle {
		r.takeFor(w, shapes)
	}
}

// donor is a lease that indexes may be taken from, and how much work it has
// beyond what runs, in microseconds for each slot.
type donor struct {
	lease *state.Lease
	work  uint64
}

// donors of one shape are a heap: most work first, then the older lease.
type donors struct {
	shape state.Shape
	list  []donor
}

func (d *donors) Len() int      { return len(d.list) }
func (d *donors) Swap(i, j int) { d.list[i], d.list[j] = d.list[j], d.list[i] }
func (d *donors) Push(x any)    { d.list = append(d.list, x.(donor)) }
func (d *donors) Pop() any {
	last := d.list[len(d.list)-1]
	d.list = d.list[:len(d.list)-1]
	return last
}

func (d *donors) Less(i, j int) bool {
	a, b := d.list[i], d.list[j]
	return a.work > b.work || a.work == b.work && a.lease.ID < b.lease.ID
}

// first answers with the donor that has most work and is not the worker's own,
// taken out of the heap.
func (d *donors) first(worker uint32) (donor, bool) {
	var own []donor
	defer func() {
		for _, o := range own {
			heap.Push(d, o)
		}
	}()
	for len(d.list) > 0 {
		top := heap.Pop(d).(donor)
		if top.lease.Worker != worker {
			return top, true
		}
		own = append(own, top)
	}
	return donor{}, false
}

// donors finds the leases that have work to give away, by shape.
func (r *round) donors() []*donors {
	var shapes []*donors
	for _, id := range r.s.Backlog() {
		l := r.s.Lease(id)
		if l == nil {
			continue
		}
		j := r.s.Job(l.Job)
		work := workOf(j, l)
		if j.Ready() > 0 || j.Room() == 0 || work < minTakeBack {
			continue
		}
		n := 0
		for n < len(shapes) && shapes[n].shape != j.Shape {
			n++
		}
		if n == len(shapes) {
			shapes = append(shapes, &donors{shape: j.Shape})
		}
		shapes[n].list = append(shapes[n].list, donor{l, work})
	}
	for _, d := range shapes {
		heap.Init(d)
	}
	return shapes
}

// minTakeBack is the least work, in microseconds for each slot of the worker
// that holds it, that is worth the round trip of taking back.
const minTakeBack = 5000

// workOf is what a lease has beyond what runs and was asked for already.
func workOf(j *state.Job, l *state.Lease) uint64 {
	busy := l.Slots() + l.Asked()
	if l.Remaining() <= busy {
		return 0
	}
	return (l.Remaining() - busy) * max(j.MeanDuration(), 1) / max(l.Slots(), 1)
}

// takeFor asks for half of what the lease with most work could give.
func (r *round) takeFor(w *state.Worker, shapes []*donors) {
	var from donor
	var of *donors
	for _, d := range shapes {
		if w.Free().Fits(d.shape) == 0 {
			continue
		}
		got, ok := d.first(w.Num)
		switch {
		case !ok:
			continue
		case of == nil || got.work > from.work || got.work == from.work && got.lease.ID < from.lease.ID:
			if of != nil {
				heap.Push(of, from)
			}
			from, of = got, d
		default:
			heap.Push(d, got)
		}
	}
	if of == nil {
		return
	}
	l := from.lease
	set := l.Tail((l.Remaining() - l.Slots() - l.Asked() + 1) / 2)
	if set.Empty() {
		heap.Push(of, from)
		return
	}
	r.emit(&journalv1.Entry{Op: &journalv1.Entry_TakeBack{TakeBack: &journalv1.TakeBack{LeaseId: l.ID, Runs: set.AppendPacked(nil)}}})
	if from.work = workOf(r.s.Job(l.Job), l); from.work >= minTakeBack {
		heap.Push(of, from)
	}
}
