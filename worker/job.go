// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// maxFuse bounds how many records one process gets: they are all run again
// when it dies.
const maxFuse = 1 << 16

// job is what the worker knows of one job.
type job struct {
	number uint64
	id     string
	spec   *volleyv1.JobSpec
	size   uint64
	array  bool
	// metric: reports of this job carry the metric column.
	metric bool

	// Guarded by Agent.mu.
	ready bool
	prep  *prepared // with ready; nil with an Executor of the caller

	// Fusing, guarded by Agent.mu. target 0: one index per process.
	target    time.Duration
	perRecord time.Duration
	lastFuse  uint64
}

// addJob notes a job's spec. It is sent again after a reconnect and never
// changes.
func (a *Agent) addJob(m *volleyv1.WorkerJob) {
	if a.jobs[m.GetJob()] != nil {
		return
	}
	spec := m.GetSpec()
	j := &job{
		number: m.GetJob(),
		id:     m.GetJobId(),
		spec:   spec,
		size:   m.GetSize(),
		array:  spec.GetSpace() != nil,
		metric: spec.GetMetric().GetName() != "",
	}
	a.jobs[j.number] = j
	j.ready = a.exec.prepare(j)
}

// jobReady lets the tasks of j start. When p says that they cannot, each of
// them will fail with the reason. False: the job was forgotten.
func (a *Agent) jobReady(j *job, p *prepared) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	j.prep = p
	if p.fusable {
		j.target = time.Duration(j.spec.GetSpace().GetMap().GetShard().GetTargetMs()) * time.Millisecond
	}
	j.ready = true
	a.kick()
	return a.jobs[j.number] == j
}

// prepareAgain gives a job whose inputs could not be had another chance when
// new work for it comes.
func (a *Agent) prepareAgain(j *job) {
	if j.ready && j.prep != nil && j.prep.again {
		j.ready = a.exec.prepare(j)
	}
}

// fuse says how many successive indexes the next process of the job gets.
// Only first attempts are fused: a record that has failed with others is tried
// alone, so that one bad record cannot fail them a second time.
func (j *job) fuse(attempt uint32, unstarted uint64, parallel int) uint64 {
	if j.target <= 0 || attempt != 1 {
		return 1
	}
	// A share of what is left, as the coordinator does with leases: the last
	// process must not hold work that an idle slot could do.
	limit := min(maxFuse, (unstarted+uint64(parallel)-1)/uint64(parallel))
	n := sharding.FuseCount(j.target, j.perRecord, j.lastFuse, limit)
	if n > j.lastFuse || limit > n {
		j.lastFuse = n // a limit at the tail is no measurement
	}
	return n
}

// measure takes the duration of a process with count indexes.
func (j *job) measure(d time.Duration, count uint64) {
	if j.target <= 0 || count == 0 {
		return
	}
	per := max(d/time.Duration(count), 1)
	if j.perRecord == 0 {
		j.perRecord = per
		return
	}
	j.perRecord += (per - j.perRecord) / 4
}
