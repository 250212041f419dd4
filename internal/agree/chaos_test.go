// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/volley-batch/volley/coordinator/dispatch"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// chaos is an engine around the real state that decides at random: it grants
// small sets to anyone, adds to leases, takes back and grants again at every
// turn. What the scheduler does once in a thousand runs happens here all the
// time. A batch becomes durable after a while, as in the journal.
type chaos struct {
	t     testing.TB
	rng   *rand.Rand // of the loop
	lossy bool
	state *state.State
	disp  *dispatch.Dispatcher
	trace *trace
	inbox chan func()
	ended chan struct{} // all jobs are terminal

	effects []state.Effect
	replies []func()
	isOver  bool
}

func (c *chaos) apply(e *journalv1.Entry) (state.Result, error) {
	e.TimeMs = max(time.Now().UnixMilli(), c.state.Now())
	r, effects, err := c.state.Apply(e)
	c.effects = append(c.effects, effects...)
	return r, err
}

// run is the loop. It checks the state after every batch.
func (c *chaos) run(ctx context.Context) {
	turn := time.NewTicker(500 * time.Microsecond)
	defer turn.Stop()
	for {
		select {
		case f := <-c.inbox:
			f()
			for more := true; more; {
				select {
				case f := <-c.inbox:
					f()
				default:
					more = false
				}
			}
		case <-turn.C:
		case <-ctx.Done():
			return
		}
		c.decide()
		if err := c.state.CheckInvariants(); err != nil {
			c.t.Errorf("state: %v", err)
			return
		}
		if c.rng.IntN(3) > 0 {
			continue // not durable yet: more goes into the batch
		}
		c.disp.Release(c.state, c.effects)
		c.effects = nil
		for _, f := range c.replies {
			f()
		}
		c.replies = nil
		if !c.isOver && c.over() {
			c.isOver = true
			close(c.ended)
		}
	}
}

func (c *chaos) over() bool {
	for _, id := range c.state.JobIDs() {
		if !c.state.Job(id).Terminal() {
			return false
		}
	}
	return c.state.Jobs() > 0
}

func (c *chaos) decide() {
	ws := c.state.Workers()
	if len(ws) == 0 {
		return
	}
	w := ws[c.rng.IntN(len(ws))]
	switch n := c.rng.IntN(20); {
	case n < 12:
		c.grant(w)
	case n < 18:
		c.takeBack(w)
	case c.lossy && w.Status == state.NodeReady && c.rng.IntN(40) == 0:
		c.do(&journalv1.Entry{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: w.NodeID(), Epoch: w.Epoch}}})
	}
}

// do applies a decision, which the state may refuse.
func (c *chaos) do(e *journalv1.Entry) {
	if _, err := c.apply(e); err != nil && !errors.Is(err, state.ErrConflict) && !errors.Is(err, state.ErrNotFound) {
		c.t.Errorf("%v: %v", e, err)
	}
}

func (c *chaos) grant(w *state.Worker) {
	ids := c.state.JobIDs()
	if len(ids) == 0 || w.Status != state.NodeReady {
		return
	}
	j := c.state.Job(ids[c.rng.IntN(len(ids))])
	if j.Ready() == 0 {
		return
	}
	runs, attempt := j.FrontAttempt(1 + c.rng.Uint64N(12))
	g := &journalv1.Grant{NodeId: w.NodeID(), Job: j.ID, Attempt: attempt, Parallel: 1 + c.rng.Uint32N(slots)}
	for _, r := range runs {
		g.Runs = append(g.Runs, r.First, r.Count)
	}
	if c.rng.IntN(4) > 0 {
		for _, id := range w.Leases() {
			if l := c.state.Lease(id); j.Extends(l) && attempt == 1 {
				// Less than runs would let more run than the lease is charged with.
				g.LeaseId, g.Parallel = id, max(g.Parallel, uint32(l.Slots()))
			}
		}
	}
	c.do(&journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: g}})
}

func (c *chaos) takeBack(w *state.Worker) {
	if len(w.Leases()) == 0 {
		return
	}
	l := c.state.Lease(w.Leases()[c.rng.IntN(len(w.Leases()))])
	set := l.Tail(1 + c.rng.Uint64N(6))
	if !set.Empty() {
		c.do(&journalv1.Entry{Op: &journalv1.Entry_TakeBack{TakeBack: &journalv1.TakeBack{LeaseId: l.ID, Runs: set.AppendPacked(nil)}}})
	}
}

// Send, Do, View, Touch and WorkerLease are dispatch.Engine.
func (c *chaos) Send(ctx context.Context, e *journalv1.Entry, reply engine.Reply) error {
	f := func() {
		r, err := c.apply(e)
		if err != nil {
			reply(r, err)
			return
		}
		c.replies = append(c.replies, func() { reply(r, nil) })
	}
	select {
	case c.inbox <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *chaos) Do(ctx context.Context, e *journalv1.Entry) (r state.Result, err error) {
	done := make(chan struct{})
	serr := c.Send(ctx, e, func(got state.Result, gerr error) {
		r, err = got, gerr
		close(done)
	})
	if serr != nil {
		return state.Result{}, serr
	}
	select {
	case <-done:
		return r, err
	case <-ctx.Done():
		return state.Result{}, ctx.Err()
	}
}

func (c *chaos) View(ctx context.Context, f func(*state.State)) error {
	done := make(chan struct{})
	select {
	case c.inbox <- func() { f(c.state); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *chaos) Touch(context.Context, string, uint64) error { return nil }
func (c *chaos) WorkerLease() time.Duration                  { return time.Minute }

// TestChaosCuts is TestCuts with decisions that no scheduler would make.
func TestChaosCuts(t *testing.T) {
	t.Parallel()
	seeds(t, func(t *testing.T, seed uint64) { runChaos(t, seed, true) })
}

// TestChaosLosses also gives workers up that live, and lets messages arrive
// after the next Hello.
func TestChaosLosses(t *testing.T) {
	t.Parallel()
	seeds(t, func(t *testing.T, seed uint64) { runChaos(t, seed, false) })
}

func runChaos(t *testing.T, seed uint64, strict bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w := newWorld(t, seed, strict)
	c := &chaos{
		t: t, rng: rand.New(rand.NewPCG(seed, 4)), lossy: !strict, state: state.New(), trace: w.trace,
		disp: dispatch.New(slog.New(slog.DiscardHandler)), inbox: make(chan func(), 256), ended: make(chan struct{}),
	}
	c.disp.Bind(c)
	conn, shut := serve(t, c.disp)
	defer shut()
	w.conn = func() grpc.ClientConnInterface { return conn }
	var loop sync.WaitGroup
	loop.Go(func() { c.run(ctx) })
	defer loop.Wait()
	defer cancel()

	specs := jobs(250, 120, 80, 400)
	for _, s := range specs {
		_, err := c.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{
			Spec: s, Size: s.GetSpace().GetArray(), Array: true, IdempotencyKey: s.GetName(),
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	work, stop := context.WithCancel(ctx)
	var nodes sync.WaitGroup
	defer nodes.Wait()
	defer stop()
	for n := range 3 {
		nodes.Go(func() { w.node(work, n, nil) })
	}
	await(ctx, t, w.census.after(200), "the first tasks")
	var end uint64
	_ = c.View(ctx, func(s *state.State) { end, _ = s.JobByKey(terminated) })
	if _, err := c.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: end, Terminate: true}}}); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, c.ended, "the end of the jobs")
	err := c.View(ctx, func(s *state.State) {
		for _, spec := range specs {
			id, _ := s.JobByKey(spec.GetName())
			j := s.Job(id)
			var children []*volleyv1.Child
			for i := range j.Size {
				children = append(children, s.Child(j, i))
			}
			w.compare(spec, j.Proto(), children)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serve offers the dispatcher over gRPC within the process.
func serve(t *testing.T, d *dispatch.Dispatcher) (*grpc.ClientConn, func()) {
	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(grpc.WaitForHandlers(true))
	volleyv1.RegisterWorkerServiceServer(srv, d)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	conn, err := grpc.NewClient("passthrough:///chaos", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	return conn, func() {
		d.Close()
		_ = conn.Close()
		srv.Stop()
		<-served
	}
}
