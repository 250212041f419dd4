// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// ReadLogs implements JobService. With follow it waits for a child that has
// not started yet and, where no attempt is named, goes on with the next attempt
// until the child has ended: an attempt that was stopped because its node went
// is not the end of the task.
func (s *Server) ReadLogs(req *volleyv1.ReadLogsRequest, stream grpc.ServerStreamingServer[volleyv1.ReadLogsResponse]) error {
	if err := checkLogs(req); err != nil {
		return err
	}
	id, tail := req.GetJobId(), req.GetTailBytes()
	for after := uint32(0); ; tail = 0 {
		at, err := s.findAttempt(stream.Context(), id, req, after)
		if err != nil || at.attempt == 0 {
			return err
		}
		if err := s.copyAttempt(req, at, tail, stream); err != nil {
			return err
		}
		if !req.GetFollow() || req.GetAttempt() > 0 {
			return nil
		}
		// By number: the name may come to mean another job.
		id, after = at.id(), at.attempt
	}
}

// copyAttempt streams the output of one attempt.
func (s *Server) copyAttempt(req *volleyv1.ReadLogsRequest, at attemptPlace, tail int64, stream grpc.ServerStreamingServer[volleyv1.ReadLogsResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	streams := req.GetStreams()
	if len(streams) == 0 {
		streams = []volleyv1.LogStream{volleyv1.LogStream_LOG_STREAM_STDOUT, volleyv1.LogStream_LOG_STREAM_STDERR}
	}
	var mu sync.Mutex
	failed := make(chan error, len(streams))
	for _, which := range streams {
		go func() {
			failed <- s.workers.ReadLog(ctx, at.worker, &volleyv1.LogRequest{
				Job: at.job, Index: at.index, Attempt: at.attempt, Stream: which, Follow: req.GetFollow(), TailBytes: tail,
			}, func(b []byte) error {
				mu.Lock()
				defer mu.Unlock()
				return stream.Send(&volleyv1.ReadLogsResponse{Stream: which, Data: b})
			})
		}()
	}
	var first error
	for range streams {
		// All must have ended before the handler returns: they use the stream.
		if err := <-failed; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return toStatus(first)
}

func checkLogs(req *volleyv1.ReadLogsRequest) error {
	if req.GetTailBytes() < 0 {
		return invalid("tail_bytes %d must not be negative", req.GetTailBytes())
	}
	for n, which := range req.GetStreams() {
		if which != volleyv1.LogStream_LOG_STREAM_STDOUT && which != volleyv1.LogStream_LOG_STREAM_STDERR {
			return invalid("streams[%d] %s must be STDOUT or STDERR", n, which)
		}
		if slices.Contains(req.GetStreams()[:n], which) {
			return invalid("streams[%d] %s is there twice", n, which)
		}
	}
	return nil
}

type attemptPlace struct {
	job, index uint64
	// child: the request named one.
	child   bool
	worker  uint32
	attempt uint32
}

// id names the job or child by number.
func (at attemptPlace) id() string {
	if at.child {
		return formatID(at.job) + ":" + strconv.FormatUint(at.index, 10)
	}
	return formatID(at.job)
}

// findAttempt says where the output is. With follow it waits until the attempt
// has started or can never start. With after it looks for a later attempt than
// that one; attempt 0 says that there will be none.
func (s *Server) findAttempt(ctx context.Context, id string, req *volleyv1.ReadLogsRequest, after uint32) (attemptPlace, error) {
	var w *watcher
	defer func() {
		if w != nil {
			w.close()
		}
	}()
	for {
		var at attemptPlace
		var wait bool
		var refused error
		var published <-chan struct{}
		err := s.job(ctx, id, func(st *state.State, j *state.Job, child *uint64) {
			at, wait, refused = locate(st, j, child, req, after)
			if !wait {
				return
			}
			if w == nil {
				w, _ = s.hub.watch(j, defaultInterval)
			}
			_, published = w.newest()
		})
		if err == nil {
			err = refused
		}
		if err != nil || !wait {
			return at, err
		}
		id = at.id() // by number from here on
		select {
		case <-published:
		case <-ctx.Done():
			return at, toStatus(ctx.Err())
		case <-s.hub.closed:
			return at, errStopping
		}
	}
}

// locate finds the attempt that a request names; wait says that it may still
// come.
func locate(st *state.State, j *state.Job, child *uint64, req *volleyv1.ReadLogsRequest, after uint32) (at attemptPlace, wait bool, err error) {
	if child == nil && j.Array {
		return at, false, invalid("job_id %q has %d tasks: name one, as in %s:0", clip(req.GetJobId()), j.Size, j.IDString())
	}
	at.job = j.ID
	if child != nil {
		at.index, at.child = *child, true
	}
	c := st.Child(j, at.index)
	if c.GetReusedFrom() != "" {
		return at, false, status.Errorf(codes.NotFound, "%s was not run: its result was taken over from job %s", clip(req.GetJobId()), c.GetReusedFrom())
	}
	var found bool
	if at.worker, at.attempt, found = st.AttemptNode(j, at.index, req.GetAttempt()); found && at.attempt > after {
		return at, false, nil
	}
	at.attempt = 0
	ended := j.Terminal() || c.GetState() == succeeded || c.GetState() == volleyv1.JobState_JOB_STATE_FAILED
	switch {
	case req.GetFollow() && !ended:
		return at, true, nil
	case after > 0:
		return at, false, nil
	case req.GetAttempt() > 0:
		return at, false, status.Errorf(codes.NotFound, "%s has no attempt %d", clip(req.GetJobId()), req.GetAttempt())
	case ended:
		return at, false, status.Errorf(codes.NotFound, "%s ended without having started, so it has no output: %s", clip(req.GetJobId()), c.GetStatusReason())
	default:
		return at, false, status.Errorf(codes.NotFound, "%s has not started, so it has no output", clip(req.GetJobId()))
	}
}
