// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// worker is one node and its worker process, over all its lives. It follows
// worker.proto and keeps a real worker's promises: reports are spooled before
// they are sent, and kept until acknowledged.
type worker struct {
	s    *sim
	node string
	num  int
	cap  int64

	alive  bool
	paused bool
	// waiting is what happened while it was paused.
	waiting []func()
	epoch   uint64
	session *session
	welcome bool
	ttl     int64
	beating int // number of the heartbeat timer that counts
	drained bool
	leaving bool

	jobs   map[uint64]*volleyv1.JobSpec
	leases []*lease // in the order of arrival
	seq    uint64
	spool  []*volleyv1.Report
	// sent is the last report that went out in this session.
	sent     uint64
	flushing bool
	offset   int64
}

// lease is what a worker has of one lease.
type lease struct {
	id, job   uint64
	attempt   uint32
	parallel  uint32
	priority  int32
	unstarted *sharding.Set
	running   []*exec
	// news since the last report.
	news *volleyv1.LeaseReport
	prev int64 // start of the last finished one
}

func newWorker(s *sim, i int) *worker {
	w := &worker{s: s, num: i, node: fmt.Sprintf("n%d", i), cap: int64(1000 * (1 + s.rng.IntN(4)))}
	if i == 0 {
		w.cap = 4000 // large enough for every task
	}
	w.offset = s.between(0, 3*second) - second
	return w
}

func (w *worker) start() {
	if w.alive {
		return
	}
	w.alive, w.paused, w.waiting, w.welcome, w.drained, w.leaving = true, false, nil, false, false, false
	w.epoch++
	w.jobs, w.leases = map[uint64]*volleyv1.JobSpec{}, nil
	w.flushing = false
	if w.s.chance(0.3) {
		w.spool = nil // its disk is new
	}
	w.seq = 0
	for _, r := range w.spool {
		w.seq++
		r.Seq = w.seq
	}
	w.s.note("worker %s starts, epoch %d, %d reports in its spool", w.node, w.epoch, len(w.spool))
	w.connect()
}

// kill ends the process and its tasks.
func (w *worker) kill() {
	if !w.alive {
		return
	}
	w.s.note("worker %s dies", w.node)
	w.alive = false
	for _, l := range w.leases {
		for _, e := range l.running {
			w.s.oracle.stopped(e)
		}
	}
	if x := w.session; x != nil {
		w.session = nil
		x.drop()
	}
}

// run does f now, or when the process goes on.
func (w *worker) run(epoch uint64, f func()) {
	switch {
	case !w.alive || w.epoch != epoch:
	case w.paused:
		w.waiting = append(w.waiting, f)
	default:
		f()
	}
}

// later runs f in this process after a while.
func (w *worker) later(delay int64, f func()) {
	epoch := w.epoch
	w.s.after(delay, func() { w.run(epoch, f) })
}

func (w *worker) resume() {
	if !w.alive || !w.paused {
		return
	}
	w.paused = false
	w.s.note("worker %s goes on", w.node)
	epoch := w.epoch
	for len(w.waiting) > 0 && w.alive && !w.paused && w.epoch == epoch {
		f := w.waiting[0]
		w.waiting = w.waiting[1:]
		f()
	}
}

func (w *worker) connect() {
	if w.session != nil || !w.alive {
		return
	}
	if !w.s.coord.up {
		w.later(w.s.between(20*millisecond, 500*millisecond), w.connect)
		return
	}
	x := &session{s: w.s, w: w, epoch: w.epoch, jobs: map[uint64]bool{}, life: &coordLife{w.s.coord.core}}
	w.session, w.welcome = x, false
	x.up(&volleyv1.ConnectRequest{Hello: w.hello()})
	if !w.s.calm && w.s.chance(0.1) {
		// A connection that breaks at once: its Hello may be overtaken by the next.
		w.s.after(w.s.between(0, 60*millisecond), func() {
			if w.session == x {
				x.drop()
			}
		})
	}
}

// overtaken breaks the connection, and the next one too, right after its Hello,
// which arrives later than the one of the third.
func (w *worker) overtaken() {
	if !w.alive || w.paused || w.leaving || w.session == nil || !w.s.coord.up {
		return
	}
	w.session.drop()
	x := &session{s: w.s, w: w, epoch: w.epoch, jobs: map[uint64]bool{}, life: &coordLife{w.s.coord.core}, closed: true}
	m := &volleyv1.ConnectRequest{Hello: w.hello()}
	w.s.note("the connection of worker %s breaks twice", w.node)
	w.s.after(w.s.between(50*millisecond, 1500*millisecond), func() {
		w.s.note("an old hello of worker %s arrives", w.node)
		x.arrive(m)
		w.s.after(w.s.between(0, 300*millisecond), x.end)
	})
}

func (w *worker) disconnected(x *session) {
	w.run(x.epoch, func() {
		if w.session == x {
			w.session, w.welcome = nil, false
			w.later(w.s.between(0, 300*millisecond), w.connect)
		}
	})
}

// receive handles a message of the coordinator, in the protocol's order.
func (w *worker) receive(x *session, m *volleyv1.ConnectResponse) {
	w.run(x.epoch, func() {
		if w.session != x || x.closed {
			return
		}
		if ack := m.GetAckedSeq(); ack > 0 {
			w.spool = slices.DeleteFunc(w.spool, func(r *volleyv1.Report) bool { return r.GetSeq() <= ack })
		}
		if m.Welcome != nil {
			w.welcome, w.sent = true, 0
			w.ttl = m.GetWelcome().GetLeaseTtlMs() * millisecond
			w.beating++
			w.beat(x, w.beating)
		}
		for _, j := range m.GetJobs() {
			w.jobs[j.GetJob()] = j.GetSpec()
		}
		for _, g := range m.GetGrants() {
			w.grant(g)
		}
		for _, r := range m.GetRevokes() {
			w.revoke(r)
		}
		for _, id := range m.GetForgetJobs() {
			delete(w.jobs, id)
		}
		w.sendReports()
		w.kick()
		w.mayLeave()
	})
}

func (w *worker) beat(x *session, timer int) {
	if w.session != x || x.closed || w.beating != timer {
		return
	}
	x.up(&volleyv1.ConnectRequest{Heartbeat: true})
	w.later(w.ttl/3, func() { w.beat(x, timer) })
}

func (w *worker) lease(id uint64) *lease {
	for _, l := range w.leases {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (w *worker) grant(g *volleyv1.Grant) {
	set, err := sharding.ParsePacked(g.GetRuns())
	switch {
	case err != nil || set.Empty() || g.GetAttempt() == 0 || g.GetParallel() == 0:
		w.s.failf("worker %s gets a malformed grant %v", w.node, g)
		return
	case w.jobs[g.GetJob()] == nil:
		w.s.failf("worker %s gets a grant of job %d before its spec", w.node, g.GetJob())
		return
	}
	l := w.lease(g.GetLeaseId())
	if l == nil {
		l = &lease{id: g.GetLeaseId(), job: g.GetJob(), attempt: g.GetAttempt(), unstarted: new(sharding.Set)}
		w.leases = append(w.leases, l)
	}
	if l.job != g.GetJob() || l.attempt != g.GetAttempt() {
		w.s.failf("worker %s: lease %d is of job %d, attempt %d; a grant adds job %d, attempt %d", w.node, l.id, l.job, l.attempt, g.GetJob(), g.GetAttempt())
		return
	}
	w.s.note("worker %s gets lease %d: job %d, attempt %d, %v, parallel %d", w.node, l.id, l.job, l.attempt, g.GetRuns(), g.GetParallel())
	l.parallel, l.priority = g.GetParallel(), g.GetPriority()
	for _, e := range l.running {
		if set.Contains(e.index) {
			w.s.failf("worker %s is granted %d:%d under lease %d, which it is running", w.node, l.job, e.index, l.id)
			return
		}
	}
	l.unstarted.Union(set)
	if w.leaving {
		w.handBack(l, l.unstarted.Clone())
	}
}

func (w *worker) revoke(r *volleyv1.Revoke) {
	l := w.lease(r.GetLeaseId())
	if l == nil {
		return
	}
	if r.GetDrop() {
		w.s.note("worker %s drops lease %d", w.node, l.id)
		for _, e := range l.running {
			w.s.oracle.stopped(e)
		}
		l.running, l.news = nil, nil
		w.leases = slices.DeleteFunc(w.leases, func(o *lease) bool { return o == l })
		return
	}
	set := l.unstarted.Clone()
	var runs *sharding.Set
	if len(r.GetRuns()) > 0 {
		var err error
		if runs, err = sharding.ParsePacked(r.GetRuns()); err != nil {
			w.s.failf("worker %s gets a malformed revoke: %v", w.node, err)
			return
		}
		set.Intersect(runs)
	}
	w.handBack(l, set)
	if !r.GetKill() {
		return
	}
	for _, e := range l.running {
		if runs == nil || runs.Contains(e.index) {
			e.killed = true
			w.later(w.s.between(0, 200*millisecond), func() { w.ended(l, e) })
		}
	}
}

// handBack returns indexes unstarted.
func (w *worker) handBack(l *lease, set *sharding.Set) {
	if set.Empty() {
		return
	}
	w.s.note("worker %s hands back %v of lease %d", w.node, set.AppendPacked(nil), l.id)
	l.unstarted.Subtract(set)
	n := w.newsOf(l)
	n.Returned = set.AppendPacked(n.GetReturned())
}

// kick starts what may start: as many of each lease as it is allowed, without
// a look at the node's capacity, because the coordinator promises to have
// counted. Only tasks of leases that were dropped could be in the way, and
// these end at once here.
func (w *worker) kick() {
	for _, l := range w.leases {
		for uint32(len(l.running)) < l.parallel && !l.unstarted.Empty() && !w.leaving {
			i, _ := l.unstarted.Min()
			l.unstarted.Remove(i)
			w.execute(l, i)
		}
	}
}

func (w *worker) execute(l *lease, i uint64) {
	e := w.s.oracle.started(w, l, i)
	l.running = append(l.running, e)
	spec := w.jobs[l.job]
	mean := spec.GetTimeoutMs() * millisecond // the workload says durations here
	if w.s.calm {
		mean = min(mean, 50*millisecond)
	}
	if w.s.chance(0.5) {
		w.newsSoon()
	}
	w.later(w.s.between(mean/10, 4*mean), func() { w.ended(l, e) })
}

// ended is the end of a process.
func (w *worker) ended(l *lease, e *exec) {
	at := slices.Index(l.running, e)
	if at < 0 {
		return // ended before, by a kill
	}
	l.running = slices.Delete(l.running, at, at+1)
	w.s.oracle.stopped(e)
	outcome, exit := volleyv1.Outcome_OUTCOME_UNSPECIFIED, uint32(0)
	switch {
	case e.killed:
		outcome, exit = volleyv1.Outcome_OUTCOME_KILLED, 143
	case w.s.chance(failureRate(w.jobs[l.job], w.s.calm)):
		outcome, exit = volleyv1.Outcome_OUTCOME_FAILED, uint32(pick(w.s, 1, 2, 137))
		if w.s.chance(0.1) {
			outcome = volleyv1.Outcome_OUTCOME_TIMED_OUT
		}
	}
	e.succeeded = outcome == volleyv1.Outcome_OUTCOME_UNSPECIFIED
	w.s.note("worker %s ends %d:%d under lease %d: %s", w.node, l.job, e.index, l.id, outcome)
	n := w.newsOf(l)
	if len(n.GetFinished()) == 0 {
		l.prev = 0
	}
	start := base.UnixMilli() + (e.at+w.offset)/millisecond
	n.Finished = append(n.Finished, e.index, 1)
	n.StartMs = append(n.StartMs, start-l.prev)
	l.prev = start
	n.DurationUs = append(n.DurationUs, uint64(w.s.now-e.at))
	n.Outcome = append(n.Outcome, uint32(outcome))
	n.ExitCode = append(n.ExitCode, exit)
	n.PeakKib = append(n.PeakKib, uint64(e.id))
	n.Metric = append(n.Metric, math.NaN())
	w.kick()
	w.mayLeave()
}

// leave is an orderly end: hand back, stop what runs, report, say good-bye.
func (w *worker) leave() {
	if !w.alive || w.paused || w.leaving {
		return
	}
	w.s.note("worker %s leaves", w.node)
	w.leaving = true
	for _, l := range w.leases {
		w.handBack(l, l.unstarted.Clone())
		for _, e := range l.running {
			w.s.oracle.stopped(e)
			n := w.newsOf(l)
			n.Preempted = append(n.Preempted, e.index, 1)
		}
		l.running = nil
	}
	w.cut()
	w.sendReports()
	w.mayLeave()
}

func (w *worker) mayLeave() {
	if !w.leaving || w.session == nil || !w.welcome || len(w.spool) > 0 || len(w.leases) > 0 {
		return
	}
	w.session.up(&volleyv1.ConnectRequest{Bye: true})
	w.alive = false
	w.s.note("worker %s has left", w.node)
	w.session.closed = true
	w.session = nil
}
