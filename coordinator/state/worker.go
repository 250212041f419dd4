// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// hello takes in a worker's whole view of itself and makes both sides agree:
// what the worker does not hold goes back to the queue, what it should not
// hold is revoked.
func (s *State) hello(h *volleyv1.Hello) (Result, error) {
	if h.GetNodeId() == "" || h.GetEpoch() == 0 {
		return Result{}, fmt.Errorf("hello: %w: node id %q, epoch %d", ErrInvalid, h.GetNodeId(), h.GetEpoch())
	}
	held := make(map[uint64]*heldLease, len(h.GetHeld()))
	for _, hl := range h.GetHeld() {
		p, err := parseHeld(hl)
		if err != nil {
			return Result{}, fmt.Errorf("hello of %q: lease %d: %w: %w", h.GetName(), hl.GetLeaseId(), ErrInvalid, err)
		}
		held[hl.GetLeaseId()] = p
	}
	w := s.WorkerByNode(h.GetNodeId())
	if w != nil && h.GetEpoch() < w.Epoch {
		return Result{}, fmt.Errorf("hello of %q: %w: epoch %d is older than %d: another process speaks for this node",
			h.GetName(), ErrConflict, h.GetEpoch(), w.Epoch)
	}
	if w == nil {
		w = &Worker{Num: s.nextWorker, Status: NodeLost}
		s.nextWorker++
		s.workers = append(s.workers, w)
		s.byNode[h.GetNodeId()] = w.Num
	}
	restarted := w.Epoch != h.GetEpoch()
	if w.Status != NodeDraining || restarted {
		s.setStatus(w, NodeReady)
	}
	w.Epoch = h.GetEpoch()
	w.Connected = s.now
	w.Hello = proto.CloneOf(h)
	w.Hello.Held = nil
	w.Capacity = Shape{h.GetCapacity().GetCpuMilli(), h.GetCapacity().GetMemoryBytes(), h.GetCapacity().GetGpu()}
	s.dirtyWorkers[w.Num] = struct{}{}
	w.Session++
	s.emit(HelloEffect{Worker: w.Num, Hello: h, Session: w.Session})

	for _, id := range append([]uint64(nil), w.leases...) {
		hl := held[id]
		if hl == nil {
			hl = &heldLease{new(sharding.Set), new(sharding.Set), new(sharding.Set)}
		}
		s.reconcile(w, s.leases[id], hl, restarted)
	}
	for _, hl := range h.GetHeld() { // in the order of the message, not of a map
		if l := s.leases[hl.GetLeaseId()]; l == nil || l.Worker != w.Num {
			if len(hl.GetUnfinished()) > 0 {
				s.emit(RevokeEffect{Worker: w.Num, Revoke: &volleyv1.Revoke{LeaseId: hl.GetLeaseId(), Drop: true}})
			}
		}
	}
	return Result{Worker: w.Num}, nil
}

type heldLease struct{ unfinished, running, finished *sharding.Set }

func parseHeld(h *volleyv1.HeldLease) (*heldLease, error) {
	var p heldLease
	var err error
	if p.unfinished, err = sharding.ParsePacked(h.GetUnfinished()); err != nil {
		return nil, fmt.Errorf("unfinished: %w", err)
	}
	if p.running, err = sharding.ParsePacked(h.GetRunning()); err != nil {
		return nil, fmt.Errorf("running: %w", err)
	}
	if p.finished, err = sharding.ParsePacked(h.GetFinished()); err != nil {
		return nil, fmt.Errorf("finished: %w", err)
	}
	return &p, nil
}

// reconcile makes one lease agree with what its worker says that it holds.
func (s *State) reconcile(w *Worker, l *Lease, h *heldLease, restarted bool) {
	j := s.mut(l.Job)
	l.asked.Reset()

	// Held, but not under this lease any more, because a Hello was overtaken by a
	// newer one: stop. What is reported of these will be passed over. Not a
	// drop: the worker would drop the whole lease, and the rest would wait for
	// ever.
	extra := h.unfinished.Clone()
	extra.Subtract(l.remaining)
	if !extra.Empty() {
		s.emit(RevokeEffect{Worker: w.Num, Revoke: &volleyv1.Revoke{LeaseId: l.ID, Runs: extra.AppendPacked(nil), Kill: true}})
	}
	// Granted, but not held: the grant was lost on the way, or the worker's
	// process has died with the tasks.
	gone := l.remaining.Clone()
	gone.Subtract(h.unfinished)
	gone.Subtract(h.finished)
	s.lose(j, l, w, gone)

	if !restarted {
		h.running.Intersect(l.remaining)
		for i := range h.running.All() {
			s.begin(j, l, w, i)
		}
	}
	switch {
	case l.remaining.Empty():
	case j.cancel:
		s.emit(RevokeEffect{Worker: w.Num, Revoke: &volleyv1.Revoke{LeaseId: l.ID, Kill: j.terminate}})
	default:
		soft := j.killing.Clone()
		soft.Subtract(j.stopping)
		s.revokeAgain(w, l, soft, false)
		s.revokeAgain(w, l, j.stopping.Clone(), true)
	}
	s.charge(j, l)
	s.settle(j)
}

func (s *State) revokeAgain(w *Worker, l *Lease, set *sharding.Set, kill bool) {
	if set.Intersect(l.remaining); !set.Empty() {
		s.emit(RevokeEffect{Worker: w.Num, Revoke: &volleyv1.Revoke{LeaseId: l.ID, Runs: set.AppendPacked(nil), Kill: kill}})
	}
}

// lose takes indexes from a lease whose worker has lost them. What is known to
// have started has used an attempt, which is not charged to the job's budget;
// the rest goes back untouched.
func (s *State) lose(j *Job, l *Lease, w *Worker, gone *sharding.Set) {
	if gone.Empty() {
		return
	}
	started := gone.Clone()
	started.Intersect(l.running)
	idle := gone.Clone()
	idle.Subtract(started)
	if !idle.Empty() {
		// The worker may have started them without our hearing of it. Added to an
		// older lease, or to this one, they would run under a number that does
		// not grow, and whoever fences by it would refuse the newer execution.
		j.fence = s.nextLease
	}
	s.giveBack(j, l, idle)
	s.preempt(j, l, w, started)
}

// preempt ends running attempts through no fault of theirs.
func (s *State) preempt(j *Job, l *Lease, w *Worker, started *sharding.Set) {
	for i := range started.All() {
		l.remaining.Remove(i)
		l.running.Remove(i)
		l.asked.Remove(i)
		j.leased--
		j.running--
		j.lostRuns++
		_, r := j.peek(i)
		start := j.Created + r.start()
		s.finish(j, l, w, i, &ended{
			start: start, us: uint64(max(s.now-start, 0)) * 1000, outcome: volleyv1.Outcome_OUTCOME_FAILED,
			exit: noExit, metric: math.NaN(), uncharge: true,
		})
	}
}

// begin notes that child i's process runs.
func (s *State) begin(j *Job, l *Lease, w *Worker, i uint64) {
	if l.running.Contains(i) {
		return
	}
	l.running.Add(i)
	j.running++
	c, k, r := j.rec(i)
	r.keepHistory(c, k)
	r.setPhase(phaseRunning)
	r.setStart(s.now - j.Created)
	r.worker = w.Num
	r.attempt = uint16(min(l.Attempt, math.MaxUint16))
	r.exit = noExit
	r.reason = 0
	if j.Started == 0 {
		j.Started = s.now
	}
}

// workerGone gives a worker up: its lease with the coordinator has run out
// (lost), or it has said good-bye (left).
func (s *State) workerGone(node string, epoch uint64, status NodeStatus) (Result, error) {
	w := s.WorkerByNode(node)
	if w == nil || w.Epoch != epoch {
		return Result{}, fmt.Errorf("worker %q, epoch %d: %w", node, epoch, ErrNotFound)
	}
	s.setStatus(w, status)
	if status == NodeLost {
		s.emit(LostEffect{Worker: w.Num})
	}
	delete(s.dirtyWorkers, w.Num)
	for _, id := range append([]uint64(nil), w.leases...) {
		l := s.leases[id]
		j := s.mut(l.Job)
		s.retired[id] = l.Job
		s.lose(j, l, w, l.remaining.Clone())
		s.charge(j, l)
		s.settle(j)
	}
	delete(s.dirtyWorkers, w.Num)
	return Result{Worker: w.Num}, nil
}

func (s *State) drain(op *journalv1.WorkerDrain) (Result, error) {
	w := s.WorkerByNode(op.GetNodeId())
	if w == nil || w.Status == NodeLost || w.Status == NodeLeft {
		return Result{}, fmt.Errorf("worker %q: %w", op.GetNodeId(), ErrNotFound)
	}
	status := NodeReady
	if op.GetDrain() {
		status = NodeDraining
	}
	s.setStatus(w, status)
	s.dirtyWorkers[w.Num] = struct{}{}
	return Result{Worker: w.Num}, nil
}
