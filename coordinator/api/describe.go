// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/scheduler"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const maxDescribe = 1000

// DescribeJobs implements JobService.
func (s *Server) DescribeJobs(ctx context.Context, req *volleyv1.DescribeJobsRequest) (*volleyv1.DescribeJobsResponse, error) {
	if n := len(req.GetJobIds()); n > maxDescribe {
		return nil, status.Errorf(codes.InvalidArgument, "job_ids has %d entries, at most %d are allowed", n, maxDescribe)
	}
	out := &volleyv1.DescribeJobsResponse{}
	var jobs []uint64
	var specs []*volleyv1.JobSpec
	err := s.engine.View(ctx, func(st *state.State) {
		for _, id := range req.GetJobIds() {
			job, index, child, ok := lookup(st, id)
			if !ok {
				continue
			}
			j := st.Job(job)
			if child && index >= j.Size {
				continue
			}
			d := &volleyv1.JobDetail{Job: j.Proto(), DependsOn: depends(j)}
			if child || !j.Array {
				d.Child = st.Child(j, index)
			}
			if req.GetWithSpec() {
				d.Spec = j.Spec
			}
			out.Jobs = append(out.Jobs, d)
			jobs, specs = append(jobs, job), append(specs, j.Spec)
		}
	})
	if err != nil {
		return nil, toStatus(err)
	}
	for n, d := range out.Jobs {
		if d.Child == nil || specs[n].GetSpace() == nil {
			continue
		}
		if p, err := s.points.of(jobs[n], specs[n]); err == nil {
			d.Child.Params = p.params(d.Child.GetIndex())
			p.close()
		}
	}
	// Specs and outputs may be megabytes each: better a refusal that says what
	// to do than an answer that the transport breaks off.
	if size := proto.Size(out); size > maxAnswer {
		return nil, status.Errorf(codes.ResourceExhausted, "the answer for %d job_ids has %d MiB, at most %d MiB can be sent: ask for fewer, or without with_spec",
			len(req.GetJobIds()), size>>20, maxAnswer>>20)
	}
	return out, nil
}

// maxAnswer bounds one message, safely below what the transport allows.
const maxAnswer = 60 << 20

func depends(j *state.Job) []*volleyv1.Dependency {
	var out []*volleyv1.Dependency
	for _, d := range j.Depends() {
		dep := &volleyv1.Dependency{Type: d.GetType()}
		switch {
		case d.GetJob() == 0:
		case d.Index != nil:
			dep.JobId = fmt.Sprintf("%d:%d", d.GetJob(), d.GetIndex())
		default:
			dep.JobId = formatID(d.GetJob())
		}
		out = append(out, dep)
	}
	return out
}

// CancelJob implements JobService.
func (s *Server) CancelJob(ctx context.Context, req *volleyv1.CancelJobRequest) (*volleyv1.CancelJobResponse, error) {
	return &volleyv1.CancelJobResponse{}, s.stop(ctx, req.GetJobId(), req.GetReason(), false)
}

// TerminateJob implements JobService.
func (s *Server) TerminateJob(ctx context.Context, req *volleyv1.TerminateJobRequest) (*volleyv1.TerminateJobResponse, error) {
	return &volleyv1.TerminateJobResponse{}, s.stop(ctx, req.GetJobId(), req.GetReason(), true)
}

const maxReason = 1024

func (s *Server) stop(ctx context.Context, id, reason string, terminate bool) error {
	if n := utf8.RuneCountInString(reason); n > maxReason {
		return status.Errorf(codes.InvalidArgument, "reason has %d characters, at most %d are allowed", n, maxReason)
	}
	op := &journalv1.Cancel{Reason: reason, Terminate: terminate}
	if err := s.job(ctx, id, func(_ *state.State, j *state.Job, child *uint64) { op.Job, op.Index = j.ID, child }); err != nil {
		return err
	}
	_, err := s.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: op}})
	return toStatus(err)
}

// RerunJob implements JobService.
func (s *Server) RerunJob(ctx context.Context, req *volleyv1.RerunJobRequest) (*volleyv1.RerunJobResponse, error) {
	op := &journalv1.Rerun{FailedOnly: req.GetFailedOnly()}
	if err := s.whole(ctx, req.GetJobId(), func(_ *state.State, j *state.Job) { op.Job = j.ID }); err != nil {
		return nil, err
	}
	r, err := s.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_Rerun{Rerun: op}})
	if err != nil {
		return nil, toStatus(err)
	}
	return &volleyv1.RerunJobResponse{Children: r.Count}, nil
}

// ExplainJob implements JobService.
func (s *Server) ExplainJob(ctx context.Context, req *volleyv1.ExplainJobRequest) (*volleyv1.ExplainJobResponse, error) {
	var out *volleyv1.ExplainJobResponse
	err := s.job(ctx, req.GetJobId(), func(st *state.State, j *state.Job, child *uint64) {
		out = scheduler.Explain(st, j, child)
		if child == nil {
			out.Remarks = j.Remarks()
		}
	})
	return out, err
}

// ListNodes implements ClusterService.
func (s *Server) ListNodes(ctx context.Context, _ *volleyv1.ListNodesRequest) (*volleyv1.ListNodesResponse, error) {
	out := &volleyv1.ListNodesResponse{}
	var nums []uint32
	if err := s.engine.View(ctx, func(st *state.State) {
		for _, w := range st.Workers() {
			if w.Status != state.NodeLeft {
				out.Nodes = append(out.Nodes, w.Proto(st))
				nums = append(nums, w.Num)
			}
		}
	}); err != nil {
		return nil, toStatus(err)
	}
	for n, node := range out.Nodes {
		connected, at := s.workers.Seen(nums[n])
		if !at.IsZero() {
			node.LastSeenAt = at.UnixMilli()
		}
		if !connected && node.State != volleyv1.NodeState_NODE_STATE_LOST {
			node.State = volleyv1.NodeState_NODE_STATE_DISCONNECTED
		}
	}
	return out, nil
}

// GetServerInfo implements ClusterService.
func (s *Server) GetServerInfo(ctx context.Context, _ *volleyv1.GetServerInfoRequest) (*volleyv1.GetServerInfoResponse, error) {
	out := &volleyv1.GetServerInfoResponse{Version: s.version, StartedAt: s.started.UnixMilli()}
	err := s.engine.View(ctx, func(st *state.State) {
		out.ClusterId, out.Jobs, out.Nodes = st.ClusterID(), uint64(st.Jobs()), uint64(st.ReadyWorkers())
	})
	if s.info != nil {
		s.info(out)
	}
	return out, toStatus(err)
}
