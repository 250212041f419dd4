// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
)

// Config of an Engine.
type Config struct {
	Options
	Journal journal.Journal
	// ClusterID is given to a new cluster by its first leader.
	ClusterID string
	// Release is called from the engine's goroutine, so it must not call the
	// engine's blocking methods.
	Release Release
}

// Engine runs a Core in a goroutine of its own.
type Engine struct {
	core   *Core
	cfg    Config
	inbox  chan any
	leads  chan struct{}
	closed chan struct{}
}

type command struct {
	entry *journalv1.Entry
	reply Reply
}

type query struct {
	read func(*state.State)
	done func(error)
}

type touch struct {
	node  string
	epoch uint64
}

// New makes an engine; Run starts it.
func New(c Config) *Engine {
	return &Engine{
		core: NewCore(c.Journal, c.ClusterID, c.Options, c.Release), cfg: c,
		inbox: make(chan any, 1024), leads: make(chan struct{}), closed: make(chan struct{}),
	}
}

// Leads is closed when the engine leads and accepts commands.
func (e *Engine) Leads() <-chan struct{} { return e.leads }

// WorkerLease is how long a worker may be silent.
func (e *Engine) WorkerLease() time.Duration { return e.core.Options().WorkerLease }

// Proposed counts the batches that were given to the journal, and their bytes.
// It may be called from any goroutine.
func (e *Engine) Proposed() (batches, bytes uint64) {
	return e.core.batches.Load(), e.core.bytes.Load()
}

// Run blocks until ctx ends or the journal fails. Call it once. It does not
// close the journal.
func (e *Engine) Run(ctx context.Context) error {
	defer e.stop()
	tick := time.NewTicker(fullPlan)
	defer tick.Stop()
	led := false
	for {
		// While a snapshot is about to be cut no command is taken, so that the
		// state comes to rest; the nil channel blocks for ever.
		inbox := e.inbox
		if e.core.Leading() && !e.core.Accepts() {
			inbox = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-inbox:
			e.take(time.Now(), m)
			e.drain()
		case <-e.cfg.Journal.Ready():
		case <-tick.C:
			e.core.Tick(time.Now())
		}
		for {
			ev, ok := e.cfg.Journal.Next()
			if !ok {
				break
			}
			if err := e.core.Event(time.Now(), ev); err != nil {
				return err
			}
		}
		if err := e.core.Flush(time.Now()); err != nil {
			return err
		}
		if !led && e.core.Leading() {
			led = true
			close(e.leads)
		}
	}
}

// drain takes all that waits, so that it becomes one batch.
func (e *Engine) drain() {
	for e.core.Accepts() {
		select {
		case m := <-e.inbox:
			e.take(time.Now(), m)
		default:
			return
		}
	}
}

func (e *Engine) take(now time.Time, m any) {
	switch m := m.(type) {
	case command:
		e.core.Do(now, m.entry, m.reply)
	case query:
		e.core.Read(m.read, m.done)
	case touch:
		e.core.Touch(now, m.node, m.epoch)
	}
}

// stop answers what nobody will take any more.
func (e *Engine) stop() {
	close(e.closed)
	e.core.fail(ErrStopped)
	for {
		select {
		case m := <-e.inbox:
			switch m := m.(type) {
			case command:
				if m.reply != nil {
					m.reply(state.Result{}, ErrStopped)
				}
			case query:
				m.done(ErrStopped)
			}
		default:
			return
		}
	}
}

func (e *Engine) send(ctx context.Context, m any) error {
	select {
	case <-e.closed:
		return ErrStopped
	default:
	}
	select {
	case e.inbox <- m:
		return nil
	case <-e.closed:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

type outcome struct {
	result state.Result
	err    error
}

// Do proposes an entry and blocks until it is durable or refused. When ctx
// ends first, the outcome is not known.
func (e *Engine) Do(ctx context.Context, entry *journalv1.Entry) (state.Result, error) {
	done := make(chan outcome, 1)
	if err := e.Send(ctx, entry, func(r state.Result, err error) { done <- outcome{r, err} }); err != nil {
		return state.Result{}, err
	}
	select {
	case o := <-done:
		return o.result, o.err
	case <-e.closed:
		// The reply may have come just before.
		select {
		case o := <-done:
			return o.result, o.err
		default:
			return state.Result{}, ErrStopped
		}
	case <-ctx.Done():
		return state.Result{}, ctx.Err()
	}
}

// Send proposes an entry; reply (may be nil) is called from the engine's
// goroutine when it is durable or refused. It blocks only while the inbox is
// full.
func (e *Engine) Send(ctx context.Context, entry *journalv1.Entry, reply Reply) error {
	return e.send(ctx, command{entry, reply})
}

// View lets f read the state and blocks until all that f can have seen is
// durable. f runs in the engine's goroutine: it must be quick, must not keep
// what it reads, and must not call the engine. After View has returned, f does
// not run, whatever the error.
func (e *Engine) View(ctx context.Context, f func(*state.State)) error {
	var claimed atomic.Bool
	done := make(chan error, 1)
	read := func(s *state.State) {
		if claimed.CompareAndSwap(false, true) {
			f(s)
		}
	}
	if err := e.send(ctx, query{read, func(err error) { done <- err }}); err != nil {
		return err
	}
	var err error
	select {
	case err := <-done:
		return err
	case <-e.closed:
		err = ErrStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !claimed.CompareAndSwap(false, true) {
		// f runs or has run: its answer comes with the next commit or with the
		// end of the engine.
		select {
		case derr := <-done:
			return derr
		case <-e.closed:
			return ErrStopped
		}
	}
	return err
}

// Touch renews a worker's lease with the coordinator.
func (e *Engine) Touch(ctx context.Context, node string, epoch uint64) error {
	return e.send(ctx, touch{node, epoch})
}
