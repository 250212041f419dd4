// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// link is the network between one worker and whatever coordinator is there.
// It cuts streams at random: the worker hears of it at once. What it has sent
// before may arrive nevertheless, and with ghosts later than the next Hello.
type link struct {
	name   string
	conn   func() grpc.ClientConnInterface
	ghosts bool
	every  int // a stream is cut after about so many messages; 0: never
	trace  *trace
	wg     sync.WaitGroup

	mu  sync.Mutex
	rng *rand.Rand
	n   int
}

func (l *link) dial(context.Context) (grpc.ClientConnInterface, io.Closer, error) { return l, nil, nil }

func (l *link) draw(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(n)
}

var errCut = status.Error(codes.Unavailable, "the connection was cut")

// Invoke is not used by workers whose tasks are not processes.
func (l *link) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return errCut }

func (l *link) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	real, err := l.conn().NewStream(inner, desc, method, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	l.mu.Lock()
	l.n++
	s := &stream{
		link: l, real: real, ctx: ctx, cancel: cancel, id: l.n, fuse: -1,
		out: make(chan proto.Message, 4096), in: make(chan *volleyv1.ConnectResponse), down: make(chan struct{}),
	}
	if l.every > 0 {
		s.fuse = 1 + l.rng.IntN(2*l.every)
	}
	l.mu.Unlock()
	l.wg.Go(s.forth)
	l.wg.Go(s.back)
	l.wg.Go(func() {
		select {
		case <-ctx.Done():
			s.cut()
		case <-s.down:
		}
	})
	return s, nil
}

// stream is one connection of the worker.
type stream struct {
	link   *link
	real   grpc.ClientStream
	ctx    context.Context // of the call, as grpc.ClientStream has it
	cancel context.CancelFunc
	id     int
	out    chan proto.Message
	in     chan *volleyv1.ConnectResponse
	down   chan struct{} // closed: the worker has lost it
	once   sync.Once

	mu   sync.Mutex
	fuse int // messages until the cut; -1: none
	err  error
}

func (s *stream) cut() { s.fail(errCut) }

func (s *stream) fail(err error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		s.link.trace.add("%s/%d: down: %v", s.link.name, s.id, err)
		close(s.down)
	})
}

func (s *stream) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// burn counts a message and cuts when it was the last.
func (s *stream) burn() {
	s.mu.Lock()
	s.fuse--
	last := s.fuse == 0
	s.mu.Unlock()
	if last {
		s.cut()
	}
}

// forth delivers what the worker has said. After a cut a part of it arrives.
func (s *stream) forth() {
	defer s.cancel()
	for {
		var m proto.Message
		select {
		case m = <-s.out:
		default:
			select {
			case m = <-s.out:
			case <-s.down:
			}
		}
		if m == nil {
			return
		}
		select {
		case <-s.down:
			if s.link.draw(3) == 0 {
				return
			}
			if s.link.ghosts && s.link.draw(2) == 0 {
				// Longer than the worker takes to come back, now and then.
				select {
				case <-time.After(time.Duration(s.link.draw(30)) * time.Millisecond):
				case <-s.real.Context().Done():
				}
			}
		default:
		}
		if err := s.real.SendMsg(m); err != nil {
			s.cut()
			return
		}
	}
}

// back delivers what the coordinator says.
func (s *stream) back() {
	for {
		m := &volleyv1.ConnectResponse{}
		if err := s.real.RecvMsg(m); err != nil {
			s.fail(err)
			return
		}
		s.burn()
		select {
		case s.in <- m:
		case <-s.down:
		}
	}
}

func (s *stream) SendMsg(m any) error {
	select {
	case <-s.down:
		return io.EOF
	default:
	}
	// The worker uses the memory again.
	c := proto.Clone(m.(proto.Message))
	s.link.trace.add("%s/%d > %v", s.link.name, s.id, c)
	s.out <- c
	s.burn()
	if s.link.every > 0 && handsBack(c.(*volleyv1.ConnectRequest)) && s.link.draw(15) == 0 {
		s.cut() // most likely before the acknowledgement
	}
	return nil
}

func handsBack(m *volleyv1.ConnectRequest) bool {
	for _, l := range m.GetReport().GetLeases() {
		if len(l.GetReturned()) > 0 {
			return true
		}
	}
	return false
}

func (s *stream) RecvMsg(m any) error {
	select {
	case <-s.down:
		return s.reason()
	default:
	}
	select {
	case r := <-s.in:
		s.link.trace.add("%s/%d < %v", s.link.name, s.id, r)
		proto.Merge(m.(proto.Message), r)
		return nil
	case <-s.down:
		return s.reason()
	}
}

func (s *stream) CloseSend() error             { return nil } // the coordinator ends the stream after bye
func (s *stream) Context() context.Context     { return s.ctx }
func (s *stream) Trailer() metadata.MD         { return nil }
func (s *stream) Header() (metadata.MD, error) { return nil, errors.New("not needed") }

// trace keeps the last messages of all links.
type trace struct {
	mu    sync.Mutex
	lines []string
	next  int
}

const traced = 400

func (t *trace) add(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if len(line) > 400 {
		line = line[:400] + "…"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < traced {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next%traced] = line
	t.next++
}

func (t *trace) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for i := range t.lines {
		lines = append(lines, t.lines[(t.next+i)%len(t.lines)])
	}
	return lines
}
