// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// oracle knows what has really happened, and compares.
type oracle struct {
	s     *sim
	execs []*exec // by id - 1
	index map[child]*indexLog
	// grantee of each lease that was ever sent out.
	grantee map[uint64]uint32
	// jobs as last looked at.
	jobs map[uint64]*jobLog
	// current has the executions that the report now being applied tells of
	// under a lease which holds them.
	current map[uint32]bool
	frozen  *state.Frozen
	frozeAs []byte
}

type child struct{ job, index uint64 }

// exec is one process.
type exec struct {
	id      uint32
	job     uint64
	index   uint64
	lease   uint64
	attempt uint32
	w       *worker
	at      int64
	running bool
	told    bool
	killed  bool
	// succeeded, once it has ended.
	succeeded bool
	// acked: its worker was told to forget the result, while it was recorded.
	acked bool
}

// indexLog is what has happened to one index.
type indexLog struct {
	maxLease uint64
	leases   map[uint64]uint32
}

type jobLog struct {
	attempts uint64
	terminal bool
	recorded map[uint32]bool
	ended    map[uint64]bool // indexes seen as ended
}

func newOracle(s *sim) *oracle {
	return &oracle{s: s, index: map[child]*indexLog{}, grantee: map[uint64]uint32{}, jobs: map[uint64]*jobLog{}}
}

func (o *oracle) log(job, index uint64) *indexLog {
	k := child{job, index}
	if o.index[k] == nil {
		o.index[k] = &indexLog{leases: map[uint64]uint32{}}
	}
	return o.index[k]
}

func holds(st *state.State, lease, index uint64) bool {
	l := st.Lease(lease)
	return l != nil && l.Holds(index)
}

// started is the start of a process.
func (o *oracle) started(w *worker, l *lease, i uint64) *exec {
	s := o.s
	e := &exec{id: uint32(len(o.execs) + 1), job: l.job, index: i, lease: l.id, attempt: l.attempt, w: w, at: s.now, running: true}
	o.execs = append(o.execs, e)
	s.stats.Executions++
	s.note("worker %s starts %d:%d attempt %d under lease %d (execution %d)", w.node, l.job, i, l.attempt, l.id, e.id)
	g := o.log(l.job, i)
	if before := g.leases[l.id]; before != 0 {
		s.failf("index %d:%d is executed twice under lease %d: executions %d and %d", l.job, i, l.id, before, e.id)
	}
	g.leases[l.id] = e.id
	// The state of the disk is what the worker may have heard of.
	if holds(s.coord.replica, l.id, i) && l.id <= g.maxLease {
		s.failf("index %d:%d is executed under lease %d, and was under lease %d before: the fencing token does not grow", l.job, i, l.id, g.maxLease)
	}
	g.maxLease = max(g.maxLease, l.id)
	o.capacity(w)
	o.concurrency(l.job)
	return e
}

func (o *oracle) stopped(e *exec) { e.running = false }

// capacity: what runs on a node under current leases fits into it.
func (o *oracle) capacity(w *worker) {
	st := o.s.coord.replica
	used := int64(0)
	for _, l := range w.leases {
		n := uint32(0)
		for _, e := range l.running {
			if e.running && holds(st, l.id, e.index) {
				used += st.Job(l.job).Shape.CPUMilli
				n++
			}
		}
		if n > l.parallel {
			o.s.failf("worker %s runs %d tasks of lease %d, allowed are %d", w.node, n, l.id, l.parallel)
		}
	}
	// execute is called before the task is in its lease: it is the one more.
	if used > w.cap {
		o.s.failf("worker %s runs tasks of %d milli CPU and has %d", w.node, used, w.cap)
	}
}

// concurrency: of a job with a limit no more run under current leases.
func (o *oracle) concurrency(job uint64) {
	st := o.s.coord.replica
	j := st.Job(job)
	if j == nil || j.Spec.GetConcurrency() == 0 {
		return
	}
	n := uint64(0)
	for _, w := range o.s.workers {
		if !w.alive {
			continue
		}
		for _, l := range w.leases {
			for _, e := range l.running {
				if l.job == job && e.running && holds(st, l.id, e.index) {
					n++
				}
			}
		}
	}
	if n > j.Spec.GetConcurrency() {
		o.s.failf("%d tasks of job %d run, its concurrency is %d", n, job, j.Spec.GetConcurrency())
	}
}

// granted is a grant on its way to a worker.
func (o *oracle) granted(e state.GrantEffect) {
	id := e.Grant.GetLeaseId()
	if w, ok := o.grantee[id]; ok && w != e.Worker {
		o.s.failf("lease %d is granted to worker number %d and was to %d", id, e.Worker, w)
	}
	o.grantee[id] = e.Worker
}

// before looks at a command that is about to be applied.
func (o *oracle) before(e *journalv1.Entry) {
	op := e.GetWorkerReport()
	if op == nil {
		return
	}
	st := o.s.coord.core.State()
	if o.current == nil {
		o.current = map[uint32]bool{}
	}
	w := st.WorkerByNode(op.GetNodeId())
	for _, lr := range op.GetReport().GetLeases() {
		l := st.Lease(lr.GetLeaseId())
		for k := 0; k < len(lr.GetFinished()); k += 2 {
			if w != nil && l != nil && l.Worker == w.Num && l.Holds(lr.GetFinished()[k]) {
				o.current[uint32(lr.GetPeakKib()[k/2])] = true
			} else {
				o.s.stats.Stale++
			}
		}
	}
}

// released compares effects with those of the replica.
func (o *oracle) released(effects []state.Effect) {
	c := o.s.coord
	if len(c.expect) == 0 {
		o.s.failf("effects are released before their batch is durable: %v", effects)
		return
	}
	want := c.expect[0]
	c.expect = c.expect[1:]
	if len(want) != len(effects) {
		o.s.failf("a batch releases %d effects, its replay has %d", len(effects), len(want))
		return
	}
	for i := range want {
		if !sameEffect(want[i], effects[i]) {
			o.s.failf("effect %d of a batch is %v, in its replay %v", i, effects[i], want[i])
			return
		}
	}
}

func sameEffect(a, b state.Effect) bool {
	switch a := a.(type) {
	case state.GrantEffect:
		b, ok := b.(state.GrantEffect)
		return ok && a.Worker == b.Worker && proto.Equal(a.Grant, b.Grant)
	case state.RevokeEffect:
		b, ok := b.(state.RevokeEffect)
		return ok && a.Worker == b.Worker && proto.Equal(a.Revoke, b.Revoke)
	case state.HelloEffect:
		b, ok := b.(state.HelloEffect)
		return ok && a.Worker == b.Worker && a.Session == b.Session && proto.Equal(a.Hello, b.Hello)
	default:
		return a == b
	}
}

// acknowledged is the worker being told that a report is durable.
func (o *oracle) acknowledged(st *state.State, e state.AckEffect) {
	node := st.Worker(e.Worker).NodeID()
	for _, w := range o.s.workers {
		if w.node != node || w.epoch != e.Epoch {
			continue
		}
		for _, r := range w.spool {
			if r.GetSeq() != e.Seq {
				continue
			}
			for _, lr := range r.GetLeases() {
				for _, id := range lr.GetPeakKib() {
					x := o.execs[id-1]
					if l := o.jobs[x.job]; l != nil && l.recorded[uint32(id)] {
						x.acked = true
					}
				}
			}
		}
	}
}

// recovered is a new life of the coordinator that has read its disk and is
// about to lead.
func (o *oracle) recovered() {
	c := o.s.coord
	got, err := dump(c.core.State())
	if err != nil {
		o.s.failf("write the recovered state: %v", err)
		return
	}
	want, err := dump(c.replica)
	if err != nil {
		o.s.failf("write the replica: %v", err)
		return
	}
	if !bytes.Equal(got, want) {
		o.s.failf("the recovered state is not the one of the disk (%d and %d bytes)", len(got), len(want))
		return
	}
	o.frozen = nil
	o.jobs = map[uint64]*jobLog{}
	o.look(true)
	st := c.core.State()
	for _, e := range o.execs {
		if e.acked && st.Job(e.job) != nil && !o.jobs[e.job].recorded[e.id] {
			o.s.failf("the result of %d:%d (execution %d, lease %d) was acknowledged and is lost", e.job, e.index, e.id, e.lease)
			return
		}
	}
	for _, sub := range o.s.client.submits {
		if id, ok := st.JobByKey(sub.key); sub.job != 0 && sub.job > 0 && ok && id != sub.job {
			o.s.failf("submit %s was answered with job %d and is job %d", sub.key, sub.job, id)
		} else if sub.job != 0 && !ok && st.LastJob() < sub.job {
			o.s.failf("submit %s was answered with job %d and is lost", sub.key, sub.job)
		}
	}
}

func dump(st *state.State) ([]byte, error) {
	var b bytes.Buffer
	err := st.Freeze().Write(&b)
	return b.Bytes(), err
}

// checkStep runs after every event.
func (s *sim) checkStep() {
	if s.err != nil || !s.coord.up {
		return
	}
	s.oracle.look(false)
	s.oracle.current = nil
	if s.err != nil {
		return
	}
	if err := s.coord.core.State().CheckInvariants(); err != nil {
		s.failf("invariant: %v", err)
	}
	s.oracle.frozenStays()
}

// frozenStays: what Freeze has copied does not change while the state goes on.
func (o *oracle) frozenStays() {
	switch {
	case o.frozen == nil && o.s.chance(0.01):
		o.frozen = o.s.coord.core.State().Freeze()
		var b bytes.Buffer
		if err := o.frozen.Write(&b); err != nil {
			o.s.failf("write a frozen state: %v", err)
		}
		o.frozeAs = b.Bytes()
	case o.frozen != nil && o.s.chance(0.02):
		var b bytes.Buffer
		if err := o.frozen.Write(&b); err != nil || !bytes.Equal(b.Bytes(), o.frozeAs) {
			o.s.failf("a frozen state has changed (%v)", err)
		}
		o.frozen = nil
	}
}

// look compares every job that has changed with what was executed. With base
// set, what it finds is taken as seen before.
func (o *oracle) look(base bool) {
	st := o.s.coord.core.State()
	for _, id := range st.JobIDs() {
		j := st.Job(id)
		l := o.jobs[id]
		if l == nil {
			l = &jobLog{recorded: map[uint32]bool{}, ended: map[uint64]bool{}}
			o.jobs[id] = l
		}
		p := j.Proto()
		if l.terminal && !j.Terminal() {
			l.ended = map[uint64]bool{} // a rerun
		}
		if p.GetFinishedAttempts() == l.attempts && l.terminal == j.Terminal() && !base {
			continue
		}
		l.attempts, l.terminal = p.GetFinishedAttempts(), j.Terminal()
		if j.Size == huge {
			continue
		}
		if err := o.lookAt(st, j, l, base); err != nil {
			o.s.failf("job %d: %v", id, err)
			return
		}
	}
}

func (o *oracle) lookAt(st *state.State, j *state.Job, l *jobLog, base bool) error {
	ended := uint64(0)
	seen := map[uint32]bool{}
	for i := range j.Size {
		c := st.Child(j, i)
		done := c.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED || c.GetState() == volleyv1.JobState_JOB_STATE_FAILED
		if c.GetReusedFrom() != "" {
			l.ended[i] = true
			continue
		}
		for n, a := range c.GetAttempts() {
			last := n == len(c.GetAttempts())-1
			if last && c.GetState() == volleyv1.JobState_JOB_STATE_RUNNING {
				continue
			}
			ended++
			id := uint32(a.GetPeakMemoryBytes() >> 10)
			if id == 0 {
				continue // lost with its node or preempted
			}
			switch {
			case int(id) > len(o.execs):
				return fmt.Errorf("index %d: a result of execution %d, which never was", i, id)
			case seen[id]:
				return fmt.Errorf("double record: execution %d of index %d is recorded twice", id, i)
			case !l.recorded[id] && !base && l.ended[i]:
				return fmt.Errorf("double record: index %d had ended, and execution %d is recorded as well", i, id)
			case !l.recorded[id] && !base && !o.current[id]:
				return fmt.Errorf("execution %d of index %d is recorded, and its lease %d did not hold the index", id, i, o.execs[id-1].lease)
			case !l.recorded[id] && !base:
				o.s.stats.Recorded++
			}
			seen[id] = true
			if err := o.attempt(j, i, a, id); err != nil {
				return err
			}
			// A failed one may have been cancelled after a rerun.
			if last && c.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED && !o.execs[id-1].succeeded {
				return fmt.Errorf("index %d is %s, its execution %d said otherwise", i, c.GetState(), id)
			}
		}
		if done {
			l.ended[i] = true
		}
	}
	if ended != l.attempts {
		return fmt.Errorf("double record: %d attempts were recorded, its children have %d", l.attempts, ended)
	}
	l.recorded = seen
	return nil
}

func (o *oracle) attempt(j *state.Job, i uint64, a *volleyv1.Attempt, id uint32) error {
	e := o.execs[id-1]
	if e.job != j.ID || e.index != i || e.attempt != a.GetAttempt() || e.w.node != a.GetNode() || e.running {
		return fmt.Errorf("index %d, attempt %d on %s: execution %d was of %d:%d, attempt %d on %s (running %v)",
			i, a.GetAttempt(), a.GetNode(), id, e.job, e.index, e.attempt, e.w.node, e.running)
	}
	return nil
}

// checkEnd looks at what is left when everything has come to its end.
func (s *sim) checkEnd() {
	st := s.coord.core.State()
	for _, id := range st.JobIDs() {
		j := st.Job(id)
		c := j.Counts()
		if c.GetSucceeded()+c.GetFailed() != j.Size || len(j.Leases()) > 0 {
			s.failf("job %d has ended with %v of %d children, %d leases", id, c, j.Size, len(j.Leases()))
		}
	}
	keys := map[string]uint64{}
	for _, id := range st.JobIDs() {
		k := st.Job(id).Key
		if keys[k] != 0 {
			s.failf("jobs %d and %d are of one submit", keys[k], id)
		}
		keys[k] = id
	}
	s.oracle.recoveredEnd()
}

// recoveredEnd: what was acknowledged is there at the end.
func (o *oracle) recoveredEnd() {
	st := o.s.coord.core.State()
	for _, e := range o.execs {
		if e.acked && st.Job(e.job) != nil && !o.jobs[e.job].recorded[e.id] {
			o.s.failf("the result of %d:%d (execution %d) was acknowledged and is lost", e.job, e.index, e.id)
			return
		}
	}
}
