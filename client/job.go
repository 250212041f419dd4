// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"iter"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// pageSize is that of ListJobs and ListChildren when the request has none.
const pageSize = 1000

// Plan says what a reuse submit of the spec would do.
func (c *Client) Plan(ctx context.Context, spec *volleyv1.JobSpec) (*volleyv1.PlanJobResponse, error) {
	return retry(ctx, c, "plan job", func() (*volleyv1.PlanJobResponse, error) {
		return c.jobs.PlanJob(ctx, &volleyv1.PlanJobRequest{Spec: spec})
	})
}

// Describe answers with jobs and children by id, in the order of the ids.
// Unknown ones are left out.
func (c *Client) Describe(ctx context.Context, withSpec bool, ids ...string) ([]*volleyv1.JobDetail, error) {
	r, err := retry(ctx, c, "describe job", func() (*volleyv1.DescribeJobsResponse, error) {
		return c.jobs.DescribeJobs(ctx, &volleyv1.DescribeJobsRequest{JobIds: ids, WithSpec: withSpec})
	})
	return r.GetJobs(), err
}

// Job answers with one job, or NotFound. The child is set when ref names one,
// and for single jobs.
func (c *Client) Job(ctx context.Context, ref Ref) (*volleyv1.JobDetail, error) {
	jobs, err := c.Describe(ctx, true, ref.String())
	if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		return nil, &Error{Kind: NotFound, Msg: "there is no job " + ref.String()}
	}
	return jobs[0], nil
}

// List lists jobs, page after page. It changes the request's page token.
func (c *Client) List(ctx context.Context, req *volleyv1.ListJobsRequest) iter.Seq2[*volleyv1.Job, error] {
	if req.PageSize == 0 {
		req.PageSize = pageSize
	}
	return pages(func() ([]*volleyv1.Job, string, error) {
		r, err := retry(ctx, c, "list jobs", func() (*volleyv1.ListJobsResponse, error) { return c.jobs.ListJobs(ctx, req) })
		req.PageToken = r.GetNextPageToken()
		return r.GetJobs(), req.PageToken, err
	})
}

// Children lists the children of a job by index, page after page. It changes
// the request's page token.
func (c *Client) Children(ctx context.Context, req *volleyv1.ListChildrenRequest) iter.Seq2[*volleyv1.Child, error] {
	if req.PageSize == 0 {
		req.PageSize = pageSize
	}
	return pages(func() ([]*volleyv1.Child, string, error) {
		r, err := retry(ctx, c, "list children of job "+req.JobId, func() (*volleyv1.ListChildrenResponse, error) {
			return c.jobs.ListChildren(ctx, req)
		})
		req.PageToken = r.GetNextPageToken()
		return r.GetChildren(), req.PageToken, err
	})
}

// pages makes one sequence of pages. An error is the last element.
func pages[T any](page func() ([]*T, string, error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for {
			items, next, err := page()
			if err != nil {
				yield(nil, err)
				return
			}
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
			if next == "" {
				return
			}
		}
	}
}

// Cancel fails everything of a job that has not started.
func (c *Client) Cancel(ctx context.Context, id, reason string) error {
	_, err := retry(ctx, c, "cancel job "+id, func() (*volleyv1.CancelJobResponse, error) {
		return c.jobs.CancelJob(ctx, &volleyv1.CancelJobRequest{JobId: id, Reason: reason})
	})
	return err
}

// Terminate cancels a job and stops what runs. It does not wait for the end.
func (c *Client) Terminate(ctx context.Context, id, reason string) error {
	_, err := retry(ctx, c, "terminate job "+id, func() (*volleyv1.TerminateJobResponse, error) {
		return c.jobs.TerminateJob(ctx, &volleyv1.TerminateJobRequest{JobId: id, Reason: reason})
	})
	return err
}

// Rerun makes the failed children of a terminal job runnable again, or all of
// them, and says how many. It is never retried.
func (c *Client) Rerun(ctx context.Context, id string, failedOnly bool) (uint64, error) {
	r, err := c.jobs.RerunJob(ctx, &volleyv1.RerunJobRequest{JobId: id, FailedOnly: failedOnly})
	return r.GetChildren(), c.wrap(ctx, "rerun job "+id, err)
}

// Explain says why a job or child waits or failed.
func (c *Client) Explain(ctx context.Context, ref Ref) (*volleyv1.ExplainJobResponse, error) {
	return retry(ctx, c, fmt.Sprintf("explain job %s", ref), func() (*volleyv1.ExplainJobResponse, error) {
		return c.jobs.ExplainJob(ctx, &volleyv1.ExplainJobRequest{JobId: ref.String()})
	})
}
