// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	// order is what the pages are sorted by: a place in one order is none in
	// another.
	order string
	at    int64
	id    uint64
}

func (c cursor) token() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s.%d.%d", c.order, c.at, c.id))
}

func parseToken(token, order string) (c cursor, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	parts := strings.Split(string(b), ".")
	if err == nil && len(parts) == 3 {
		c.order = parts[0]
		c.at, err = strconv.ParseInt(parts[1], 10, 64)
		if err == nil {
			c.id, err = strconv.ParseUint(parts[2], 10, 64)
		}
		if err == nil && c.order == order && c.token() == token {
			return c, nil
		}
	}
	return cursor{}, invalid("page_token %q was not given out for this listing: begin without one", clip(token))
}

// ListJobs implements JobService.
func (s *Server) ListJobs(ctx context.Context, req *volleyv1.ListJobsRequest) (*volleyv1.ListJobsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	if err := checkList(req); err != nil {
		return nil, err
	}
	sorted := fmt.Sprintf("jobs-%d-%t", req.GetSort(), req.GetAscending())
	var after *cursor
	if req.GetPageToken() != "" {
		c, err := parseToken(req.GetPageToken(), sorted)
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
			c := cursor{sorted, at(j), id}
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

func checkList(req *volleyv1.ListJobsRequest) error {
	if _, ok := volleyv1.JobSort_name[int32(req.GetSort())]; !ok {
		return invalid("sort %s is not known", req.GetSort())
	}
	if req.GetSince() < 0 || req.GetUntil() < 0 {
		return invalid("since %d and until %d must not be negative: they are Unix milliseconds", req.GetSince(), req.GetUntil())
	}
	if star := strings.IndexByte(req.GetName(), '*'); star >= 0 && star != len(req.GetName())-1 {
		return invalid("name %q: '*' may be at the end only", clip(req.GetName()))
	}
	return checkStates(req.GetStates())
}

func checkStates(states []volleyv1.JobState) error {
	for n, st := range states {
		if _, ok := volleyv1.JobState_name[int32(st)]; !ok || st == volleyv1.JobState_JOB_STATE_UNSPECIFIED {
			return invalid("states[%d] %s is not a state", n, st)
		}
	}
	return nil
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
