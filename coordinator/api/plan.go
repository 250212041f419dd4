// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

const (
	// maxReuse is the largest number of points for which earlier results are
	// looked for point by point; a repeated submit of the very same points is
	// recognised at any size.
	maxReuse = 1 << 20
	// maxEarlierPoints is how many points of earlier jobs are looked at for it.
	maxEarlierPoints = 4 * maxReuse
	// maxEarlier is how many earlier jobs of a name are looked at.
	maxEarlier = 32
	// maxPlanning is how many comparisons run at a time: one takes up to 200 MiB.
	maxPlanning = 2
	// blocksPerView is how many blocks of 1024 records one view walks.
	blocksPerView = 64
)

// earlier is the work of one or more jobs that ran before: jobs whose indexes
// mean the same are one, so that repeating a job a hundred times does not make
// planning a hundred times as long.
type earlier struct {
	points *points
	runs   []doneRun
	// done is all that has succeeded in one of them.
	done *sharding.Set
	// doing is all that waits or runs in one of them.
	doing *sharding.Set
}

// doneRun is what one job adds to the work: what no newer one has done.
type doneRun struct {
	job uint64
	set *sharding.Set
}

func (e *earlier) jobOf(i uint64) uint64 {
	for _, r := range e.runs {
		if r.set.Contains(i) {
			return r.job
		}
	}
	return 0
}

// plan is what a submit with reuse would do.
type plan struct {
	reuse  []*journalv1.Reuse
	answer *volleyv1.PlanJobResponse
}

// planJob compares a spec with the earlier jobs of its name.
func (s *Server) planJob(ctx context.Context, p *points) (*plan, error) {
	select {
	case s.planning <- struct{}{}:
		defer func() { <-s.planning }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := &plan{answer: &volleyv1.PlanJobResponse{Total: p.size()}}
	before, newest, err := s.earlierWork(ctx, p, out)
	if err != nil {
		return nil, err
	}
	if newest == nil {
		out.answer.NewPoints = p.size()
		return out, nil
	}
	out.answer.Reasons = append(differences(p.spec, newest), out.answer.Reasons...)
	same := slices.IndexFunc(before, func(e *earlier) bool { return e.points.sameIndexes(p) })
	if same >= 0 && (len(before) == 1 || before[same].done.Len() == p.size()) || same >= 0 && p.size() > maxReuse {
		out.takeAll(before[same])
		return out, nil
	}
	if p.size() > maxReuse {
		out.answer.NewPoints = p.size()
		out.answer.Reasons = append(out.answer.Reasons,
			fmt.Sprintf("%d points are too many to compare one by one (%d at most): all of them run", p.size(), maxReuse))
		return out, nil
	}
	if err := out.compare(ctx, p, before); err != nil {
		return nil, err
	}
	return out, nil
}

// takeAll takes over the results of the same points, without looking at them.
func (p *plan) takeAll(e *earlier) {
	for _, d := range e.runs {
		for r := range d.set.Ranges() {
			p.reuse = append(p.reuse, &journalv1.Reuse{First: r.First, Count: r.Count, FromJob: d.job, FromFirst: r.First})
		}
	}
	slices.SortFunc(p.reuse, func(a, b *journalv1.Reuse) int { return cmp.Compare(a.GetFirst(), b.GetFirst()) })
	doing := e.doing.Clone()
	doing.Subtract(e.done)
	p.answer.Reused, p.answer.InProgress = e.done.Len(), doing.Len()
	p.answer.Failed = p.answer.GetTotal() - e.done.Len() - doing.Len()
}

func (p *plan) add(first, job, fromFirst uint64) {
	p.answer.Reused++
	if n := len(p.reuse); n > 0 {
		l := p.reuse[n-1]
		if l.FromJob == job && l.First+l.Count == first && l.FromFirst+l.Count == fromFirst {
			l.Count++
			return
		}
	}
	p.reuse = append(p.reuse, &journalv1.Reuse{First: first, Count: 1, FromJob: job, FromFirst: fromFirst})
}

// place is where a point was found; job 0: not finished there.
type place struct {
	job, index uint64
	doing      bool
}

// compare looks every point up among those of the earlier jobs, the newest
// first. Only the new job's points are kept in memory.
func (p *plan) compare(ctx context.Context, now *points, before []*earlier) error {
	size := now.size()
	ids, params := make([]sharding.ID, size), make([]sharding.ID, size)
	found := make(map[sharding.ID]place, size) // of those that some job had
	wanted := make(map[sharding.ID]bool, size)
	hadParams := make(map[sharding.ID]bool, size)
	err := eachPoint(ctx, now, func(i uint64, id, par sharding.ID) {
		ids[i], params[i] = id, par
		wanted[id] = true
		hadParams[par] = false
	})
	if err != nil {
		return err
	}
	left := uint64(maxEarlierPoints)
	for _, e := range before {
		if e.points.size() > left {
			p.answer.Reasons = append(p.answer.Reasons,
				fmt.Sprintf("the %d points of job %d were not compared: %d earlier points at most are", e.points.size(), e.runs[0].job, maxEarlierPoints))
			continue
		}
		left -= e.points.size()
		if err := eachPoint(ctx, e.points, func(i uint64, id, par sharding.ID) {
			if had, ok := hadParams[par]; ok && !had {
				hadParams[par] = true
			}
			if !wanted[id] {
				return
			}
			at, ok := found[id]
			if at.job != 0 {
				return
			}
			switch {
			case e.done.Contains(i):
				found[id] = place{job: e.jobOf(i), index: i}
			case e.doing.Contains(i):
				found[id] = place{doing: true}
			case !ok:
				found[id] = place{}
			}
		}); err != nil {
			return err
		}
	}
	for i := range size {
		switch at, known := found[ids[i]]; {
		case at.job != 0:
			p.add(i, at.job, at.index)
		case at.doing:
			p.answer.InProgress++
		case known:
			p.answer.Failed++
		case hadParams[params[i]]:
			p.answer.Changed++
		default:
			p.answer.NewPoints++
		}
	}
	return nil
}

// eachPoint calls f with the identities of all points, until ctx ends.
func eachPoint(ctx context.Context, p *points, f func(i uint64, id, params sharding.ID)) error {
	for i := range p.size() {
		if i&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		id, par, err := p.identity(i)
		if err != nil {
			return err
		}
		f(i, id, par)
	}
	return nil
}

// earlierJob is what one view copies of a job.
type earlierJob struct {
	id     uint64
	size   uint64
	spec   *volleyv1.JobSpec
	blocks []uint64
	live   bool
}

// earlierWork collects what the jobs of the name have done, newest first.
func (s *Server) earlierWork(ctx context.Context, now *points, out *plan) (list []*earlier, newest *earlierJob, err error) {
	var jobs []*earlierJob
	if err := s.engine.View(ctx, func(st *state.State) {
		ids := st.JobsNamed(now.spec.GetName())
		for _, id := range slices.Backward(ids[max(0, len(ids)-maxEarlier):]) {
			j := st.Job(id)
			jobs = append(jobs, &earlierJob{id: id, size: j.Size, spec: j.Spec, blocks: j.Blocks(), live: j.Live()})
		}
	}); err != nil {
		return nil, nil, err
	}
	if len(jobs) == 0 {
		return nil, nil, nil
	}
	out.answer.PreviousJobId = formatID(jobs[0].id)
	for _, j := range jobs {
		done, doing, err := s.progressOf(ctx, j)
		if err != nil {
			return nil, nil, err
		}
		newestLive := j.live && out.answer.GetLiveJobId() == ""
		if newestLive {
			out.answer.LiveJobId = formatID(j.id)
		}
		p, err := s.points.of(j.id, j.spec)
		if err != nil {
			continue // written by another version: nothing can be said
		}
		p.close()
		if newestLive {
			out.answer.SameWork = p.sameIndexes(now)
		}
		at := slices.IndexFunc(list, func(e *earlier) bool { return e.points.sameIndexes(p) })
		if at < 0 {
			list = append(list, &earlier{points: p, done: new(sharding.Set), doing: new(sharding.Set)})
			at = len(list) - 1
		}
		e := list[at]
		done.Subtract(e.done)
		e.done.Union(done)
		e.doing.Union(doing)
		e.runs = append(e.runs, doneRun{j.id, done})
	}
	return list, jobs[0], nil
}

// progressOf reads which children of a job have succeeded, and of a live one
// which have not ended, some blocks at a time. What a rerun takes away meanwhile
// is looked at again when the submit is applied.
func (s *Server) progressOf(ctx context.Context, j *earlierJob) (done, doing *sharding.Set, err error) {
	done, doing = new(sharding.Set), new(sharding.Set)
	ended := new(sharding.Set)
	slices.Sort(j.blocks)
	for part := range slices.Chunk(j.blocks, blocksPerView) {
		if err := s.engine.View(ctx, func(st *state.State) {
			job := st.Job(j.id)
			if job == nil {
				return
			}
			for _, b := range part {
				job.AddSucceeded(done, b)
				if j.live {
					job.AddEnded(ended, b)
				}
			}
		}); err != nil {
			return nil, nil, err
		}
	}
	if !j.live {
		return done, doing, nil
	}
	// After the blocks: what began meanwhile in others has not ended for them.
	err = s.engine.View(ctx, func(st *state.State) {
		if job := st.Job(j.id); job != nil {
			job.AddNeverRun(ended)
		}
	})
	doing.AddRange(0, j.size)
	doing.Subtract(ended)
	return done, doing, err
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
