// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// maxReuse is the largest number of points for which earlier results are
// looked for point by point; a repeated submit of the very same spec is
// recognised at any size.
const maxReuse = 1 << 20

// maxEarlier is how many earlier jobs of a name are looked at.
const maxEarlier = 32

// earlier is a job that ran before, as much of it as planning needs.
type earlier struct {
	id   uint64
	size uint64
	spec *volleyv1.JobSpec
	done *sharding.Set
}

// plan is what a submit with reuse would do.
type plan struct {
	reuse   []*journalv1.Reuse
	answer  *volleyv1.PlanJobResponse
	skipped uint64
}

// planJob compares a spec with the earlier jobs of its name.
func (s *Server) planJob(ctx context.Context, p *points) (*plan, error) {
	before, err := s.earlierJobs(ctx, p.spec.GetName())
	if err != nil {
		return nil, err
	}
	size := p.size()
	out := &plan{answer: &volleyv1.PlanJobResponse{Total: size}}
	if len(before) == 0 {
		out.answer.NewPoints = size
		return out, nil
	}
	newest := before[0]
	out.answer.PreviousJobId = fmt.Sprint(newest.id)
	out.answer.Reasons = differences(p.spec, newest)
	if newest.size == size && sameWork(p.spec, newest.spec) {
		for r := range newest.done.Ranges() {
			out.add(r.First, newest.id, r.First, r.Count)
		}
		if len(before) == 1 || out.skipped == size || size > maxReuse {
			out.answer.Reused = out.skipped
			out.answer.Failed = size - out.skipped
			return out, nil
		}
		out.reuse, out.skipped = nil, 0
	}
	if size > maxReuse {
		out.answer.NewPoints = size
		out.answer.Reasons = append(out.answer.Reasons,
			fmt.Sprintf("%d points are too many to compare one by one (%d at most): all of them run", size, maxReuse))
		return out, nil
	}
	if err := out.compare(ctx, p, before); err != nil {
		return nil, err
	}
	return out, nil
}

func (p *plan) add(first, job, fromFirst, count uint64) {
	p.skipped += count
	if n := len(p.reuse); n > 0 {
		l := p.reuse[n-1]
		if l.FromJob == job && l.First+l.Count == first && l.FromFirst+l.Count == fromFirst {
			l.Count += count
			return
		}
	}
	p.reuse = append(p.reuse, &journalv1.Reuse{First: first, Count: count, FromJob: job, FromFirst: fromFirst})
}

type place struct {
	job, index uint64
}

// compare looks every point up among those of the earlier jobs, the newest
// first.
func (p *plan) compare(ctx context.Context, now *points, before []*earlier) error {
	done := map[sharding.ID]place{}
	known := map[sharding.ID]bool{}  // identities of any earlier point
	params := map[sharding.ID]bool{} // parameters of any earlier point
	left := maxReuse
	for _, e := range before {
		if e.size > uint64(left) {
			continue
		}
		left -= int(e.size)
		old, err := newPoints(e.spec)
		if err != nil {
			continue // written by another version: nothing can be said
		}
		for i := range e.size {
			if i&0xfff == 0 && ctx.Err() != nil {
				old.close()
				return ctx.Err()
			}
			id, par := old.identity(i)
			known[id], params[par] = true, true
			if _, ok := done[id]; !ok && e.done.Contains(i) {
				done[id] = place{e.id, i}
			}
		}
		old.close()
	}
	for i := range now.size() {
		if i&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		id, par := now.identity(i)
		switch from, ok := done[id]; {
		case ok:
			p.add(i, from.job, from.index, 1)
			p.answer.Reused++
		case known[id]:
			p.answer.Failed++
		case params[par]:
			p.answer.Changed++
		default:
			p.answer.NewPoints++
		}
	}
	return nil
}

// earlierJobs copies what is needed of the jobs of a name, newest first.
func (s *Server) earlierJobs(ctx context.Context, name string) ([]*earlier, error) {
	var jobs []*earlier
	err := s.engine.View(ctx, func(st *state.State) {
		ids := st.JobsNamed(name)
		for _, id := range slices.Backward(ids[max(0, len(ids)-maxEarlier):]) {
			j := st.Job(id)
			e := &earlier{id: id, size: j.Size, spec: j.Spec, done: new(sharding.Set)}
			for i := range j.Succeeded() {
				e.done.Add(i)
			}
			jobs = append(jobs, e)
		}
	})
	return jobs, err
}

// sameWork says that index i means the same work under both specs.
func sameWork(a, b *volleyv1.JobSpec) bool {
	return sharding.NewHasher(a).Point(sharding.Point{}) == sharding.NewHasher(b).Point(sharding.Point{}) &&
		proto.Equal(a.GetSpace(), b.GetSpace())
}

// differences says what of the job, rather than of its points, has changed.
func differences(now *volleyv1.JobSpec, before *earlier) []string {
	var out []string
	since := fmt.Sprintf("changed since job %d", before.id)
	if !slices.Equal(now.GetCommand(), before.spec.GetCommand()) || now.GetRun() != before.spec.GetRun() {
		out = append(out, "the command "+since)
	}
	env := map[string]string{}
	for _, e := range before.spec.GetEnv() {
		env[e.GetName()] = e.GetValue()
	}
	for _, e := range now.GetEnv() {
		if v, ok := env[e.GetName()]; !ok || v != e.GetValue() {
			out = append(out, "env "+e.GetName()+" "+since)
		}
		delete(env, e.GetName())
	}
	for _, e := range before.spec.GetEnv() {
		if _, ok := env[e.GetName()]; ok {
			out = append(out, "env "+e.GetName()+" was removed since job "+fmt.Sprint(before.id))
		}
	}
	inputs := map[string][]byte{}
	for _, in := range before.spec.GetInputs() {
		inputs[in.GetPath()] = in.GetDigest()
	}
	for _, in := range now.GetInputs() {
		old, ok := inputs[in.GetPath()]
		delete(inputs, in.GetPath())
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s is a new input since job %d", in.GetPath(), before.id))
		case !bytes.Equal(old, in.GetDigest()):
			out = append(out, in.GetPath()+" "+since)
		}
	}
	for _, in := range before.spec.GetInputs() {
		if _, ok := inputs[in.GetPath()]; ok {
			out = append(out, fmt.Sprintf("%s is no input any more since job %d", in.GetPath(), before.id))
		}
	}
	return out
}

// PlanJob implements JobService.
func (s *Server) PlanJob(ctx context.Context, req *volleyv1.PlanJobRequest) (*volleyv1.PlanJobResponse, error) {
	p, err := s.check(req.GetSpec())
	if err != nil {
		return nil, err
	}
	defer p.close()
	out, err := s.planJob(ctx, p)
	if err != nil {
		return nil, toStatus(err)
	}
	return out.answer, nil
}
