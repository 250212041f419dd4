// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strings"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Explain says why a job, or one child of it, is where it is: one reason, with
// numbers, and what would change it. It reads the same state as Plan and tests
// in the same order, so that the two cannot disagree.
func Explain(s *state.State, j *state.Job, child *uint64) *volleyv1.ExplainJobResponse {
	r := &volleyv1.ExplainJobResponse{State: j.State(), Tier: volleyv1.WaitTier_WAIT_TIER_NONE}
	what := "job " + j.IDString()
	if child != nil {
		r.State = j.ChildState(s, *child)
		what = fmt.Sprintf("child %s:%d", j.IDString(), *child)
	}
	if child == nil && j.Counts().GetFailed() > 0 {
		r.Failures = j.Failures() // of a job that goes on, too: it may be worth stopping
	}
	switch r.State {
	case volleyv1.JobState_JOB_STATE_SUCCEEDED:
		r.Reason = what + " has succeeded"
	case volleyv1.JobState_JOB_STATE_FAILED:
		explainFailure(s, j, child, what, r)
	case volleyv1.JobState_JOB_STATE_PENDING:
		explainDependencies(s, j, child, what, r)
	case volleyv1.JobState_JOB_STATE_STARTING:
		r.Tier = volleyv1.WaitTier_WAIT_TIER_DISPATCHING
		r.Reason = what + " is with a worker, which starts it when its present tasks leave room"
	case volleyv1.JobState_JOB_STATE_RUNNING:
		r.Reason = what + " is running"
		if child == nil && j.Array {
			explainArray(s, j, what, r)
		}
	default:
		explainRunnable(s, j, what, "waits", r)
	}
	return r
}

// explainArray says, of an array that is under way, what holds up the rest.
func explainArray(s *state.State, j *state.Job, what string, r *volleyv1.ExplainJobResponse) {
	c := j.Counts()
	r.Reason = fmt.Sprintf("%s is under way: %d of %s %s ended, %d %s running", what, c.Succeeded+c.Failed, plural(j.Size, "task"),
		verb(c.Succeeded+c.Failed, "has", "have"), c.Running, verb(c.Running, "is", "are"))
	if c.Runnable == 0 {
		return
	}
	var rest volleyv1.ExplainJobResponse
	what = fmt.Sprintf("the other %d tasks", c.Runnable)
	if c.Runnable == 1 {
		what = "the other task"
	}
	explainRunnable(s, j, what, verb(c.Runnable, "waits", "wait"), &rest)
	r.Tier, r.Remedy = rest.Tier, rest.Remedy
	r.Reason += "; " + rest.Reason
}

func explainFailure(s *state.State, j *state.Job, child *uint64, what string, r *volleyv1.ExplainJobResponse) {
	// rerun repeats the code that was snapshotted: a fix comes with the file.
	again := fmt.Sprintf("run the mended job file again, or this job as it was with `volley rerun %s --failed`", j.IDString())
	if child == nil {
		r.Reason = fmt.Sprintf("%s has failed: %d of %d tasks failed", what, j.Counts().GetFailed(), j.Size)
		if !j.Array {
			r.Reason = what + " has failed"
		}
		if len(r.Failures) == 0 {
			r.Remedy = again
			return
		}
		g := r.Failures[0]
		text := describe(g.StatusReason, g.Reason, g.ExitCode)
		switch {
		case !j.Array, g.GetCount() == j.Counts().GetFailed():
			r.Reason += ": " + text
		default:
			r.Reason += ", mostly with: " + text
		}
		r.Remedy = again
		switch example, ok := firstExample(j, g); {
		case !ok:
		case g.ExitCode != nil:
			r.Remedy = fmt.Sprintf("look at the output with `volley logs %s`; then %s", example, again)
		case j.Array:
			r.Remedy = fmt.Sprintf("look at one with `volley show %s`; then %s", example, again)
		}
		return
	}
	c := s.Child(j, *child)
	r.Reason, r.Remedy = what+" has failed: "+c.GetStatusReason(), again
	if n := len(c.GetAttempts()); n > 0 {
		a := c.GetAttempts()[n-1]
		r.Reason = what + " has failed: " + describe(a.GetStatusReason(), a.GetReason(), a.ExitCode)
		if n > 1 {
			r.Reason = fmt.Sprintf("%s has failed after %d attempts: %s", what, n, describe(a.GetStatusReason(), a.GetReason(), a.ExitCode))
		}
		// What has no exit code may never have run: its logs are empty.
		if a.ExitCode != nil {
			r.Remedy = fmt.Sprintf("look at the output with `volley logs %s:%d`; then %s", j.IDString(), *child, again)
		}
	}
}

// firstExample names a task of a group as the commands take it.
func firstExample(j *state.Job, g *volleyv1.FailureGroup) (string, bool) {
	switch {
	case !j.Array:
		return j.IDString(), true
	case len(g.GetExamples()) == 0:
		return "", false
	}
	return fmt.Sprintf("%s:%d", j.IDString(), g.GetExamples()[0]), true
}

// revoked is what a worker says of a task that it was told to stop; the status
// reason says why.
const revoked = "revoked by the coordinator"

func describe(status, detail string, exit *int32) string {
	text := status
	if detail != "" && detail != revoked {
		text += ": " + detail
	}
	if exit != nil {
		text += fmt.Sprintf(" (exit code %d)", *exit)
	}
	return text
}

func explainDependencies(s *state.State, j *state.Job, child *uint64, what string, r *volleyv1.ExplainJobResponse) {
	r.Tier = volleyv1.WaitTier_WAIT_TIER_DEPENDENCY
	var waits []string
	for n, d := range j.Depends() {
		dep := s.Job(d.GetJob())
		switch {
		case d.GetJob() == 0:
			if child != nil && *child > 0 {
				waits = append(waits, fmt.Sprintf("child %s:%d (SEQUENTIAL)", j.IDString(), *child-1))
			}
		case dep == nil || j.Satisfied(n):
		case d.GetType() == volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N && child != nil:
			if st := dep.ChildState(s, *child); st != volleyv1.JobState_JOB_STATE_SUCCEEDED {
				waits = append(waits, fmt.Sprintf("child %s:%d, which is %s (N_TO_N)", dep.IDString(), *child, word(st)))
			}
		case d.Index != nil:
			waits = append(waits, fmt.Sprintf("child %s:%d, which is %s", dep.IDString(), d.GetIndex(), word(dep.ChildState(s, d.GetIndex()))))
		default:
			c := dep.Counts()
			waits = append(waits, fmt.Sprintf("job %s (%s), which is %s with %d of %d tasks ended",
				dep.IDString(), dep.Name(), word(dep.State()), c.Succeeded+c.Failed, dep.Size))
		}
	}
	if len(waits) == 0 {
		r.Reason = what + " waits for tasks of its own job"
		return
	}
	r.Reason = what + " waits for " + strings.Join(waits, " and ")
}

func word(st volleyv1.JobState) string { return strings.TrimPrefix(st.String(), "JOB_STATE_") }

func explainRunnable(s *state.State, j *state.Job, what, waits string, r *volleyv1.ExplainJobResponse) {
	need := needs(j.Shape)
	ready, could, best := 0, 0, (*state.Worker)(nil)
	for _, w := range s.Workers() {
		if w.Status != state.NodeReady {
			continue
		}
		ready++
		if w.Capacity.Fits(j.Shape) == 0 {
			if could == 0 && (best == nil || w.Capacity.CPUMilli > best.Capacity.CPUMilli) {
				best = w
			}
			continue
		}
		if could == 0 || w.Free().CPUMilli > best.Free().CPUMilli {
			best = w
		}
		could++
	}
	switch {
	case ready == 0:
		r.Tier = volleyv1.WaitTier_WAIT_TIER_NO_WORKERS
		r.Reason = fmt.Sprintf("%s %s: no worker is connected", what, waits)
		r.Remedy = "start one with `volley worker`"
	case could == 0:
		r.Tier = volleyv1.WaitTier_WAIT_TIER_MISCONFIGURED
		nodes := fmt.Sprintf("the largest of %d nodes", ready)
		if ready == 1 {
			nodes = "the only node"
		}
		r.Reason = fmt.Sprintf("%s can never start: each task needs %s; %s, %s, has %s", what, need, nodes, best.Name(), has(best.Capacity))
		r.Remedy = "ask for less under `resources`, or add a larger node"
	case j.Room() == 0:
		r.Tier = volleyv1.WaitTier_WAIT_TIER_LIMIT
		r.Reason = fmt.Sprintf("%s %s: the job's own `concurrency: %d` is used up", what, waits, j.Spec.GetConcurrency())
		r.Remedy = "raise `concurrency` in the job file"
	default:
		if ahead := aheadOf(s, j); ahead.jobs > 0 {
			r.Tier = volleyv1.WaitTier_WAIT_TIER_PRIORITY
			others := ""
			r.Remedy = "give it a higher `priority`"
			if !ahead.sameQueue {
				// Users of one queue rank their jobs among themselves; to
				// outbid another queue is no advice.
				others, r.Remedy = " of other queues", "wait for them, or add a node"
			}
			r.Reason = fmt.Sprintf("%s %s behind %s%s with %s", what, waits, plural(uint64(ahead.jobs), "older or higher-priority job"), others, plural(ahead.tasks, "task"))
			return
		}
		r.Tier = volleyv1.WaitTier_WAIT_TIER_CAPACITY
		nodes := fmt.Sprintf("%d nodes are large enough, the freest", could)
		switch {
		case could == 1 && ready == 1:
			nodes = "the only node"
		case could == 1:
			nodes = "the only node that is large enough"
		}
		r.Reason = fmt.Sprintf("%s %s for room: each task needs %s; %s, %s, has %s free of %s",
			what, waits, need, nodes, best.Name(), has(best.Free()), has(best.Capacity))
		r.Remedy = "wait for running tasks to end, or add a node"
	}
}

// ahead is what goes first.
type ahead struct {
	tasks     uint64
	jobs      int
	sameQueue bool // a job of the same queue is among them
}

// aheadOf counts all that Plan looks at before this job.
func aheadOf(s *state.State, j *state.Job) (a ahead) {
	for _, c := range s.Classes() {
		if c.Key.Priority < j.Spec.GetPriority() {
			continue
		}
		for _, id := range c.Jobs() {
			if c.Key.Priority == j.Spec.GetPriority() && id >= j.ID {
				break
			}
			a.tasks += s.Job(id).Ready()
			a.jobs++
			a.sameQueue = a.sameQueue || c.Key.Queue == j.Spec.GetQueue()
		}
	}
	return a
}

func verb(n uint64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func needs(s state.Shape) string { return list(s, false) }

func has(s state.Shape) string { return list(s, true) }

// list writes a shape for people; with all set also what is zero of memory.
func list(s state.Shape, all bool) string {
	parts := []string{cpus(s.CPUMilli)}
	if s.Memory > 0 || all {
		parts = append(parts, Bytes(s.Memory))
	}
	if s.GPU > 0 {
		parts = append(parts, fmt.Sprintf("%d GPU", s.GPU))
	}
	return strings.Join(parts, " and ")
}

func cpus(milli int64) string {
	text := strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.3f", float64(milli)/1000), "0"), ".")
	if text == "1" {
		return "1 CPU"
	}
	return text + " CPUs"
}

// Bytes writes a size with a binary unit: "512 MiB", "1.5 GiB".
func Bytes(n int64) string {
	const unit = 1024
	v, u := float64(n), 0
	for v >= unit && u < 4 {
		v, u = v/unit, u+1
	}
	text := strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	return text + " " + []string{"B", "KiB", "MiB", "GiB", "TiB"}[u]
}
