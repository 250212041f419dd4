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
	ended  bool
	err    error
	wake   chan struct{}
}

func (l *logReader) put(data []byte, end bool, err error) {
	l.mu.Lock()
	if !l.ended {
		if len(data) > 0 {
			l.chunks = append(l.chunks, data)
		}
		l.ended, l.err = end, err
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *logReader) fail(err error) { l.put(nil, true, err) }

func (l *logReader) take() (chunks [][]byte, ended bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunks, l.chunks = l.chunks, nil
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
	l.put(c.GetData(), c.GetEnd(), nil)
}

// ReadLog asks a worker for output and calls send with it, in order, until the
// request is served or ctx ends. It blocks. Set job, index, attempt, stream,
// follow and tail_bytes of the request; the rest is set here.
func (d *Dispatcher) ReadLog(ctx context.Context, worker uint32, req *volleyv1.LogRequest, send func([]byte) error) error {
	d.mu.Lock()
	s := d.sessions[worker]
	d.mu.Unlock()
	if s == nil {
		return status.Error(codes.Unavailable, "the node that has the output is not connected")
	}
	l := &logReader{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.logs == nil {
		s.mu.Unlock()
		return status.Error(codes.Unavailable, "the node that has the output is not connected")
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
