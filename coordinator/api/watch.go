// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Bounds of WatchJobRequest.min_interval_ms. What is shorter is raised: the
// engine has other things to do than to be looked at.
const (
	defaultInterval = 100 * time.Millisecond
	minInterval     = 10 * time.Millisecond
	maxInterval     = time.Hour
)

func interval(ms int32) (time.Duration, error) {
	if ms < 0 {
		return 0, status.Errorf(codes.InvalidArgument, "min_interval_ms %d is negative", ms)
	}
	if ms == 0 {
		return defaultInterval, nil
	}
	return min(max(time.Duration(ms)*time.Millisecond, minInterval), maxInterval), nil
}

// WatchJob implements JobService.
func (s *Server) WatchJob(req *volleyv1.WatchJobRequest, stream grpc.ServerStreamingServer[volleyv1.WatchJobResponse]) error {
	ctx := stream.Context()
	every, err := interval(req.GetMinIntervalMs())
	if err != nil {
		return err
	}
	var w *watcher
	var r reading
	err = s.whole(ctx, req.GetJobId(), func(_ *state.State, j *state.Job) { w, r = s.hub.watch(j, every) })
	if w != nil {
		defer w.close() // also when the view failed after it had read
	}
	if err != nil {
		return err
	}
	for {
		if err := stream.Send(&volleyv1.WatchJobResponse{Job: r.job}); err != nil {
			return err
		}
		if r.terminal {
			return nil
		}
		// The end is told at once, all else at most once in an interval.
		pause := time.NewTimer(every)
		for sent, due := r.number, false; ; {
			next, published := w.newest()
			if next.err != nil {
				pause.Stop()
				return next.err
			}
			// A reading that began before this watch is older than what was
			// sent, though it was published after.
			if next.number > sent && (due || next.terminal) {
				r = next
				break
			}
			select {
			case <-published:
			case <-pause.C:
				due = true
			case <-ctx.Done():
				pause.Stop()
				return toStatus(ctx.Err())
			case <-s.hub.closed:
				pause.Stop()
				return errStopping
			}
		}
		pause.Stop()
	}
}

var errStopping = status.Error(codes.Unavailable, "the coordinator is stopping")
