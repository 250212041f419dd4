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
// stream of its own. Its tasks have ended as soon as they are granted, or take
// Config.TaskTime each, see paced. It keeps its reports until they are
// acknowledged, and repeats them after a loss of the stream, as a real worker
// does, but in memory.
type simulated struct {
	f     *fleet
	conn  *grpc.ClientConn
	hello *volleyv1.Hello
	// welcomed is closed by the first Welcome, leased receives the time of the
	// first grant, ended is closed when run returns.
	welcomed, ended chan struct{}
	leased          chan time.Time

	// mu guards what follows. It is held while a message is sent: a stream takes
	// one at a time.
	mu      sync.Mutex
	granted bool
	jobs    map[uint64]*tally
	seq     uint64
	unacked []*volleyv1.Report
	paced   paced
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
	w.mu.Lock()
	w.hello.LastSeq, w.hello.Held = w.seq, w.held()
	clear(w.jobs) // specs come once in a session
	w.mu.Unlock()
	if err := stream.Send(&volleyv1.ConnectRequest{Hello: w.hello}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if wel := m.GetWelcome(); wel != nil {
			if err := w.welcome(stream, wel); err != nil {
				return err
			}
		}
		w.mu.Lock()
		err = w.take(m)
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// welcome opens the session for what is to be sent, first what was sent before
// and not acknowledged.
func (w *simulated) welcome(stream grpc.BidiStreamingClient[volleyv1.ConnectRequest, volleyv1.ConnectResponse], m *volleyv1.Welcome) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream, w.ttl = stream, time.Duration(m.GetLeaseTtlMs())*time.Millisecond
	for _, r := range w.unacked {
		if err := w.send(&volleyv1.ConnectRequest{Report: r}); err != nil && !errors.Is(err, errLeft) {
			return err
		}
	}
	if w.leaving { // said while it was connecting again
		_ = stream.Send(&volleyv1.ConnectRequest{Bye: true}) // Recv says why not
	}
	select {
	case <-w.welcomed:
	default:
		close(w.welcomed)
	}
	return nil
}

// held states what was granted and not acknowledged as finished.
func (w *simulated) held() []*volleyv1.HeldLease {
	leases := map[uint64]*volleyv1.HeldLease{}
	var list []*volleyv1.HeldLease
	of := func(id uint64) *volleyv1.HeldLease {
		if leases[id] == nil {
			leases[id] = &volleyv1.HeldLease{LeaseId: id}
			list = append(list, leases[id])
		}
		return leases[id]
	}
	for _, l := range w.paced.leases {
		all := l.waiting.Clone()
		all.Union(&l.running)
		of(l.id).Unfinished, of(l.id).Running = all.AppendPacked(nil), l.running.AppendPacked(nil)
	}
	finished := map[uint64]*sharding.Set{}
	for _, r := range w.unacked {
		for _, lr := range r.GetLeases() {
			id := lr.GetLeaseId()
			if finished[id] == nil {
				finished[id] = new(sharding.Set)
			}
			if err := finished[id].AddPacked(lr.GetFinished()); err != nil {
				panic(fmt.Sprintf("simulated worker: its own report: %v", err))
			}
			of(id).Finished = finished[id].AppendPacked(nil)
		}
	}
	return list
}

// take handles one message.
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
	if len(m.GetGrants()) > 0 && !w.granted {
		w.granted = true
		w.leased <- time.Now()
	}
	var news []*volleyv1.LeaseReport
	for _, g := range m.GetGrants() {
		if w.f.r.c.TaskTime > 0 {
			if err := w.accept(g); err != nil {
				return err
			}
			continue
		}
		lr, err := w.execute(g)
		if err != nil {
			return err
		}
		news = append(news, lr)
	}
	// Without a task time they need no answer: all that was granted before has
	// been reported.
	for _, r := range m.GetRevokes() {
		if lr := w.revoke(r); lr != nil {
			news = append(news, lr)
		}
	}
	w.pace()
	return w.report(news)
}

// report sends news, which are kept until they are acknowledged.
func (w *simulated) report(news []*volleyv1.LeaseReport) error {
	if len(news) == 0 {
		return nil
	}
	w.seq++
	r := &volleyv1.Report{Seq: w.seq, Leases: news}
	w.unacked = append(w.unacked, r)
	return w.send(&volleyv1.ConnectRequest{Report: r})
}

var (
	errForeign = errors.New("a task of another job was granted")
	errLeft    = errors.New("the worker has no session, or leaves")
)

// check looks at the indexes of a grant.
func (w *simulated) check(g *volleyv1.Grant) (*tally, uint64, error) {
	t := w.jobs[g.GetJob()]
	if t == nil {
		return nil, 0, status.Errorf(codes.InvalidArgument, "a grant of job %d came before its spec", g.GetJob())
	}
	runs, n := g.GetRuns(), uint64(0)
	if len(runs)%2 != 0 {
		return nil, 0, status.Errorf(codes.InvalidArgument, "a grant of job %d has %d numbers, they come in pairs", g.GetJob(), len(runs))
	}
	for i := 0; i < len(runs); i += 2 {
		if n += runs[i+1]; runs[i+1] > maxLease || n > maxLease {
			return nil, 0, status.Errorf(codes.InvalidArgument, "a grant of job %d has more than %d indexes", g.GetJob(), maxLease)
		}
	}
	return t, n, nil
}

// execute runs what was granted: it counts.
func (w *simulated) execute(g *volleyv1.Grant) (*volleyv1.LeaseReport, error) {
	t, n, err := w.check(g)
	if err != nil {
		return nil, err
	}
	runs := g.GetRuns()
	for i := 0; i < len(runs); i += 2 {
		t.mark(runs[i], runs[i+1])
	}
	return w.results(g.GetLeaseId(), runs, n), nil
}

// results says that n indexes have succeeded.
func (w *simulated) results(lease uint64, runs []uint64, n uint64) *volleyv1.LeaseReport {
	c := w.f.columns.Load()
	return &volleyv1.LeaseReport{LeaseId: lease, Finished: runs, StartMs: c.starts[:n], DurationUs: c.durations[:n]}
}

// send sends in the open session. Without one, or once the worker leaves, it
// fails: what was to be sent is repeated, or given to others.
func (w *simulated) send(m *volleyv1.ConnectRequest) error {
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
	defer w.mu.Unlock()
	if w.stream != nil && !w.leaving && time.Since(w.spoke) >= w.ttl/3 {
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
