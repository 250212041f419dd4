// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Watch yields the job at once and after changes, at most once an interval
// (0: the coordinator's default), and ends after the terminal state. It lives
// through a restart of the coordinator. An error is the last element.
func (c *Client) Watch(ctx context.Context, id string, interval time.Duration) iter.Seq2[*volleyv1.Job, error] {
	return func(yield func(*volleyv1.Job, error) bool) {
		req := &volleyv1.WatchJobRequest{JobId: id, MinIntervalMs: int32(min(interval.Milliseconds(), 1<<30))}
		p := patience{limit: c.retryFor}
		for {
			done, err := c.watchOnce(ctx, req, &p, yield)
			if done {
				return
			}
			err = c.wrap(ctx, "watch job "+id, err)
			if Kind(err) != Unreachable || !p.wait(ctx) {
				yield(nil, err)
				return
			}
		}
	}
}

// watchOnce follows one stream. It is done when the caller has had enough or
// the job has ended.
func (c *Client) watchOnce(ctx context.Context, req *volleyv1.WatchJobRequest, p *patience, yield func(*volleyv1.Job, error) bool) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.jobs.WatchJob(ctx, req)
	if err != nil {
		return false, err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			// The stream ended before the job did: the coordinator shuts down.
			return false, &Error{Kind: Unreachable, Msg: "the coordinator" + c.at() + " has stopped"}
		}
		if err != nil {
			return false, err
		}
		if m.Job == nil {
			continue
		}
		p.alive()
		if !yield(m.Job, nil) || Terminal(m.Job.State) {
			return true, nil
		}
	}
}

// Terminal says whether a job or child of this state has ended.
func Terminal(s volleyv1.JobState) bool {
	return s == volleyv1.JobState_JOB_STATE_SUCCEEDED || s == volleyv1.JobState_JOB_STATE_FAILED
}

// Logs yields the output of one attempt in chunks. With follow it ends when
// the attempt does. An error is the last element.
func (c *Client) Logs(ctx context.Context, req *volleyv1.ReadLogsRequest) iter.Seq2[*volleyv1.ReadLogsResponse, error] {
	return stream(ctx, c, "read logs", func(ctx context.Context) (grpc.ServerStreamingClient[volleyv1.ReadLogsResponse], error) {
		return c.jobs.ReadLogs(ctx, req)
	})
}

// Results yields one row per index. An error is the last element.
func (c *Client) Results(ctx context.Context, req *volleyv1.ListResultsRequest) iter.Seq2[*volleyv1.Child, error] {
	batches := stream(ctx, c, "list results of job "+req.JobId, func(ctx context.Context) (grpc.ServerStreamingClient[volleyv1.ListResultsResponse], error) {
		return c.jobs.ListResults(ctx, req)
	})
	return func(yield func(*volleyv1.Child, error) bool) {
		for b, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, row := range b.Rows {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// stream yields the messages of a server stream. It opens it again only as
// long as nothing was received: a second stream would repeat what the caller
// has had.
func stream[T any](ctx context.Context, c *Client, op string, open func(context.Context) (grpc.ServerStreamingClient[T], error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var s grpc.ServerStreamingClient[T]
		m, err := retry(ctx, c, op, func() (m *T, err error) {
			if s, err = open(ctx); err != nil {
				return nil, err
			}
			m, err = s.Recv()
			if errors.Is(err, io.EOF) {
				return nil, nil
			}
			return m, err
		})
		if err != nil {
			yield(nil, err)
			return
		}
		for m != nil {
			if !yield(m, nil) {
				return
			}
			m, err = s.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, c.wrap(ctx, op, err))
				return
			}
		}
	}
}
