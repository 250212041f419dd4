// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const defaultQueue = "default"

// SubmitJob implements JobService.
func (s *Server) SubmitJob(ctx context.Context, req *volleyv1.SubmitJobRequest) (*volleyv1.SubmitJobResponse, error) {
	if err := checkKey(req.GetIdempotencyKey()); err != nil {
		return nil, err
	}
	// Before everything else: the answer to a repetition must not depend on
	// whether the jobs that it depends on are still there.
	if out, err := s.submitted(ctx, req.GetIdempotencyKey()); out != nil || err != nil {
		return out, err
	}
	p, err := s.check(req.GetSpec())
	if err != nil {
		return nil, err
	}
	defer p.close()
	spec := req.GetSpec()
	if spec.Queue == "" {
		spec.Queue = defaultQueue
	}
	if err := s.checkBlobs(spec); err != nil {
		return nil, err
	}
	op := &journalv1.Submit{
		Spec: spec, Size: p.size(), Array: spec.GetSpace() != nil, IdempotencyKey: req.GetIdempotencyKey(),
	}
	if op.DependsOn, err = s.resolve(ctx, spec); err != nil {
		return nil, err
	}
	if req.GetReuse() {
		plan, err := s.planJob(ctx, p)
		if err != nil {
			return nil, toStatus(err)
		}
		op.Reuse = plan.reuse
	}
	r, err := s.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: op}})
	if err != nil {
		return nil, toStatus(err)
	}
	out := &volleyv1.SubmitJobResponse{JobId: formatID(r.Job), Existed: r.Existed}
	if err := s.engine.View(ctx, func(st *state.State) {
		if j := st.Job(r.Job); j != nil {
			out.Job = j.Proto()
		}
	}); err != nil {
		return nil, toStatus(err)
	}
	return out, nil
}

// submitted answers with the job of an idempotency key; nil if there is none.
func (s *Server) submitted(ctx context.Context, key string) (out *volleyv1.SubmitJobResponse, err error) {
	if key == "" {
		return nil, nil
	}
	err = s.engine.View(ctx, func(st *state.State) {
		if id, ok := st.JobByKey(key); ok {
			out = &volleyv1.SubmitJobResponse{JobId: formatID(id), Existed: true, Job: st.Job(id).Proto()}
		}
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return out, nil
}

// resolve turns the ids and names of dependencies into jobs.
func (s *Server) resolve(ctx context.Context, spec *volleyv1.JobSpec) ([]*journalv1.Depend, error) {
	if len(spec.GetDependsOn()) == 0 {
		return nil, nil
	}
	var out []*journalv1.Depend
	var refused error
	err := s.engine.View(ctx, func(st *state.State) {
		for n, d := range spec.GetDependsOn() {
			dep := &journalv1.Depend{Type: d.GetType()}
			if dep.Type == volleyv1.DependencyType_DEPENDENCY_TYPE_UNSPECIFIED {
				dep.Type = volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE
			}
			out = append(out, dep)
			if d.GetJobId() == "" {
				continue // SEQUENTIAL, see checkDepends
			}
			job, index, child, ok := lookup(st, d.GetJobId())
			if !ok {
				refused = invalid("dependsOn[%d]: there is no job %q", n, clip(d.GetJobId()))
				return
			}
			dep.Job = job
			if child {
				dep.Index = &index
			}
		}
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return out, refused
}
