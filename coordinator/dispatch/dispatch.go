// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Engine is what dispatch needs of the engine.
type Engine interface {
	Do(ctx context.Context, e *journalv1.Entry) (state.Result, error)
	Send(ctx context.Context, e *journalv1.Entry, reply engine.Reply) error
	Touch(ctx context.Context, node string, epoch uint64) error
	View(ctx context.Context, f func(*state.State)) error
	WorkerLease() time.Duration
}

// Dispatcher is the WorkerService. It is safe for concurrent use.
type Dispatcher struct {
	volleyv1.UnimplementedWorkerServiceServer
	log *slog.Logger
	// bound is closed by Bind.
	bound  chan struct{}
	engine Engine

	mu sync.Mutex
	// greeting has sessions whose Hello is on its way through the engine.
	greeting map[*volleyv1.Hello]*session
	sessions map[uint32]*session
	// lastSeen of workers without a session.
	lastSeen map[uint32]time.Time
	closed   bool
}

// New makes a dispatcher. Bind gives it the engine, which in turn is given
// Release; until then Connect waits.
func New(log *slog.Logger) *Dispatcher {
	return &Dispatcher{
		log: log, bound: make(chan struct{}),
		greeting: map[*volleyv1.Hello]*session{}, sessions: map[uint32]*session{}, lastSeen: map[uint32]time.Time{},
	}
}

// Bind sets the engine. Call it once.
func (d *Dispatcher) Bind(e Engine) {
	d.engine = e
	close(d.bound)
}

// Close cuts all sessions; workers go on and connect again elsewhere or later.
func (d *Dispatcher) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, s := range d.sessions {
		s.cut(errStopping)
	}
	for _, s := range d.greeting {
		s.cut(errStopping)
	}
}

var (
	errStopping = status.Error(codes.Unavailable, "the coordinator is stopping")
	errEnded    = status.Error(codes.Canceled, "the stream has ended")
	errReplaced = status.Error(codes.Aborted, "the worker has connected again")
	errLost     = status.Error(codes.Aborted, "nothing was heard of the worker for longer than its lease")
)

// Release takes the effects of a durable batch, see engine.Release.
func (d *Dispatcher) Release(st *state.State, effects []state.Effect) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range effects {
		switch e := e.(type) {
		case state.HelloEffect:
			d.attach(e)
		case state.GrantEffect:
			if s := d.sessions[e.Worker]; s != nil {
				s.grant(st, e.Grant)
			}
		case state.RevokeEffect:
			if s := d.sessions[e.Worker]; s != nil {
				s.queue(func(m *volleyv1.ConnectResponse) { m.Revokes = append(m.Revokes, e.Revoke) })
			}
		case state.AckEffect:
			if s := d.sessions[e.Worker]; s != nil && s.hello.GetEpoch() == e.Epoch {
				s.queue(func(m *volleyv1.ConnectResponse) { m.AckedSeq = max(m.AckedSeq, e.Seq) })
			}
		case state.LostEffect:
			if s := d.sessions[e.Worker]; s != nil {
				s.cut(errLost)
			}
		case state.ForgetEffect:
			for _, s := range d.sessions {
				s.forget(e.Job)
			}
		}
	}
}

// attach makes the session that said this Hello the worker's only one.
func (d *Dispatcher) attach(e state.HelloEffect) {
	s := d.greeting[e.Hello]
	delete(d.greeting, e.Hello)
	if old := d.sessions[e.Worker]; old != nil {
		old.cut(errReplaced)
		delete(d.sessions, e.Worker)
	}
	if s == nil {
		return // its stream broke before the Hello was durable
	}
	s.worker, s.number = e.Worker, e.Session
	d.sessions[e.Worker] = s
	s.queue(func(m *volleyv1.ConnectResponse) {
		m.Welcome = &volleyv1.Welcome{ClusterId: s.clusterID, LeaseTtlMs: d.engine.WorkerLease().Milliseconds()}
	})
}

// Connect serves one stream of a worker.
func (d *Dispatcher) Connect(stream grpc.BidiStreamingServer[volleyv1.ConnectRequest, volleyv1.ConnectResponse]) error {
	ctx := stream.Context()
	select {
	case <-d.bound:
	case <-ctx.Done():
		return ctx.Err()
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "the first message must be a hello")
	}
	s := newSession(d, first.GetHello(), stream)
	if err := d.greet(ctx, s); err != nil {
		return err
	}
	defer d.leave(s)
	d.log.Info("worker connected", "worker", s.hello.GetName(), "node", s.hello.GetNodeId(), "held", len(s.hello.GetHeld()))

	failed := make(chan error, 1)
	go func() { failed <- s.receive(ctx) }()
	go s.send()
	select {
	case err = <-failed:
	case <-s.done:
		err = s.err
	}
	d.log.Info("worker disconnected", "worker", s.hello.GetName(), "node", s.hello.GetNodeId(), "reason", reason(err))
	return err
}

// greet takes the Hello through the engine. When it returns nil, Release has
// attached the session.
func (d *Dispatcher) greet(ctx context.Context, s *session) error {
	if err := d.engine.View(ctx, func(st *state.State) { s.clusterID = st.ClusterID() }); err != nil {
		return unavailable(err)
	}
	if err := ctx.Err(); err != nil {
		// The stream has broken, and the worker's next one may have come in
		// before: a Hello that overtakes nothing must not cut that one off.
		return unavailable(err)
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errStopping
	}
	d.greeting[s.hello] = s
	d.mu.Unlock()
	_, err := d.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: s.hello}}})
	if err == nil {
		return nil
	}
	d.mu.Lock()
	delete(d.greeting, s.hello)
	d.mu.Unlock()
	d.leave(s) // the Hello may have been applied while ctx ended
	switch {
	case errors.Is(err, state.ErrConflict):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, state.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	default:
		return unavailable(err)
	}
}

// leave detaches a session whose stream has ended. The worker keeps its leases
// until its lease with the coordinator runs out.
func (d *Dispatcher) leave(s *session) {
	s.cut(errEnded)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions[s.worker] == s {
		delete(d.sessions, s.worker)
		d.lastSeen[s.worker] = s.seen()
	}
}

// Seen says whether the worker has a session, and when it was last heard of
// (zero: not since this coordinator started).
func (d *Dispatcher) Seen(worker uint32) (connected bool, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.sessions[worker]; s != nil {
		return true, s.seen()
	}
	return false, d.lastSeen[worker]
}

func unavailable(err error) error {
	return status.Error(codes.Unavailable, err.Error())
}
