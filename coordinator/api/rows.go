// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"math"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	// rowBatch is how many rows one view reads and one message carries: the
	// engine must not stand still while a million rows are read.
	rowBatch = 1000
	// rowBytes bounds the outputs that one view copies: 1000 of the largest
	// would be more than a message may have.
	rowBytes = 1 << 20
	// maxScan bounds how many indexes one view looks at for matching states.
	maxScan = 20_000
	// maxPageBytes ends a page of children early.
	maxPageBytes = 8 << 20
)

// rows reads the children of one job, page by page.
type rows struct {
	s      *Server
	job    uint64
	points *points
	states []volleyv1.JobState
	// touched: only children that run or have ended are asked for. Then
	// stretches that no task has come to are passed over at once.
	touched bool
	next    uint64
	more    bool
}

// rowsOf begins to read. The job is looked up here and nowhere else: its name
// may mean another job before the last row is read. job is the one to go on
// with, 0: the one that id names.
func (s *Server) rowsOf(ctx context.Context, id string, job uint64, states []volleyv1.JobState) (*rows, error) {
	if err := checkStates(states); err != nil {
		return nil, err
	}
	if job != 0 {
		if n, _, _, ok := state.ParseID(id); ok && n != job {
			return nil, invalid("page_token is of job %d, job_id says %s", job, clip(id))
		}
		id = formatID(job)
	}
	r := &rows{s: s, states: states, more: true, touched: len(states) > 0}
	for _, st := range states {
		switch st {
		case volleyv1.JobState_JOB_STATE_RUNNING, volleyv1.JobState_JOB_STATE_SUCCEEDED, volleyv1.JobState_JOB_STATE_FAILED:
		default:
			r.touched = false
		}
	}
	var spec *volleyv1.JobSpec
	if err := s.whole(ctx, id, func(_ *state.State, j *state.Job) { r.job, spec = j.ID, j.Spec }); err != nil {
		return nil, err
	}
	var err error
	r.points, err = s.points.of(r.job, spec)
	return r, toStatus(err)
}

// read returns some matching children, at most limit. There may be none of
// them although there are more.
func (r *rows) read(ctx context.Context, limit int) ([]*volleyv1.Child, error) {
	var out []*volleyv1.Child
	err := r.s.byNumber(ctx, r.job, func(st *state.State, j *state.Job) {
		size := 0
		for scanned := 0; r.next < j.Size && len(out) < limit && scanned < maxScan && size < rowBytes; scanned++ {
			if r.touched && scanned&0x3ff == 0 {
				if r.next = j.NextTouched(r.next); r.next == j.Size {
					break
				}
			}
			if len(r.states) == 0 || slices.Contains(r.states, j.ChildState(st, r.next)) {
				c := st.Child(j, r.next)
				size += len(c.GetOutput())
				out = append(out, c)
			}
			r.next++
		}
		r.more = r.next < j.Size
	})
	r.fill(out)
	return out, err
}

// fill renders the parameters, outside of the engine.
func (r *rows) fill(children []*volleyv1.Child) {
	for _, c := range children {
		c.Params = r.points.params(c.GetIndex())
	}
}

// ListChildren implements JobService.
func (s *Server) ListChildren(ctx context.Context, req *volleyv1.ListChildrenRequest) (*volleyv1.ListChildrenResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	from := cursor{order: "children"}
	if req.GetPageToken() != "" {
		if from, err = parseToken(req.GetPageToken(), from.order); err != nil {
			return nil, err
		}
	}
	r, err := s.rowsOf(ctx, req.GetJobId(), uint64(max(from.at, 0)), req.GetStates())
	if err != nil {
		return nil, err
	}
	defer r.points.close()
	r.next = from.id
	out := &volleyv1.ListChildrenResponse{}
	for bytes := 0; len(out.Children) < size && r.more && bytes < maxPageBytes; {
		children, err := r.read(ctx, size-len(out.Children))
		if err != nil {
			return nil, err
		}
		for _, c := range children {
			bytes += proto.Size(c)
		}
		out.Children = append(out.Children, children...)
	}
	if r.more {
		from.at, from.id = int64(r.job), r.next
		out.NextPageToken = from.token()
	}
	return out, nil
}

// ListResults implements JobService.
func (s *Server) ListResults(req *volleyv1.ListResultsRequest, stream grpc.ServerStreamingServer[volleyv1.ListResultsResponse]) error {
	if _, ok := volleyv1.ResultOrder_name[int32(req.GetOrder())]; !ok {
		return invalid("order %s is not known", req.GetOrder())
	}
	ctx := stream.Context()
	r, err := s.rowsOf(ctx, req.GetJobId(), 0, req.GetStates())
	if err != nil {
		return err
	}
	defer r.points.close()
	left := req.GetLimit()
	if left == 0 {
		left = math.MaxUint64
	}
	next := r.read
	if req.GetOrder() == volleyv1.ResultOrder_RESULT_ORDER_METRIC {
		if next, err = r.ranked(ctx, left); err != nil {
			return err
		}
	}
	for r.more && left > 0 {
		children, err := next(ctx, int(min(left, rowBatch)))
		if err != nil {
			return err
		}
		left -= uint64(len(children))
		if err := sendRows(stream, children); err != nil {
			return err
		}
	}
	return nil
}

// sendRows sends rows in messages of bounded size: what is rendered of a map's
// records may be long.
func sendRows(stream grpc.ServerStreamingServer[volleyv1.ListResultsResponse], children []*volleyv1.Child) error {
	for len(children) > 0 {
		n, size := 0, 0
		for n < len(children) && size < maxPageBytes {
			size += proto.Size(children[n])
			n++
		}
		if err := stream.Send(&volleyv1.ListResultsResponse{Rows: children[:n]}); err != nil {
			return err
		}
		children = children[n:]
	}
	return nil
}

// ranked returns a reader of the rows by the job's metric, the best first.
func (r *rows) ranked(ctx context.Context, limit uint64) (func(context.Context, int) ([]*volleyv1.Child, error), error) {
	if r.points.spec.GetMetric().GetName() == "" {
		return nil, invalid("job %d has no metric to sort by: give it one under `metric` in the job file", r.job)
	}
	best, err := r.rank(ctx, limit)
	r.more = err == nil && len(best) > 0
	return func(ctx context.Context, limit int) ([]*volleyv1.Child, error) {
		var out []*volleyv1.Child
		err := r.s.byNumber(ctx, r.job, func(st *state.State, j *state.Job) {
			size := 0
			for len(best) > 0 && len(out) < limit && size < rowBytes {
				c := st.Child(j, best[0].Index)
				best = best[1:]
				// A rerun may have come between: then it is not ranked any more.
				if c.Metric != nil && c.GetState() == succeeded {
					size += len(c.GetOutput())
					out = append(out, c)
				}
			}
			r.more = len(best) > 0
		})
		r.fill(out)
		return out, err
	}, err
}

const succeeded = volleyv1.JobState_JOB_STATE_SUCCEEDED

// rank sorts the children that have a value, and keeps the best of them. The
// values are read some blocks at a time, and sorted outside of the engine.
func (r *rows) rank(ctx context.Context, limit uint64) ([]state.Best, error) {
	if len(r.states) > 0 && !slices.Contains(r.states, succeeded) {
		return nil, nil // no others are ranked
	}
	var blocks []uint64
	if err := r.s.byNumber(ctx, r.job, func(_ *state.State, j *state.Job) { blocks = j.Blocks() }); err != nil {
		return nil, err
	}
	sign := 1
	if r.points.spec.GetMetric().GetGoal() == volleyv1.Goal_GOAL_MAX {
		sign = -1
	}
	var best []state.Best
	cut := func() {
		slices.SortFunc(best, func(a, b state.Best) int {
			return cmp.Or(sign*cmp.Compare(a.Value, b.Value), cmp.Compare(a.Index, b.Index))
		})
		best = best[:min(uint64(len(best)), limit)]
	}
	for part := range slices.Chunk(blocks, blocksPerView) {
		if err := r.s.byNumber(ctx, r.job, func(_ *state.State, j *state.Job) {
			for _, b := range part {
				best = j.AppendRanked(best, b)
			}
		}); err != nil {
			return nil, err
		}
		if uint64(len(best)) > min(limit, 1<<40)+1<<20 {
			cut()
		}
	}
	cut()
	return best, nil
}
