// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// logWindow is how much output of one request may be on its way or waiting
// here for a slow reader.
const logWindow = 1 << 20

// logReader is one running request for output.
type logReader struct {
	mu     sync.Mutex
	chunks [][]byte
	// waiting is the bytes in chunks.
	waiting int64
	ended   bool
	err     error
	wake    chan struct{}
}

// maxWaiting is how much a worker that does not keep to its credit may send
// ahead of a slow reader. Refusing to receive would hold up its reports, and
// keeping everything would fill the coordinator's memory.
const maxWaiting = 8 * logWindow

var errAhead = status.Errorf(codes.ResourceExhausted,
	"the reader is more than %d MiB of output behind: read the end only (tail), or read faster", maxWaiting>>20)

// put takes one chunk. It answers false when no more is wanted.
func (l *logReader) put(data []byte, end bool, err error) bool {
	l.mu.Lock()
	if !l.ended {
		if len(data) > 0 {
			l.chunks = append(l.chunks, data)
			l.waiting += int64(len(data))
		}
		l.ended, l.err = end, err
		if l.waiting > maxWaiting {
			l.chunks, l.waiting, l.ended, l.err = nil, 0, true, errAhead
		}
	}
	more := !l.ended
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return more
}

func (l *logReader) fail(err error) { l.put(nil, true, err) }

func (l *logReader) take() (chunks [][]byte, ended bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunks, l.chunks, l.waiting = l.chunks, nil, 0
	return chunks, l.ended, l.err
}

func (s *session) logChunk(c *volleyv1.LogChunk) {
	s.mu.Lock()
	l := s.logs[c.GetRequestId()]
	if c.GetEnd() || c.GetError() != "" {
		delete(s.logs, c.GetRequestId())
	}
	s.mu.Unlock()
	if l == nil {
		return
	}
	if c.GetError() != "" {
		l.fail(status.Error(codes.NotFound, c.GetError()))
		return
	}
	if !l.put(c.GetData(), c.GetEnd(), nil) && !c.GetEnd() {
		s.stopLog(c.GetRequestId())
	}
}

// errNoNode is a refusal and not UNAVAILABLE: clients take that for the
// coordinator's own absence and wait for it.
var errNoNode = status.Error(codes.FailedPrecondition, "the node that has the output is not connected: see `volley nodes`")

var errNodeLost = status.Error(codes.FailedPrecondition, "the connection to the node that has the output was lost")

// ReadLog asks a worker for output and calls send with it, in order, until the
// request is served or ctx ends. It blocks. Set job, index, attempt, stream,
// follow and tail_bytes of the request; the rest is set here.
func (d *Dispatcher) ReadLog(ctx context.Context, worker uint32, req *volleyv1.LogRequest, send func([]byte) error) error {
	d.mu.Lock()
	s := d.sessions[worker]
	d.mu.Unlock()
	if s == nil {
		return errNoNode
	}
	l := &logReader{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.logs == nil {
		s.mu.Unlock()
		return errNoNode
	}
	s.lastLog++
	id := s.lastLog
	s.logs[id] = l
	s.mu.Unlock()
	req.RequestId, req.Credit = id, logWindow
	s.queue(func(m *volleyv1.ConnectResponse) { m.LogRequests = append(m.LogRequests, req) })
	defer s.stopLog(id)
	for {
		chunks, ended, err := l.take()
		used := int64(0)
		for _, c := range chunks {
			if err := send(c); err != nil {
				return err
			}
			used += int64(len(c))
		}
		if ended {
			return err
		}
		if used > 0 {
			s.queue(func(m *volleyv1.ConnectResponse) {
				m.LogRequests = append(m.LogRequests, &volleyv1.LogRequest{RequestId: id, Credit: used})
			})
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// stopLog tells the worker to stop a request that it has not ended itself.
func (s *session) stopLog(id uint64) {
	s.mu.Lock()
	_, open := s.logs[id]
	delete(s.logs, id)
	s.mu.Unlock()
	if open {
		s.queue(func(m *volleyv1.ConnectResponse) {
			m.LogRequests = append(m.LogRequests, &volleyv1.LogRequest{RequestId: id, Cancel: true})
		})
	}
}
