// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(n int32) (int, error) {
	if n < 0 || n > maxPage {
		return 0, status.Errorf(codes.InvalidArgument, "page_size %d is not in [1, %d]", n, maxPage)
	}
	if n == 0 {
		return defaultPage, nil
	}
	return int(n), nil
}

// cursor is where a page ended: the sort time and the id of its last job. It
// names a place, not a number of rows, so that jobs which come and go between
// two pages neither repeat nor hide others.
type cursor struct {
	at int64
	id uint64
}

func (c cursor) token() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", c.at, c.id))
}

func parseToken(token string) (c cursor, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d.%d", &c.at, &c.id)
	}
	if err != nil {
		return c, status.Errorf(codes.InvalidArgument, "page_token %q was not given out by this call", token)
	}
	return c, nil
}

// ListJobs implements JobService.
func (s *Server) ListJobs(ctx context.Context, req *volleyv1.ListJobsRequest) (*volleyv1.ListJobsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	var after *cursor
	if req.GetPageToken() != "" {
		c, err := parseToken(req.GetPageToken())
		if err != nil {
			return nil, err
		}
		after = &c
	}
	at := func(j *state.Job) int64 {
		switch req.GetSort() {
		case volleyv1.JobSort_JOB_SORT_STARTED:
			return j.Started
		case volleyv1.JobSort_JOB_SORT_STOPPED:
			return j.Stopped
		default:
			return j.Created
		}
	}
	sign := -1
	if req.GetAscending() {
		sign = 1
	}
	order := func(a, b cursor) int { return sign * cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) }

	out := &volleyv1.ListJobsResponse{}
	err = s.engine.View(ctx, func(st *state.State) {
		var found []cursor
		for _, id := range st.JobIDs() {
			j := st.Job(id)
			c := cursor{at(j), id}
			if matchesList(req, j, c.at) && (after == nil || order(*after, c) < 0) {
				found = append(found, c)
			}
		}
		slices.SortFunc(found, order)
		for n, c := range found {
			if n == size {
				out.NextPageToken = found[n-1].token()
				break
			}
			out.Jobs = append(out.Jobs, st.Job(c.id).Proto())
		}
	})
	return out, toStatus(err)
}

func matchesList(req *volleyv1.ListJobsRequest, j *state.Job, at int64) bool {
	if len(req.GetStates()) > 0 && !slices.Contains(req.GetStates(), j.State()) {
		return false
	}
	if req.GetQueue() != "" && j.Spec.GetQueue() != req.GetQueue() {
		return false
	}
	if prefix, star := strings.CutSuffix(req.GetName(), "*"); star && !strings.HasPrefix(j.Name(), prefix) || !star && req.GetName() != "" && j.Name() != req.GetName() {
		return false
	}
	for _, want := range req.GetLabels() {
		if !slices.ContainsFunc(j.Spec.GetLabels(), func(l *volleyv1.Label) bool {
			return l.GetKey() == want.GetKey() && l.GetValue() == want.GetValue()
		}) {
			return false
		}
	}
	// A job that has not started or ended has no such time: it is in no
	// interval of it.
	if (req.GetSince() > 0 || req.GetUntil() > 0) && at == 0 {
		return false
	}
	return (req.GetSince() == 0 || at >= req.GetSince()) && (req.GetUntil() == 0 || at < req.GetUntil())
}

// rowBatch is how many rows one view and one message carry: the engine must
// not stand still while a million rows are read.
const rowBatch = 1000

// ListChildren implements JobService.
func (s *Server) ListChildren(ctx context.Context, req *volleyv1.ListChildrenRequest) (*volleyv1.ListChildrenResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	first := uint64(0)
	if req.GetPageToken() != "" {
		c, err := parseToken(req.GetPageToken())
		if err != nil {
			return nil, err
		}
		first = c.id
	}
	p, err := s.pointsOf(ctx, req.GetJobId())
	if err != nil {
		return nil, err
	}
	defer p.close()
	out := &volleyv1.ListChildrenResponse{}
	for len(out.Children) < size {
		rows, next, more, err := s.rows(ctx, req.GetJobId(), req.GetStates(), first, size-len(out.Children))
		if err != nil {
			return nil, err
		}
		out.Children = append(out.Children, rows...)
		if first = next; !more {
			fill(p, out.Children)
			return out, nil
		}
	}
	fill(p, out.Children)
	out.NextPageToken = cursor{id: first}.token()
	return out, nil
}

func fill(p *points, rows []*volleyv1.Child) {
	for _, r := range rows {
		r.Params = p.params(r.GetIndex())
	}
}

func (s *Server) pointsOf(ctx context.Context, id string) (*points, error) {
	var spec *volleyv1.JobSpec
	if err := s.job(ctx, id, func(_ *state.State, j *state.Job, _ *uint64) { spec = j.Spec }); err != nil {
		return nil, err
	}
	p, err := newPoints(spec)
	return p, toStatus(err)
}

// maxScan bounds how many indexes one view looks at for matching states.
const maxScan = 100_000

// rows reads up to limit matching children from index first on. next is where
// to go on, more says that there may be others.
func (s *Server) rows(ctx context.Context, id string, states []volleyv1.JobState, first uint64, limit int) (out []*volleyv1.Child, next uint64, more bool, err error) {
	err = s.job(ctx, id, func(st *state.State, j *state.Job, _ *uint64) {
		next = first
		for scanned := 0; next < j.Size && len(out) < limit && scanned < maxScan; next++ {
			scanned++
			if len(states) == 0 || slices.Contains(states, j.ChildState(st, next)) {
				out = append(out, st.Child(j, next))
			}
		}
		more = next < j.Size
	})
	return out, next, more, err
}

// ListResults implements JobService.
func (s *Server) ListResults(req *volleyv1.ListResultsRequest, stream grpc.ServerStreamingServer[volleyv1.ListResultsResponse]) error {
	ctx := stream.Context()
	p, err := s.pointsOf(ctx, req.GetJobId())
	if err != nil {
		return err
	}
	defer p.close()
	if req.GetOrder() == volleyv1.ResultOrder_RESULT_ORDER_METRIC {
		return s.ranked(ctx, req, p, stream)
	}
	left := req.GetLimit()
	for first, more := uint64(0), true; more && (req.GetLimit() == 0 || left > 0); {
		n := rowBatch
		if req.GetLimit() > 0 {
			n = int(min(left, rowBatch))
		}
		var rows []*volleyv1.Child
		if rows, first, more, err = s.rows(ctx, req.GetJobId(), req.GetStates(), first, n); err != nil {
			return err
		}
		left -= uint64(len(rows))
		fill(p, rows)
		if len(rows) > 0 {
			if err := stream.Send(&volleyv1.ListResultsResponse{Rows: rows}); err != nil {
				return err
			}
		}
	}
	return nil
}

// ranked streams the rows by the job's metric.
func (s *Server) ranked(ctx context.Context, req *volleyv1.ListResultsRequest, p *points, stream grpc.ServerStreamingServer[volleyv1.ListResultsResponse]) error {
	if p.spec.GetMetric().GetName() == "" {
		return status.Errorf(codes.InvalidArgument, "job %s has no metric to sort by: give it one under `metric` in the job file", req.GetJobId())
	}
	var best []state.Best
	if err := s.job(ctx, req.GetJobId(), func(_ *state.State, j *state.Job, _ *uint64) {
		best = j.Ranked(int(min(req.GetLimit(), 1<<31-1)))
	}); err != nil {
		return err
	}
	for part := range slices.Chunk(best, rowBatch) {
		var rows []*volleyv1.Child
		if err := s.job(ctx, req.GetJobId(), func(st *state.State, j *state.Job, _ *uint64) {
			for _, b := range part {
				if len(req.GetStates()) == 0 || slices.Contains(req.GetStates(), j.ChildState(st, b.Index)) {
					rows = append(rows, st.Child(j, b.Index))
				}
			}
		}); err != nil {
			return err
		}
		fill(p, rows)
		if err := stream.Send(&volleyv1.ListResultsResponse{Rows: rows}); err != nil {
			return err
		}
	}
	return nil
}
