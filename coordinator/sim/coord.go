// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// coord is one coordinator with its disk, over all its lives.
type coord struct {
	s    *sim
	opts engine.Options
	disk *journal.Disk

	up   bool
	mem  *journal.Memory
	core *engine.Core
	// offset is how far the clock of this life is off.
	offset int64
	// inbox is what waits for the engine to accept commands.
	inbox      []func()
	committing bool

	greeting map[*volleyv1.Hello]*session
	sessions map[uint32]*session

	// pending are proposed records that the disk may still lose.
	pending [][]byte
	// replica reads what the disk holds, and nothing else.
	replica *state.State
	// expect are the effects of durable batches that the engine has not
	// released yet.
	expect [][]state.Effect
	// withheld are effects that a planted bug has let out too early, and which
	// are not what the bug is about, by batch.
	withheld [][]state.Effect
}

func newCoord(s *sim, o engine.Options) *coord {
	return &coord{s: s, opts: o, disk: &journal.Disk{}, replica: state.New()}
}

func (c *coord) wall() time.Time {
	return base.Add(time.Duration(c.s.now+c.offset) * time.Microsecond)
}

// early: the run has a bug which lets effects out before their batch is
// durable.
func (c *coord) early() bool {
	return c.s.opts.Bug == BugAckEarly || c.s.opts.Bug == BugGrantEarly
}

// state to look at: the speculative one, or the one of the disk.
func (c *coord) state() *state.State {
	if c.up {
		return c.core.State()
	}
	return c.replica
}

func (c *coord) start() {
	s := c.s
	if c.up {
		return
	}
	// A process that starts may find another wall clock than the one before.
	c.offset += s.between(0, 4*second) - second
	mem, err := journal.NewMemory(journal.MemoryConfig{Disk: c.disk, Hold: true})
	if err != nil {
		s.failf("open the journal: %v", err)
		return
	}
	c.mem, c.up, c.committing = mem, true, false
	c.greeting, c.sessions = map[*volleyv1.Hello]*session{}, map[uint32]*session{}
	c.core = engine.NewCore(&tap{Memory: mem, c: c}, "sim", c.opts, c.release)
	s.note("coordinator starts, clock off by %d us", c.offset)
	c.pump()
	s.after(0, func() { c.tick(mem) })
}

func (c *coord) tick(life *journal.Memory) {
	if !c.up || c.mem != life {
		return
	}
	c.core.Tick(c.wall())
	c.s.after(c.s.between(20*millisecond, 250*millisecond), func() { c.tick(life) })
}

// pump does what engine.Run does after each wake-up.
func (c *coord) pump() {
	if !c.up || c.s.err != nil {
		return
	}
	for len(c.inbox) > 0 && c.core.Accepts() {
		f := c.inbox[0]
		c.inbox = c.inbox[1:]
		f()
	}
	j := &tap{Memory: c.mem, c: c}
	for {
		ev, ok := j.Next()
		if !ok {
			break
		}
		if ev.Kind == journal.EventLeading {
			c.s.oracle.recovered()
		}
		if ev.Kind == journal.EventRestore {
			c.s.stats.Snapshots++
		}
		if err := c.core.Event(c.wall(), ev); err != nil {
			c.died(err)
			return
		}
		c.plant()
	}
	if err := c.core.Flush(c.wall()); err != nil {
		c.died(err)
		return
	}
	if c.mem.Held() > 0 && !c.committing {
		c.committing = true
		life := c.mem
		c.s.after(c.s.between(50, 20*millisecond), func() { c.commit(life) })
	}
	if c.s.chance(0.02) {
		c.mem.CommitSnapshot()
	}
}

func (c *coord) plant() {
	switch c.s.opts.Bug {
	case BugDoubleRecord:
		state.Plant(c.core.State(), state.FaultDoubleRecord)
		state.Plant(c.replica, state.FaultDoubleRecord)
	case BugUnfenced:
		state.Plant(c.core.State(), state.FaultUnfenced)
		state.Plant(c.replica, state.FaultUnfenced)
	default:
	}
}

// died ends a life that the journal has ended; anything else is a bug.
func (c *coord) died(err error) {
	if !errors.Is(err, engine.ErrNotLeader) && !errors.Is(err, journal.ErrFailed) && !errors.Is(err, journal.ErrInjected) {
		c.s.failf("the engine has stopped: %v", err)
		return
	}
	c.crash(0)
}

// commit is the disk becoming done with the oldest batches.
func (c *coord) commit(life *journal.Memory) {
	if !c.up || c.mem != life {
		return
	}
	c.committing = false
	c.durable(c.mem.Commit(1 + c.s.rng.IntN(2)))
}

// durable has the replica read n more records.
func (c *coord) durable(n int) {
	for _, data := range c.pending[:n] {
		var b journalv1.Batch
		if err := proto.Unmarshal(data, &b); err != nil {
			c.s.failf("the journal holds garbage: %v", err)
			return
		}
		var all []state.Effect
		for _, e := range b.GetEntries() {
			_, effects, err := c.replica.Apply(e)
			if err != nil {
				c.s.failf("a replay refuses an entry that the leader took: %v: %v", e, err)
				return
			}
			all = append(all, effects...)
		}
		if len(all) > 0 && c.up {
			c.expect = append(c.expect, all)
		}
		if len(c.withheld) > 0 {
			held := c.withheld[0]
			c.withheld = c.withheld[1:]
			c.send(c.core.State(), held)
		}
	}
	c.pending = c.pending[n:]
}

// crash ends the process. The oldest keep of the records that were on their
// way have reached the disk.
func (c *coord) crash(torn int) {
	if !c.up {
		return
	}
	s := c.s
	keep := 0
	if n := c.mem.Held(); n > 0 {
		keep = s.rng.IntN(n + 1)
	}
	s.note("coordinator dies: %d of %d held batches have reached the disk", keep, c.mem.Held())
	c.mem.Crash(keep, torn)
	c.up = false
	c.inbox, c.expect, c.withheld = nil, nil, nil
	c.durable(min(keep, len(c.pending)))
	c.pending = nil
	s.stats.Crashes++
	for _, w := range s.workers {
		if w.session != nil {
			w.session.coordClosed()
		}
	}
	s.client.coordDied()
	wait := s.between(millisecond, 3*second)
	if s.calm {
		wait = millisecond
	}
	s.after(wait, c.start)
}

// do hands a command to the engine.
func (c *coord) do(e *journalv1.Entry, reply engine.Reply) {
	c.inbox = append(c.inbox, func() {
		c.s.oracle.before(e)
		c.core.Do(c.wall(), e, func(r state.Result, err error) {
			if errors.Is(err, state.ErrUnknownEntry) {
				c.s.failf("refused as unknown: %v", e)
			}
			if reply != nil {
				reply(r, err)
			}
		})
	})
}

// tap sees what is proposed, and lies about what is durable when the planted
// bug is of that kind.
type tap struct {
	*journal.Memory
	c *coord
}

func (t *tap) Propose(data []byte) error {
	err := t.Memory.Propose(data)
	if err == nil {
		t.c.pending = append(t.c.pending, data)
		if t.c.early() {
			t.c.s.after(0, func() {
				if t.c.up && t.c.mem == t.Memory {
					ev := journal.Event{Kind: journal.EventCommitted, Own: true, Records: []journal.Record{{Data: data}}}
					_ = t.c.core.Event(t.c.wall(), ev)
				}
			})
		}
	}
	return err
}

// Next leaves out what has been told too early.
func (t *tap) Next() (journal.Event, bool) {
	for {
		ev, ok := t.Memory.Next()
		if !ok || !t.c.early() || ev.Kind != journal.EventCommitted || !ev.Own {
			return ev, ok
		}
	}
}
