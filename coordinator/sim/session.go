// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// session is one stream. Its two ends learn of its end at different times.
type session struct {
	s *sim
	w *worker
	// epoch of the worker process that opened it.
	epoch uint64
	hello *volleyv1.Hello

	// The coordinator's end. num and number are set when it is attached.
	num    uint32
	number uint64
	life   *coordLife
	next   *volleyv1.ConnectResponse
	jobs   map[uint64]bool
	// toCoord and toWorker are when the last message of a direction arrives.
	toCoord, toWorker int64
	// limit: messages that arrive at the coordinator later than this were lost
	// with the connection. 0: it stands.
	limit int64
	// closed: the worker's end, cut: the coordinator's.
	closed, cut bool
}

// coordLife tells one life of the coordinator from the next.
type coordLife struct{ core any }

// delay of one message.
func (s *sim) delay() int64 {
	if s.calm {
		return 200
	}
	if s.chance(0.02) {
		return s.between(50, second) // a lost packet, sent again
	}
	return s.between(50, 60*millisecond)
}

// up sends a message to the coordinator.
func (x *session) up(m *volleyv1.ConnectRequest) {
	if x.closed {
		return
	}
	x.toCoord = max(x.toCoord, x.s.now+x.s.delay())
	at := x.toCoord
	// The worker goes on to use what it has sent.
	m = proto.CloneOf(m)
	x.s.after(at-x.s.now, func() {
		if x.limit == 0 || at <= x.limit {
			x.arrive(m)
		}
	})
}

func (x *session) arrive(m *volleyv1.ConnectRequest) {
	c := x.s.coord
	if !c.up || x.cut || x.life.core != any(c.core) {
		return
	}
	if h := m.GetHello(); h != nil {
		x.hello = h
		c.greeting[h] = x
		c.do(&journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: h}}}, func(_ state.Result, err error) {
			if err != nil {
				delete(c.greeting, h)
				x.end()
			}
		})
		return
	}
	if r := m.GetReport(); r != nil {
		if x.s.opts.Bug == BugForgetReturned {
			for _, lr := range r.GetLeases() {
				lr.Returned = nil
			}
		}
		c.do(&journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
			NodeId: x.w.node, Epoch: x.epoch, Session: x.number, Report: r,
		}}}, func(_ state.Result, err error) {
			if errors.Is(err, state.ErrInvalid) {
				x.s.failf("a report is refused: %v", err)
			}
		})
	}
	if m.GetHeartbeat() {
		c.core.Touch(c.wall(), x.w.node, x.epoch)
	}
	if m.GetDrain() {
		c.do(&journalv1.Entry{Op: &journalv1.Entry_WorkerDrain{WorkerDrain: &journalv1.WorkerDrain{NodeId: x.w.node, Drain: true}}}, nil)
	}
	if m.GetBye() {
		c.do(&journalv1.Entry{Op: &journalv1.Entry_WorkerLeft{WorkerLeft: &journalv1.WorkerLeft{NodeId: x.w.node, Epoch: x.epoch}}}, func(state.Result, error) { x.end() })
	}
}

// down adds to the next message to the worker. What gathers before it is sent
// travels together.
func (x *session) down(add func(*volleyv1.ConnectResponse)) {
	if x.cut {
		return
	}
	if x.next == nil {
		x.next = &volleyv1.ConnectResponse{}
		x.s.after(x.s.between(0, millisecond), func() {
			m := x.next
			x.next = nil
			if m == nil || x.cut {
				return
			}
			m = proto.CloneOf(m)
			x.toWorker = max(x.toWorker, x.s.now+x.s.delay())
			x.s.after(x.toWorker-x.s.now, func() { x.w.receive(x, m) })
		})
	}
	add(x.next)
}

// end is the coordinator closing the stream: what it has sent before arrives.
func (x *session) end() {
	if x.cut {
		return
	}
	x.cut = true
	if c := x.s.coord; c.up && c.sessions[x.num] == x {
		delete(c.sessions, x.num)
	}
	x.s.after(x.s.delay(), x.lost)
}

// coordClosed is the death of the coordinator.
func (x *session) coordClosed() {
	x.cut = true
	x.s.after(x.s.delay(), x.lost)
}

// lost is the worker learning that the stream has ended.
func (x *session) lost() {
	if !x.closed {
		x.closed = true
		x.w.disconnected(x)
	}
}

// drop breaks the connection: each end learns of it in its own time, and of
// what is on its way to the coordinator a part arrives nevertheless.
func (x *session) drop() {
	x.limit = x.s.now + x.s.between(0, 800*millisecond)
	x.s.after(x.s.between(0, 500*millisecond), x.end)
	x.lost()
}

// release states again the rule of package dispatch: effects go to the session
// that is attached when they come; a Hello attaches its own session and cuts
// the older one off.
func (c *coord) release(st *state.State, effects []state.Effect) {
	if c.early() {
		var now, later []state.Effect
		for _, e := range effects {
			_, ack := e.(state.AckEffect)
			_, grant := e.(state.GrantEffect)
			if ack && c.s.opts.Bug == BugAckEarly || grant && c.s.opts.Bug == BugGrantEarly {
				now = append(now, e)
			} else {
				later = append(later, e)
			}
		}
		c.withheld = append(c.withheld, later)
		effects = now
	} else {
		c.s.oracle.released(effects)
	}
	c.send(st, effects)
}

func (c *coord) send(st *state.State, effects []state.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case state.HelloEffect:
			c.attach(e)
		case state.GrantEffect:
			c.s.oracle.granted(e)
			if x := c.sessions[e.Worker]; x != nil {
				x.grant(st, e.Grant)
			}
		case state.RevokeEffect:
			if x := c.sessions[e.Worker]; x != nil {
				x.down(func(m *volleyv1.ConnectResponse) { m.Revokes = append(m.Revokes, e.Revoke) })
			}
		case state.AckEffect:
			c.s.oracle.acknowledged(st, e)
			if x := c.sessions[e.Worker]; x != nil && x.epoch == e.Epoch {
				x.down(func(m *volleyv1.ConnectResponse) { m.AckedSeq = max(m.AckedSeq, e.Seq) })
			}
		case state.LostEffect:
			c.s.stats.Lost++
			c.s.note("worker number %d is given up for lost", e.Worker)
			if x := c.sessions[e.Worker]; x != nil {
				x.end()
			}
		case state.ForgetEffect:
			for _, w := range c.s.workers { // in a fixed order
				if x := w.session; x != nil && c.sessions[x.num] == x {
					delete(x.jobs, e.Job)
					x.down(func(m *volleyv1.ConnectResponse) { m.ForgetJobs = append(m.ForgetJobs, e.Job) })
				}
			}
		case state.JobEffect:
		}
	}
}

func (c *coord) attach(e state.HelloEffect) {
	x := c.greeting[e.Hello]
	delete(c.greeting, e.Hello)
	if old := c.sessions[e.Worker]; old != nil {
		old.end()
		delete(c.sessions, e.Worker)
	}
	if x == nil || x.cut {
		return
	}
	x.num, x.number = e.Worker, e.Session
	c.sessions[e.Worker] = x
	ttl := c.core.Options().WorkerLease.Milliseconds()
	x.down(func(m *volleyv1.ConnectResponse) { m.Welcome = &volleyv1.Welcome{ClusterId: "sim", LeaseTtlMs: ttl} })
}

func (x *session) grant(st *state.State, g *volleyv1.Grant) {
	x.down(func(m *volleyv1.ConnectResponse) {
		if j := st.Job(g.GetJob()); j != nil && !x.jobs[g.GetJob()] {
			x.jobs[g.GetJob()] = true
			m.Jobs = append(m.Jobs, &volleyv1.WorkerJob{Job: j.ID, JobId: j.IDString(), Spec: j.Spec, Size: j.Size})
		}
		m.Grants = append(m.Grants, g)
	})
}
