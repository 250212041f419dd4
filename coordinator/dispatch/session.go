// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// session is one stream of one worker.
type session struct {
	d         *Dispatcher
	hello     *volleyv1.Hello
	stream    grpc.BidiStreamingServer[volleyv1.ConnectRequest, volleyv1.ConnectResponse]
	clusterID string
	// worker and number are set by attach.
	worker uint32
	number uint64

	heard atomic.Int64 // Unix nanoseconds
	// touched is when the engine was last told that the worker lives. Only the
	// receiver uses it.
	touched time.Time

	// done is closed by cut, err set before.
	done chan struct{}
	once sync.Once
	err  error

	mu sync.Mutex
	// next gathers what the sender takes with one message: batching by
	// readiness. wake has room for one token.
	next *volleyv1.ConnectResponse
	wake chan struct{}
	// jobs whose spec was sent in this session.
	jobs map[uint64]bool
	logs map[uint64]*logReader
	// lastLog numbers the log requests.
	lastLog uint64
}

func newSession(d *Dispatcher, h *volleyv1.Hello, stream grpc.BidiStreamingServer[volleyv1.ConnectRequest, volleyv1.ConnectResponse]) *session {
	s := &session{
		d: d, hello: h, stream: stream, done: make(chan struct{}), wake: make(chan struct{}, 1),
		jobs: map[uint64]bool{}, logs: map[uint64]*logReader{},
	}
	s.hear()
	return s
}

func (s *session) hear()           { s.heard.Store(time.Now().UnixNano()) }
func (s *session) seen() time.Time { return time.Unix(0, s.heard.Load()) }

// cut ends the session; the first reason counts.
func (s *session) cut(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.done)
		s.mu.Lock()
		why := errNodeLost
		if errors.Is(err, errStopping) {
			why = errStopping
		}
		for _, l := range s.logs {
			l.fail(why)
		}
		s.logs = nil
		s.mu.Unlock()
	})
}

// queue adds to the next message.
func (s *session) queue(add func(*volleyv1.ConnectResponse)) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &volleyv1.ConnectResponse{}
	}
	add(s.next)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) grant(st *state.State, g *volleyv1.Grant) {
	j := st.Job(g.GetJob())
	if j == nil {
		// Purged by an entry after the grant: then this worker has lost what
		// was granted, and its session ends with the same batch or the next.
		return
	}
	s.queue(func(m *volleyv1.ConnectResponse) {
		if !s.jobs[j.ID] {
			s.jobs[j.ID] = true
			m.Jobs = append(m.Jobs, &volleyv1.WorkerJob{Job: j.ID, JobId: j.IDString(), Spec: j.Spec, Size: j.Size})
		}
		m.Grants = append(m.Grants, g)
	})
}

func (s *session) forget(job uint64) {
	s.queue(func(m *volleyv1.ConnectResponse) {
		delete(s.jobs, job)
		m.ForgetJobs = append(m.ForgetJobs, job)
	})
}

// send writes what has gathered until the session ends.
func (s *session) send() {
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		}
		s.mu.Lock()
		m := s.next
		s.next = nil
		s.mu.Unlock()
		if m == nil {
			continue
		}
		for _, part := range split(m) {
			if err := s.stream.Send(part); err != nil {
				s.cut(err)
				return
			}
		}
	}
}

// maxSpecs bounds the specs in one message.
const maxSpecs = 8 << 20

// split cuts a message whose specs together are larger than a message may be:
// one that the transport refuses would be made again after every reconnect.
// The order of handling is kept: welcome, specs, all else.
func split(m *volleyv1.ConnectResponse) []*volleyv1.ConnectResponse {
	var parts []*volleyv1.ConnectResponse
	size, first := 0, 0
	for n, j := range m.GetJobs() {
		size += proto.Size(j)
		if size > maxSpecs && n > first {
			parts = append(parts, &volleyv1.ConnectResponse{Jobs: m.Jobs[first:n]})
			size, first = proto.Size(j), n
		}
	}
	if len(parts) > 0 {
		parts[0].Welcome, m.Welcome = m.Welcome, nil
		m.Jobs = m.Jobs[first:]
	}
	return append(parts, m)
}

// receive reads until the stream ends. It returns nil after a good-bye.
func (s *session) receive(ctx context.Context) error {
	for {
		m, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Canceled, "the worker closed the stream")
		}
		if err != nil {
			return err
		}
		s.hear()
		if err := s.take(ctx, m); err != nil {
			return err
		}
		if m.GetBye() {
			return nil
		}
	}
}

// touches is how many times within a worker's lease the engine is told that
// the worker lives.
const touches = 10

func (s *session) take(ctx context.Context, m *volleyv1.ConnectRequest) error {
	node, epoch := s.hello.GetNodeId(), s.hello.GetEpoch()
	for _, c := range m.GetLogs() {
		s.logChunk(c)
	}
	// Any message is a sign of life. Those that carry only output come by the
	// thousand; once in a while is enough for the engine to hear of it.
	if now := time.Now(); m.GetHeartbeat() || now.Sub(s.touched) >= s.d.engine.WorkerLease()/touches {
		s.touched = now
		if err := s.d.engine.Touch(ctx, node, epoch); err != nil {
			return unavailable(err)
		}
	}
	if r := m.GetReport(); r != nil {
		err := s.d.engine.Send(ctx, &journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
			NodeId: node, Epoch: epoch, Session: s.number, Report: r,
		}}}, s.reported)
		if err != nil {
			return unavailable(err)
		}
	}
	if m.GetHeartbeat() {
		s.queue(func(m *volleyv1.ConnectResponse) { m.Heartbeat = true })
	}
	// A drain says nothing of which process it is: one of a session that was
	// replaced is not for the process that replaced it.
	if m.GetDrain() && s.current() {
		_, err := s.d.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_WorkerDrain{WorkerDrain: &journalv1.WorkerDrain{NodeId: node, Drain: true}}})
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return unavailable(err)
		}
	}
	if m.GetBye() {
		_, err := s.d.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_WorkerLeft{WorkerLeft: &journalv1.WorkerLeft{NodeId: node, Epoch: epoch}}})
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return unavailable(err)
		}
	}
	return nil
}

func (s *session) current() bool {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.sessions[s.worker] == s
}

// reported is called when a report is durable or refused. Durable ones are
// acknowledged by their effect. ErrNotFound means that a newer session has
// taken over, which will repeat it.
func (s *session) reported(_ state.Result, err error) {
	if errors.Is(err, state.ErrInvalid) {
		s.cut(status.Error(codes.InvalidArgument, err.Error()))
	}
}
