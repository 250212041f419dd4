// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"sync"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker/output"
)

// maxLogRequests bounds the requests that are served at once.
const maxLogRequests = 256

// logServer answers requests for task output on one session: a goroutine each,
// which waits in the session's short queue, so that output takes the stream
// only when no report wants it.
type logServer struct {
	agent  *Agent
	ctx    context.Context // of the session; a request has no other
	chunks chan<- *volleyv1.LogChunk
	wg     sync.WaitGroup

	mu     sync.Mutex
	active map[uint64]*logRequest
}

// logRequest is a request that is being served.
type logRequest struct {
	stop context.CancelFunc
	// credit is how many bytes may be sent; wake has room for one token that
	// says there is more. Without it a slow reader would fill the stream that
	// reports travel on.
	credit int64
	wake   chan struct{}
}

func newLogServer(ctx context.Context, a *Agent, chunks chan<- *volleyv1.LogChunk) *logServer {
	return &logServer{agent: a, ctx: ctx, chunks: chunks, active: make(map[uint64]*logRequest)}
}

// handle starts or stops a request. It does not block.
func (l *logServer) handle(r *volleyv1.LogRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.active[r.GetRequestId()]
	switch {
	case r.GetCancel():
		if q != nil {
			q.stop()
		}
		return
	case q != nil:
		q.credit += r.GetCredit()
		select {
		case q.wake <- struct{}{}:
		default:
		}
		return
	case r.GetJob() == 0:
		return // credit for a request that has ended meanwhile
	}
	ctx, cancel := context.WithCancel(l.ctx)
	q = &logRequest{stop: cancel, credit: r.GetCredit(), wake: make(chan struct{}, 1)}
	refused := ""
	switch {
	case len(l.active) >= maxLogRequests:
		refused = "the worker serves too many log requests; try again later"
	case l.agent.procs == nil:
		refused = "this worker keeps no output"
	}
	l.active[r.GetRequestId()] = q
	l.wg.Go(func() {
		defer cancel()
		last := &volleyv1.LogChunk{RequestId: r.GetRequestId(), End: true, Error: refused}
		if refused == "" {
			if err := l.serve(ctx, r, q); err != nil && ctx.Err() == nil {
				last.Error = err.Error()
			}
		}
		l.mu.Lock()
		delete(l.active, r.GetRequestId())
		l.mu.Unlock()
		if l.ctx.Err() == nil {
			// Not when the session ends: an end that gets through at the last
			// moment would make cut-off output look complete.
			_ = l.send(l.ctx, last)
		}
	})
}

func (l *logServer) send(ctx context.Context, c *volleyv1.LogChunk) error {
	select {
	case l.chunks <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spend waits until bytes may be sent, and takes up to n of them.
func (l *logServer) spend(ctx context.Context, q *logRequest, n int) (int, error) {
	for {
		l.mu.Lock()
		got := int(min(int64(n), q.credit))
		q.credit -= int64(got)
		l.mu.Unlock()
		if got > 0 {
			return got, nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// serve streams the output of one attempt.
func (l *logServer) serve(ctx context.Context, r *volleyv1.LogRequest, q *logRequest) error {
	p := l.agent.procs
	ref := p.outputRef(output.Ref{Job: r.GetJob(), Index: r.GetIndex(), Attempt: r.GetAttempt()})
	stream := output.Stdout
	switch r.GetStream() {
	case volleyv1.LogStream_LOG_STREAM_STDERR:
		stream = output.Stderr
	case volleyv1.LogStream_LOG_STREAM_STDOUT:
	default:
		return errors.New("log request names no stream")
	}
	from := -max(0, r.GetTailBytes())
	emit := func(b []byte) error {
		for len(b) > 0 {
			n, err := l.spend(ctx, q, min(len(b), maxChunk))
			if err != nil {
				return err
			}
			// The queue keeps it; b is the store's.
			c := &volleyv1.LogChunk{RequestId: r.GetRequestId(), Data: append([]byte(nil), b[:n]...)}
			if err := l.send(ctx, c); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
	if r.GetFollow() {
		return p.out.Follow(ctx, ref, stream, from, emit)
	}
	_, err := p.out.Read(ref, stream, from, writerFunc(emit))
	return err
}

// maxChunk bounds the data of one LogChunk.
const maxChunk = 64 << 10

type writerFunc func([]byte) error

func (f writerFunc) Write(b []byte) (int, error) {
	if err := f(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// close ends all requests; the session's context is done.
func (l *logServer) close() { l.wg.Wait() }
