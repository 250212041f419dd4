// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Ref names a job, or one child of it.
type Ref struct {
	// ID of the job.
	ID string
	// Index of the child, when Child is set.
	Index uint64
	Child bool
}

// String is the form that the API takes: "17" or "17:3".
func (r Ref) String() string {
	if !r.Child {
		return r.ID
	}
	return r.ID + ":" + strconv.FormatUint(r.Index, 10)
}

// Resolve finds the job that a user means: an id, "id:index", or a name in
// place of the id, which means the newest job of that name. An id goes before
// a name that looks like one.
func (c *Client) Resolve(ctx context.Context, s string) (Ref, error) {
	ref, err := parseRef(s)
	if err != nil {
		return Ref{}, err
	}
	if isID(ref.ID) {
		jobs, err := c.Describe(ctx, false, ref.ID)
		if err != nil {
			return Ref{}, err
		}
		if len(jobs) > 0 {
			return ref, nil
		}
	}
	for j, err := range c.List(ctx, &volleyv1.ListJobsRequest{Name: ref.ID, PageSize: 1}) {
		if err != nil {
			return Ref{}, err
		}
		ref.ID = j.Id
		return ref, nil
	}
	return Ref{}, &Error{Kind: NotFound, Msg: fmt.Sprintf("there is no job %q: `volley ls` lists them", ref.ID)}
}

func parseRef(s string) (Ref, error) {
	id, index, child := strings.Cut(s, ":")
	if id == "" || strings.ContainsAny(id, "* \t\n") {
		return Ref{}, invalid("", "job %q: want an id, id:index, or a name", s)
	}
	ref := Ref{ID: id, Child: child}
	if child {
		i, err := strconv.ParseUint(index, 10, 64)
		if err != nil || index[0] == '+' {
			return Ref{}, invalid("", "job %q: index %q: want a number from 0", s, index)
		}
		ref.Index = i
	}
	return ref, nil
}

func isID(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}
