// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Proto renders the job for the public API.
func (j *Job) Proto() *volleyv1.Job {
	p := &volleyv1.Job{
		Id: j.IDString(), Name: j.Name(), Queue: j.Spec.GetQueue(), State: j.State(), Size: j.Size, Array: j.Array,
		Counts:    j.Counts(),
		CreatedAt: j.Created, StartedAt: j.Started, StoppedAt: j.Stopped,
		Priority: j.Spec.GetPriority(), StaleResults: j.stale, LostAttempts: j.lostRuns,
		Labels: j.Spec.GetLabels(), Metric: j.Spec.GetMetric(), TaskMs: j.taskUS / 1000, Cancelled: j.cancel,
		FinishedAttempts: j.attempts,
	}
	if j.best.OK {
		p.Best = &volleyv1.Best{Index: j.best.Index, Value: j.best.Value}
	}
	if j.terminal {
		p.StatusReason = j.statusReason()
	}
	return p
}

// Counts of the children by state.
func (j *Job) Counts() *volleyv1.Counts {
	return &volleyv1.Counts{
		Pending: j.pending(), Runnable: j.ready.Len(), Starting: j.leased - j.running, Running: j.running,
		Succeeded: j.succeeded, Failed: j.failed, Skipped: j.skipped,
	}
}

func (j *Job) statusReason() string {
	switch {
	case j.cancel && j.failed > 0:
		return j.cancelReason
	case j.depFailed.Len() == j.Size:
		return reasonDependency
	case j.Array && j.failed > 0:
		return reasonChild
	case j.Array:
		return ""
	case !j.cancelled.Empty():
		return j.cancelReason
	default:
		_, r := j.peek(0)
		return j.reasons[r.reason].status
	}
}

// ChildState of one index.
func (j *Job) ChildState(s *State, i uint64) volleyv1.JobState {
	_, r := j.peek(i)
	switch {
	case r.phase() == phaseSucceeded, r.phase() == phaseSkipped:
		return volleyv1.JobState_JOB_STATE_SUCCEEDED
	case r.phase() == phaseFailed, j.cancelled.Contains(i), j.depFailed.Contains(i):
		return volleyv1.JobState_JOB_STATE_FAILED
	case r.phase() == phaseRunning:
		return volleyv1.JobState_JOB_STATE_RUNNING
	case j.ready.Contains(i):
		return volleyv1.JobState_JOB_STATE_RUNNABLE
	case s.isLeased(j, i):
		return volleyv1.JobState_JOB_STATE_STARTING
	default:
		return volleyv1.JobState_JOB_STATE_PENDING
	}
}

// Child renders one index for the public API, without its parameters.
func (s *State) Child(j *Job, i uint64) *volleyv1.Child {
	p := &volleyv1.Child{Index: i, State: j.ChildState(s, i)}
	c, r := j.peek(i)
	switch {
	case j.cancelled.Contains(i):
		p.StatusReason = j.cancelReason
	case j.depFailed.Contains(i):
		p.StatusReason = reasonDependency
	case r.phase().terminal():
		p.StatusReason = j.reasons[r.reason].status
	default:
	}
	if c == nil || r.phase() == phaseNone {
		return p
	}
	k := i & (chunkLen - 1)
	if r.phase() == phaseSkipped {
		p.ReusedFrom = j.reasons[r.reason].detail
	}
	for n := range c.history[uint16(k)] {
		p.Attempts = append(p.Attempts, s.attempt(j, &c.history[uint16(k)][n]))
	}
	last := s.attempt(j, &r)
	if r.phase() == phaseSkipped {
		last.Reason = "" // it holds the id of the job that ran it
	}
	p.Attempts = append(p.Attempts, last)
	if c.output != nil {
		p.Output = string(c.output[k])
	}
	if c.metric != nil && !math.IsNaN(c.metric[k]) {
		p.Metric = &c.metric[k]
	}
	return p
}

func (s *State) attempt(j *Job, r *record) *volleyv1.Attempt {
	a := &volleyv1.Attempt{
		Attempt: uint32(r.attempt), StartedAt: j.Created + r.start(), DurationUs: int64(unpackDuration(r.duration)),
		StatusReason: j.reasons[r.reason].status, Reason: j.reasons[r.reason].detail,
		PeakMemoryBytes: int64(r.peakKiB) << 10, CpuMs: int64(unpackDuration(r.cpu) / 1000),
	}
	if r.exit != noExit {
		code := int32(r.exit)
		a.ExitCode = &code
	}
	if w := s.Worker(r.worker); w != nil {
		a.Node = w.Name()
	}
	return a
}

// AttemptNode says which worker ran an attempt of a child (0: the last one)
// and the attempt's number; ok is false when there was none.
func (s *State) AttemptNode(j *Job, i uint64, attempt uint32) (worker uint32, number uint32, ok bool) {
	c, r := j.peek(i)
	if c == nil || r.phase() == phaseNone || r.attempt == 0 {
		return 0, 0, false
	}
	if attempt == 0 || uint32(r.attempt) == attempt {
		return r.worker, uint32(r.attempt), true
	}
	for _, h := range c.history[uint16(i&(chunkLen-1))] {
		if uint32(h.attempt) == attempt {
			return h.worker, attempt, true
		}
	}
	return 0, 0, false
}

// Succeeded iterates over the children that have succeeded, in order. It
// touches only chunks that have records.
func (j *Job) Succeeded() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, base := range slices.Sorted(maps.Keys(j.chunks)) {
			for k := range j.chunks[base].recs {
				if p := j.chunks[base].recs[k].phase(); p == phaseSucceeded || p == phaseSkipped {
					if !yield(base<<chunkBits + uint64(k)) {
						return
					}
				}
			}
		}
	}
}

// Ranked lists the children that reported the job's metric, best first, at
// most limit of them (0: all).
func (j *Job) Ranked(limit int) []Best {
	var all []Best
	for base, c := range j.chunks {
		for k, v := range c.metric {
			if p := c.recs[k].phase(); !math.IsNaN(v) && (p == phaseSucceeded || p == phaseSkipped) {
				all = append(all, Best{OK: true, Index: base<<chunkBits + uint64(k), Value: v})
			}
		}
	}
	sign := 1
	if j.Spec.GetMetric().GetGoal() == volleyv1.Goal_GOAL_MAX {
		sign = -1
	}
	slices.SortFunc(all, func(a, b Best) int {
		return cmp.Or(sign*cmp.Compare(a.Value, b.Value), cmp.Compare(a.Index, b.Index))
	})
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all
}

// Failures groups the failed children by reason and exit code, most first.
func (j *Job) Failures() []*volleyv1.FailureGroup {
	list := j.groups(func(r *record) bool { return r.phase() == phaseFailed })
	for _, u := range []struct {
		set interface {
			Len() uint64
			All() iter.Seq[uint64]
		}
		why string
	}{{j.cancelled, j.cancelReason}, {j.depFailed, reasonDependency}} {
		if u.set.Len() == 0 {
			continue
		}
		g := &volleyv1.FailureGroup{Count: u.set.Len(), StatusReason: u.why}
		for i := range u.set.All() {
			if g.Examples = append(g.Examples, i); len(g.Examples) == groupExamples {
				break
			}
		}
		list = append(list, g)
	}
	sortGroups(list)
	return list
}

// Remarks groups what workers said of tasks that succeeded; most first.
func (j *Job) Remarks() []*volleyv1.FailureGroup {
	remark := func(r reason) bool { return r.detail != "" }
	if !slices.ContainsFunc(j.reasons, remark) {
		return nil // most jobs: their children need not be walked
	}
	list := j.groups(func(r *record) bool { return r.phase() == phaseSucceeded && remark(j.reasons[r.reason]) })
	sortGroups(list)
	return list
}

// groupExamples is how many indexes a group names.
const groupExamples = 10

// groups gathers the children whose records are wanted by reason and exit code.
func (j *Job) groups(want func(*record) bool) []*volleyv1.FailureGroup {
	type key struct{ reason, exit uint16 }
	groups := map[key]*volleyv1.FailureGroup{}
	for _, base := range slices.Sorted(maps.Keys(j.chunks)) {
		c := j.chunks[base]
		for k := range c.recs {
			r := &c.recs[k]
			if !want(r) {
				continue
			}
			g := groups[key{r.reason, r.exit}]
			if g == nil {
				g = &volleyv1.FailureGroup{StatusReason: j.reasons[r.reason].status, Reason: j.reasons[r.reason].detail}
				if r.exit != noExit {
					code := int32(r.exit)
					g.ExitCode = &code
				}
				groups[key{r.reason, r.exit}] = g
			}
			g.Count++
			if len(g.Examples) < groupExamples {
				g.Examples = append(g.Examples, base<<chunkBits+uint64(k))
			}
		}
	}
	return slices.Collect(maps.Values(groups))
}

func sortGroups(list []*volleyv1.FailureGroup) {
	slices.SortFunc(list, func(a, b *volleyv1.FailureGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Examples[0], b.Examples[0]))
	})
}

// Proto renders the worker as the state knows it; whether its session is
// connected is for the caller to add.
func (w *Worker) Proto(s *State) *volleyv1.Node {
	p := &volleyv1.Node{
		Id: w.NodeID(), Name: w.Name(), Version: w.Hello.GetVersion(), Platform: w.Hello.GetPlatform(),
		Capacity: w.Capacity.proto(), Used: w.Used.proto(), ConnectedAt: w.Connected, Labels: w.Hello.GetLabels(),
	}
	for _, id := range w.leases {
		p.Leased += s.leases[id].Remaining()
		p.Running += s.leases[id].Running()
	}
	switch w.Status {
	case NodeReady:
		p.State = volleyv1.NodeState_NODE_STATE_READY
	case NodeDraining:
		p.State = volleyv1.NodeState_NODE_STATE_DRAINING
	default:
		p.State = volleyv1.NodeState_NODE_STATE_LOST
	}
	return p
}

func (s Shape) proto() *volleyv1.Resources {
	return &volleyv1.Resources{CpuMilli: s.CPUMilli, MemoryBytes: s.Memory, Gpu: s.GPU}
}

// ParseID splits "17" or "17:3".
func ParseID(id string) (job uint64, index uint64, child bool, ok bool) {
	head, tail, child := strings.Cut(id, ":")
	job, err := strconv.ParseUint(head, 10, 64)
	if err != nil || job == 0 {
		return 0, 0, false, false
	}
	if child {
		if index, err = strconv.ParseUint(tail, 10, 64); err != nil {
			return 0, 0, false, false
		}
	}
	return job, index, child, true
}
