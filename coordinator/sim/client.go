// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// client is everybody who submits and cancels. It repeats a submit until it is
// answered.
type client struct {
	s       *sim
	submits []*submit
}

type submit struct {
	key    string
	entry  *journalv1.Submit
	waits  bool
	job    uint64
	refuse bool
}

// failureRate is told by the job's environment, so that the worker needs no
// second channel to the workload.
func failureRate(spec *volleyv1.JobSpec, calm bool) float64 {
	if calm {
		return 0.05
	}
	return float64(len(spec.GetRun())) / 100
}

func (c *client) act() {
	s := c.s
	if s.calm {
		return
	}
	s.after(s.between(millisecond, 1500*millisecond), c.act)
	for _, sub := range c.submits {
		if sub.job == 0 && !sub.waits && !sub.refuse {
			c.send(sub)
		}
	}
	if !s.coord.up || !s.coord.core.Leading() {
		return
	}
	st := s.coord.core.State()
	ids := st.JobIDs()
	if len(ids) == 0 || s.chance(0.45) {
		c.submit(st, ids)
		return
	}
	id := pick(s, ids...)
	j := st.Job(id)
	var e journalv1.Entry
	switch s.rng.IntN(5) {
	case 0, 1:
		op := &journalv1.Cancel{Job: id, Terminate: s.chance(0.5)}
		if s.chance(0.6) {
			i := s.rng.Uint64N(j.Size)
			op.Index = &i
		}
		s.note("client cancels job %d, terminate %v", id, op.Terminate)
		e.Op = &journalv1.Entry_Cancel{Cancel: op}
	default:
		s.note("client reruns job %d", id)
		e.Op = &journalv1.Entry_Rerun{Rerun: &journalv1.Rerun{Job: id, FailedOnly: s.chance(0.5)}}
	}
	s.coord.do(&e, nil)
}

func (c *client) submit(st *state.State, ids []uint64) {
	s := c.s
	spec := &volleyv1.JobSpec{
		Name: pick(s, "a", "b", "c"), Priority: int32(s.rng.IntN(3)), Run: fmt.Sprintf("%*s", s.rng.IntN(40)+1, ""),
		Resources: &volleyv1.Resources{CpuMilli: int64(pick(s, 250, 500, 1000, 1000, 2000, 4000))},
		TimeoutMs: int64(pick(s, 2, 20, 200, 2000)),
	}
	if s.chance(0.3) {
		spec.Concurrency = uint64(1 + s.rng.IntN(4))
	}
	if s.chance(0.5) {
		spec.Retry = &volleyv1.Retry{Attempts: int32(1 + s.rng.IntN(4))}
		if s.chance(0.3) {
			spec.Retry.Rules = []*volleyv1.RetryRule{{OnExitCode: "2", Action: volleyv1.RetryAction_RETRY_ACTION_EXIT}}
		}
	}
	op := &journalv1.Submit{Spec: spec, Size: 1, IdempotencyKey: fmt.Sprintf("k%d", len(c.submits))}
	switch {
	case s.chance(0.03):
		op.Size, op.Array = huge, true
	case s.chance(0.8):
		op.Size, op.Array = uint64(pick(s, 1, 2, 5, 5, 12, 40)), true
	}
	if s.chance(0.2) && op.Size < 1000 {
		op.DependsOn = append(op.DependsOn, &journalv1.Depend{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL})
	}
	for range s.rng.IntN(3) {
		if len(ids) == 0 || !s.chance(0.5) {
			continue
		}
		dep := st.Job(pick(s, ids...))
		d := &journalv1.Depend{Job: dep.ID, Type: volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE}
		switch {
		case s.chance(0.4) && dep.Array:
			op.Size, op.Array = dep.Size, true
			d.Type = volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N
		case s.chance(0.4):
			i := s.rng.Uint64N(dep.Size)
			d.Index = &i
		}
		if len(op.DependsOn) > 0 && d.Type == volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N {
			continue // the size is settled
		}
		op.DependsOn = append(op.DependsOn, d)
	}
	for _, id := range st.JobsNamed(spec.GetName()) {
		if from := st.Job(id); s.chance(0.3) && len(op.Reuse) == 0 && from.Size < 1000 && op.Size < 1000 {
			n := 1 + s.rng.Uint64N(min(from.Size, op.Size))
			op.Reuse = []*journalv1.Reuse{{First: 0, Count: n, FromJob: id, FromFirst: from.Size - n}}
		}
	}
	sub := &submit{key: op.IdempotencyKey, entry: op}
	c.submits = append(c.submits, sub)
	c.send(sub)
}

func (c *client) send(sub *submit) {
	s := c.s
	if !s.coord.up || !s.coord.core.Leading() {
		return
	}
	s.note("client submits %s: %d children, %d dependencies, cpu %d", sub.key, sub.entry.GetSize(), len(sub.entry.GetDependsOn()), sub.entry.GetSpec().GetResources().GetCpuMilli())
	sub.waits = true
	s.coord.do(&journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: sub.entry}}, func(r state.Result, err error) {
		sub.waits = false
		switch {
		case s.opts.Bug == BugGrantEarly:
		case err == nil && r.Job == 0:
			s.failf("submit %s is answered without a job", sub.key)
		case err == nil:
			s.stats.Jobs++
			sub.job = r.Job
			s.note("client is told: %s is job %d", sub.key, r.Job)
		case !s.coord.core.Leading():
			// not known: it is repeated
		default:
			sub.refuse = true // what it named was purged in between
		}
	})
}

// coordDied: nothing that waits will be answered.
func (c *client) coordDied() {
	for _, sub := range c.submits {
		sub.waits = false
	}
}
