// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

const (
	backoffMin = 20 * time.Millisecond
	backoffMax = 2 * time.Second
	// logQueue is how many chunks of task output wait for the stream.
	logQueue = 4
)

// DialOptions are what a connection of a worker should be made with: a
// keepalive that notices a coordinator that has vanished without a word.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                10 * time.Second, // gRPC's minimum
			Timeout:             10 * time.Second,
			PermitWithoutStream: false,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)),
	}
}

// session is one stream to the coordinator.
type session struct {
	agent  *Agent
	stream volleyv1.WorkerService_ConnectClient
	blobs  volleyv1.BlobServiceClient
	cancel context.CancelFunc
	wakeup chan struct{}
	logs   chan *volleyv1.LogChunk
	ttl    time.Duration
	ended  chan struct{} // closed when the stream has ended
	bye    chan struct{} // closed: say bye and end

	byeOnce sync.Once
	log     *logServer
}

// connectLoop keeps a session until ctx ends. It returns an error only when
// the coordinator refuses this worker.
func (a *Agent) connectLoop(ctx context.Context) error {
	pause := backoffMin
	down := false // the operator knows that there is no connection
	for ctx.Err() == nil {
		welcomed, err := a.serve(ctx)
		if ctx.Err() != nil || a.left() {
			return nil
		}
		if refusal(err, welcomed) {
			return fmt.Errorf("worker: connect: %w", err)
		}
		if welcomed {
			pause, down = backoffMin, false
		}
		if !down {
			a.log.Warn("no connection to the coordinator; tasks go on, results are kept; trying again", "error", reason(err))
			down = true
		}
		// Full jitter: a thousand workers that lost one coordinator must not
		// come back in step.
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, backoffMax)
	}
	return nil
}

// left reports whether the coordinator was told bye: the end of that stream is
// no loss, and a new one would bring the worker back.
func (a *Agent) left() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gone
}

// refusal reports whether trying again cannot help.
func refusal(err error, welcomed bool) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition:
		return true
	case codes.InvalidArgument, codes.Unimplemented:
		return !welcomed
	default:
		return false
	}
}

// serve runs one session to its end.
func (a *Agent) serve(ctx context.Context) (welcomed bool, err error) {
	conn, closer, err := a.cfg.Dial(ctx)
	if err != nil {
		return false, err
	}
	if closer != nil {
		defer func() {
			if cerr := closer.Close(); cerr != nil {
				a.log.Debug("connection not closed", "error", cerr)
			}
		}()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := volleyv1.NewWorkerServiceClient(conn).Connect(ctx)
	if err != nil {
		return false, err
	}
	if err := stream.Send(&volleyv1.ConnectRequest{Hello: a.hello()}); err != nil {
		return false, recvError(stream, err)
	}
	first, err := stream.Recv()
	if err != nil {
		return false, err
	}
	if first.GetWelcome() == nil {
		return false, errors.New("the first message of the coordinator was no welcome")
	}
	s := &session{
		agent:  a,
		stream: stream,
		blobs:  volleyv1.NewBlobServiceClient(conn),
		cancel: cancel,
		wakeup: make(chan struct{}, 1),
		logs:   make(chan *volleyv1.LogChunk, logQueue),
		ttl:    time.Duration(first.GetWelcome().GetLeaseTtlMs()) * time.Millisecond,
		ended:  make(chan struct{}),
		bye:    make(chan struct{}),
	}
	if s.ttl <= 0 {
		s.ttl = defaultTTL
	}
	s.log = newLogServer(ctx, a, s.logs)
	a.log.Info("connected", "cluster", first.GetWelcome().GetClusterId(), "lease_ttl", s.ttl)
	a.mu.Lock()
	a.session = s
	for _, e := range a.entries {
		e.sent = false // all are sent again
	}
	a.notify()
	a.mu.Unlock()
	a.wake()
	var wg sync.WaitGroup
	writeErr := make(chan error, 1)
	wg.Go(func() {
		err := s.write(ctx)
		if err != nil {
			cancel()
		}
		writeErr <- err
	})
	a.handle(s, first)
	for err == nil {
		var m *volleyv1.ConnectResponse
		if m, err = stream.Recv(); err == nil {
			a.handle(s, m)
		}
	}
	a.mu.Lock()
	a.session = nil
	a.notify()
	a.mu.Unlock()
	close(s.ended)
	cancel()
	s.log.close()
	wg.Wait()
	if werr := <-writeErr; werr != nil && status.Code(err) == codes.Canceled {
		err = werr
	}
	return true, err
}

// recvError turns the io.EOF of a Send into the status of the stream.
func recvError(stream volleyv1.WorkerService_ConnectClient, err error) error {
	if _, rerr := stream.Recv(); rerr != nil {
		return rerr
	}
	return err
}

// hello is everything that the worker is and holds. Results that are ready are
// cut into reports first, so that each index is in one set only: unfinished,
// or finished with a report that follows.
func (a *Agent) hello() *volleyv1.Hello {
	a.flushMu.Lock()
	defer a.flushMu.Unlock()
	a.cut()
	h := &volleyv1.Hello{
		NodeId:   a.home.nodeID,
		Name:     a.cfg.Name,
		Epoch:    a.home.epoch,
		Version:  a.cfg.Version,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Capacity: &volleyv1.Resources{CpuMilli: a.total.cpu, MemoryBytes: a.total.memory, Gpu: a.total.gpu},
		Labels:   a.cfg.Labels,
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetAway()
	h.Held, h.LastSeq = a.heldLeases(), a.seq
	return h
}

// nudge wakes the writer. It never blocks.
func (s *session) nudge() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// write sends what is ready: reports first, then task output. It alone sends
// on the stream.
func (s *session) write(ctx context.Context) error {
	a := s.agent
	beat := time.NewTimer(s.ttl / 3)
	defer beat.Stop()
	var cursor uint64
	drained := false
	for {
		e, drain := a.nextEntry(cursor)
		m := &volleyv1.ConnectRequest{Drain: drain && !drained}
		if e != nil {
			rep, err := a.load(e)
			if err != nil && a.acked(e) {
				cursor = e.seq // and its file may be gone
				continue
			}
			if err != nil {
				// The spool is damaged under us. Going on would drop results in
				// silence; the next process refuses the file by name.
				return err
			}
			m.Report = rep
		}
		if e == nil && !m.GetDrain() {
			select {
			case <-s.wakeup:
				continue
			case c := <-s.logs:
				m.Logs = append(m.Logs, c)
			case <-beat.C:
				m.Heartbeat = true
			case <-s.bye:
				if err := s.stream.Send(&volleyv1.ConnectRequest{Bye: true}); err != nil {
					return err
				}
				return s.stream.CloseSend()
			case <-ctx.Done():
				return nil
			}
		}
		if err := s.stream.Send(m); err != nil {
			return err
		}
		if e != nil {
			cursor = e.seq
			a.mu.Lock()
			e.sent = true
			a.mu.Unlock()
		}
		drained = drained || m.GetDrain()
		beat.Reset(s.ttl / 3)
	}
}

// acked reports whether e was acknowledged meanwhile.
func (a *Agent) acked(e *entry) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.entries) == 0 || a.entries[0].seq > e.seq
}

// nextEntry is the first report after seq.
func (a *Agent) nextEntry(seq uint64) (e *entry, drain bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	drain = a.drain
	n := len(a.entries)
	if n == 0 || a.entries[n-1].seq <= seq {
		return nil, drain
	}
	// Sequence numbers are successive.
	first := a.entries[0].seq
	if seq < first {
		return a.entries[0], drain
	}
	return a.entries[seq-first+1], drain
}

// sayBye tells the coordinator that this worker goes, and waits until it has
// closed the stream.
func (s *session) sayBye(ctx context.Context) {
	s.byeOnce.Do(func() { close(s.bye) })
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

// heldLeases is the body of Hello. Called under mu and flushMu, after cut.
func (a *Agent) heldLeases() []*volleyv1.HeldLease {
	held := make([]*volleyv1.HeldLease, 0, len(a.leases))
	finished := make(map[uint64]*sharding.Set)
	of := func(lease uint64) *sharding.Set {
		if finished[lease] == nil {
			finished[lease] = sharding.NewSet()
		}
		return finished[lease]
	}
	for _, e := range a.entries {
		for i := range e.ends {
			of(e.ends[i].lease).Union(&e.ends[i].finished)
		}
	}
	for _, acc := range a.dirty { // since the cut
		// Malformed runs cannot be: the agent wrote them.
		_ = of(acc.lease.id).AddPacked(acc.rep.GetFinished())
	}
	running := make(map[*lease]*[2]sharding.Set) // taken by a slot; process started
	for _, s := range a.slots {
		if s.lease == nil || s.lease.dropped {
			continue
		}
		r := running[s.lease]
		if r == nil {
			r = &[2]sharding.Set{}
			running[s.lease] = r
		}
		r[0].AddRange(s.task.Index, s.task.Count)
		if s.told {
			r[1].AddRange(s.task.Index, s.task.Count)
		}
	}
	for id, l := range a.leases {
		h := &volleyv1.HeldLease{LeaseId: id}
		unfinished := sharding.NewSet()
		for i := range l.parts {
			unfinished.Union(&l.parts[i].unstarted)
		}
		if r := running[l]; r != nil {
			unfinished.Union(&r[0])
			h.Running = r[1].AppendPacked(nil)
		}
		h.Unfinished = unfinished.AppendPacked(nil)
		if f := finished[id]; f != nil {
			h.Finished = f.AppendPacked(nil)
		}
		held = append(held, h)
	}
	slices.SortFunc(held, func(x, y *volleyv1.HeldLease) int { return cmp.Compare(x.LeaseId, y.LeaseId) })
	return held
}

// handle applies one message of the coordinator, in the order that the
// protocol names. A grant may give again what a report handed back that the
// same message acknowledges.
func (a *Agent) handle(s *session, m *volleyv1.ConnectResponse) {
	a.mu.Lock()
	if seq := m.GetAckedSeq(); seq > 0 {
		a.ack(seq)
	}
	for _, j := range m.GetJobs() {
		a.addJob(j)
	}
	for _, g := range m.GetGrants() {
		a.grant(g)
	}
	for _, r := range m.GetRevokes() {
		a.revoke(r)
	}
	a.kick()
	a.notify() // what was revoked may have been the last that Rest waits for
	for _, n := range m.GetForgetJobs() {
		if j := a.jobs[n]; j != nil {
			delete(a.jobs, n)
			if a.procs != nil {
				a.procs.forget(j)
			}
		}
	}
	a.mu.Unlock()
	for _, r := range m.GetLogRequests() {
		s.log.handle(r)
	}
}
