// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// simulated is a worker without a machine: it speaks the whole protocol over a
// stream of its own, and its tasks have ended as soon as they are granted. It
// keeps its reports until they are acknowledged, and repeats them after a loss
// of the stream, as a real worker does, but in memory.
type simulated struct {
	f     *fleet
	conn  *grpc.ClientConn
	hello *volleyv1.Hello
	// welcomed is closed by the first Welcome, leased receives the time of the
	// first grant, ended is closed when run returns.
	welcomed, ended chan struct{}
	leased          chan time.Time
	granted         bool

	// jobs, seq and unacked belong to the goroutine of run.
	jobs    map[uint64]*tally
	seq     uint64
	unacked []*volleyv1.Report

	// mu is held while a message is sent: a stream takes one at a time.
	mu      sync.Mutex
	stream  grpc.BidiStreamingClient[volleyv1.ConnectRequest, volleyv1.ConnectResponse]
	spoke   time.Time
	ttl     time.Duration
	leaving bool
}

// Pauses between attempts to connect again.
const (
	firstPause = 20 * time.Millisecond
	longPause  = time.Second
)

// run connects, again after every loss, until the fleet ends or the worker has
// left.
func (w *simulated) run() {
	defer close(w.ended)
	for wait := firstPause; w.f.ctx.Err() == nil; wait = min(2*wait, longPause) {
		err := w.session()
		w.mu.Lock()
		w.stream = nil
		leaving := w.leaving
		w.mu.Unlock()
		if leaving || w.f.ctx.Err() != nil {
			return
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.FailedPrecondition, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
			w.f.r.fail(fmt.Errorf("simulated worker %s: %w", w.hello.GetName(), err))
			return
		}
		w.f.r.c.Logger.Warn("a simulated worker has lost its stream", "worker", w.hello.GetName(), "error", err)
		pause(w.f.ctx, wait)
	}
}

// session is one stream. The error is why it ended.
func (w *simulated) session() error {
	stream, err := volleyv1.NewWorkerServiceClient(w.conn).Connect(w.f.ctx)
	if err != nil {
		return err
	}
	w.hello.LastSeq, w.hello.Held = w.seq, w.held()
	if err := stream.Send(&volleyv1.ConnectRequest{Hello: w.hello}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(w.jobs) // specs come once in a session
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if wel := m.GetWelcome(); wel != nil {
			w.mu.Lock()
			w.stream, w.ttl, w.spoke = stream, time.Duration(wel.GetLeaseTtlMs())*time.Millisecond, time.Now()
			if w.leaving { // while it was connecting again
				_ = stream.Send(&volleyv1.ConnectRequest{Bye: true}) // Recv says why not
			}
			w.mu.Unlock()
			select {
			case <-w.welcomed:
			default:
				close(w.welcomed)
			}
			for _, r := range w.unacked {
				if err := w.send(&volleyv1.ConnectRequest{Report: r}); err != nil {
					return err
				}
			}
		}
		if err := w.take(m); err != nil {
			return err
		}
	}
}

// held states what was run and not acknowledged: nothing else is ever held.
func (w *simulated) held() []*volleyv1.HeldLease {
	sets := map[uint64]*sharding.Set{}
	var ids []uint64
	for _, r := range w.unacked {
		for _, lr := range r.GetLeases() {
			id := lr.GetLeaseId()
			if sets[id] == nil {
				sets[id] = new(sharding.Set)
				ids = append(ids, id)
			}
			if err := sets[id].AddPacked(lr.GetFinished()); err != nil {
				panic(fmt.Sprintf("simulated worker: its own report: %v", err))
			}
		}
	}
	var held []*volleyv1.HeldLease
	for _, id := range ids {
		held = append(held, &volleyv1.HeldLease{LeaseId: id, Finished: sets[id].AppendPacked(nil)})
	}
	return held
}

// take handles one message. Revokes need no answer: what is granted has been
// reported before the next message is read.
func (w *simulated) take(m *volleyv1.ConnectResponse) error {
	n := 0
	for n < len(w.unacked) && w.unacked[n].GetSeq() <= m.GetAckedSeq() {
		n++
	}
	w.unacked = w.unacked[n:]
	for _, j := range m.GetJobs() {
		if !w.f.r.ours(j.GetSpec()) {
			w.f.r.foreign(j.GetJobId())
			return errForeign
		}
		w.jobs[j.GetJob()] = w.f.tally(j.GetJob(), j.GetSize())
	}
	for _, job := range m.GetForgetJobs() {
		delete(w.jobs, job)
	}
	if len(m.GetGrants()) == 0 {
		return nil
	}
	if !w.granted {
		w.granted = true
		w.leased <- time.Now()
	}
	r := &volleyv1.Report{}
	for _, g := range m.GetGrants() {
		lr, err := w.execute(g)
		if err != nil {
			return err
		}
		r.Leases = append(r.Leases, lr)
	}
	w.seq++
	r.Seq = w.seq
	w.unacked = append(w.unacked, r)
	return w.send(&volleyv1.ConnectRequest{Report: r})
}

var (
	errForeign = errors.New("a task of another job was granted")
	errLeft    = errors.New("the worker has said good-bye")
)

// execute runs what was granted: it counts.
func (w *simulated) execute(g *volleyv1.Grant) (*volleyv1.LeaseReport, error) {
	t := w.jobs[g.GetJob()]
	if t == nil {
		return nil, status.Errorf(codes.InvalidArgument, "a grant of job %d came before its spec", g.GetJob())
	}
	runs := g.GetRuns()
	if len(runs)%2 != 0 {
		return nil, status.Errorf(codes.InvalidArgument, "a grant of job %d has %d numbers, they come in pairs", g.GetJob(), len(runs))
	}
	n := uint64(0)
	for i := 0; i < len(runs); i += 2 {
		if n += runs[i+1]; runs[i+1] > maxLease || n > maxLease {
			return nil, status.Errorf(codes.InvalidArgument, "a grant of job %d has more than %d indexes", g.GetJob(), maxLease)
		}
		t.mark(runs[i], runs[i+1])
	}
	c := w.f.columns.Load()
	return &volleyv1.LeaseReport{LeaseId: g.GetLeaseId(), Finished: runs, StartMs: c.starts[:n], DurationUs: c.durations[:n]}, nil
}

// send sends in the open session. Without one, or once the worker leaves, it
// fails: what was to be sent is repeated, or given to others.
func (w *simulated) send(m *volleyv1.ConnectRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stream == nil || w.leaving {
		return errLeft
	}
	w.spoke = time.Now()
	if err := w.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return err // at io.EOF the receiver hears why
	}
	return nil
}

// beat says something if nothing was said for a third of the worker's lease.
func (w *simulated) beat() {
	w.mu.Lock()
	due := w.stream != nil && !w.leaving && time.Since(w.spoke) >= w.ttl/3
	w.mu.Unlock()
	if due {
		_ = w.send(&volleyv1.ConnectRequest{Heartbeat: true}) // the receiver hears why not
	}
}

// bye says good-bye. The coordinator closes the stream.
func (w *simulated) bye() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stream != nil && !w.leaving {
		_ = w.stream.Send(&volleyv1.ConnectRequest{Bye: true}) // the receiver hears why not
	}
	w.leaving = true
}
