// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// ReadLogs implements JobService. With follow it waits for a child that has
// not started yet.
func (s *Server) ReadLogs(req *volleyv1.ReadLogsRequest, stream grpc.ServerStreamingServer[volleyv1.ReadLogsResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	at, err := s.findAttempt(ctx, req)
	if err != nil {
		return err
	}
	streams := req.GetStreams()
	if len(streams) == 0 {
		streams = []volleyv1.LogStream{volleyv1.LogStream_LOG_STREAM_STDOUT, volleyv1.LogStream_LOG_STREAM_STDERR}
	}
	var mu sync.Mutex
	failed := make(chan error, len(streams))
	for _, which := range streams {
		go func() {
			failed <- s.workers.ReadLog(ctx, at.worker, &volleyv1.LogRequest{
				Job: at.job, Index: at.index, Attempt: at.attempt, Stream: which, Follow: req.GetFollow(), TailBytes: req.GetTailBytes(),
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

type attemptPlace struct {
	job, index uint64
	worker     uint32
	attempt    uint32
}

func (s *Server) findAttempt(ctx context.Context, req *volleyv1.ReadLogsRequest) (at attemptPlace, err error) {
	id := req.GetJobId()
	for {
		var found, ended bool
		var reused string
		var changed <-chan struct{}
		var stop func()
		var refused error
		err = s.job(ctx, id, func(st *state.State, j *state.Job, child *uint64) {
			if child == nil && j.Array {
				refused = status.Errorf(codes.InvalidArgument, "job %s has %d tasks: name one, as in %s:0", j.IDString(), j.Size, j.IDString())
				return
			}
			at.job = j.ID
			if child != nil {
				at.index = *child
			}
			c := st.Child(j, at.index)
			reused = c.GetReusedFrom()
			at.worker, at.attempt, found = st.AttemptNode(j, at.index, req.GetAttempt())
			ended = j.Terminal() || c.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED || c.GetState() == volleyv1.JobState_JOB_STATE_FAILED
			changed, stop = s.hub.watch(j.ID)
		})
		if err == nil {
			err = refused
		}
		if err != nil {
			return at, err
		}
		if reused != "" {
			stop()
			return at, status.Errorf(codes.NotFound, "%s was not run: its result was taken over from job %s, see that job's output", id, reused)
		}
		if found || ended || !req.GetFollow() {
			stop()
			switch {
			case found:
				return at, nil
			case req.GetAttempt() > 0:
				return at, status.Errorf(codes.NotFound, "%s has no attempt %d", id, req.GetAttempt())
			default:
				return at, status.Errorf(codes.NotFound, "%s has not started, so it has no output", id)
			}
		}
		select {
		case <-changed:
			stop()
		case <-ctx.Done():
			stop()
			return at, toStatus(ctx.Err())
		case <-s.hub.closed:
			stop()
			return at, errStopping
		}
	}
}

// FindMissingBlobs implements BlobService.
func (s *Server) FindMissingBlobs(_ context.Context, req *volleyv1.FindMissingBlobsRequest) (*volleyv1.FindMissingBlobsResponse, error) {
	out := &volleyv1.FindMissingBlobsResponse{}
	for _, d := range req.GetDigests() {
		has, err := s.blobs.Has(d)
		if err != nil {
			return nil, toStatus(err)
		}
		if !has {
			out.Digests = append(out.Digests, d)
		}
	}
	return out, nil
}

// PutBlob implements BlobService.
func (s *Server) PutBlob(stream grpc.ClientStreamingServer[volleyv1.PutBlobRequest, volleyv1.PutBlobResponse]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	w, err := s.blobs.Create(m.GetDigest())
	if err != nil {
		return toStatus(err)
	}
	for {
		if _, err := w.Write(m.GetData()); err != nil {
			w.Abort()
			return toStatus(err)
		}
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.Abort()
			return err
		}
	}
	if err := w.Commit(); err != nil {
		return toStatus(err)
	}
	return stream.SendAndClose(&volleyv1.PutBlobResponse{})
}

// GetBlob implements BlobService.
func (s *Server) GetBlob(req *volleyv1.GetBlobRequest, stream grpc.ServerStreamingServer[volleyv1.GetBlobResponse]) error {
	f, err := s.blobs.Open(req.GetDigest())
	if err != nil {
		return toStatus(err)
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := stream.Send(&volleyv1.GetBlobResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return status.Errorf(codes.Internal, "read blob: %v", err)
		}
	}
}
