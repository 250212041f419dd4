// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker"
)

type place struct{ job, index uint64 }

type tenure struct {
	place
	lease uint64
}

// execution is one run of a task.
type execution struct {
	worker  string
	attempt uint32
	lease   uint64
	token   string // what it reported as output
	killed  bool
}

// census knows every execution on all workers.
type census struct {
	t testing.TB
	// strict: no worker is ever given up, so no index may run twice at once
	// and no job above its concurrency.
	strict bool

	mu          sync.Mutex
	rng         *rand.Rand
	executions  map[place][]execution
	held        map[tenure]int
	running     map[place]int
	ofJob       map[uint64]int
	ofWorker    map[string]int
	concurrency map[string]int // by name of the job
	started     int
	marks       map[int]chan struct{}
}

func newCensus(t testing.TB, seed uint64, strict bool) *census {
	return &census{
		t: t, strict: strict, rng: rand.New(rand.NewPCG(seed, 7)),
		executions: map[place][]execution{}, held: map[tenure]int{}, running: map[place]int{},
		ofJob: map[uint64]int{}, ofWorker: map[string]int{}, concurrency: map[string]int{}, marks: map[int]chan struct{}{},
	}
}

// after is closed when n tasks have started.
func (c *census) after(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.marks[n] == nil {
		c.marks[n] = make(chan struct{})
		if c.started >= n {
			close(c.marks[n])
		}
	}
	return c.marks[n]
}

// fails says which attempts of a job with retries fail.
func fails(name string, index uint64, attempt uint32) bool {
	return name == retried && attempt <= uint32(index%7)%3
}

// on is the Executor of one worker.
func (c *census) on(name string, slots int) worker.Executor { return &executor{c, name, slots} }

type executor struct {
	*census
	worker string
	slots  int
}

func (e *executor) Execute(t *worker.Task, r *worker.Result) {
	p := place{t.Job, t.Index}
	e.mu.Lock()
	x := execution{worker: e.worker, attempt: t.Attempt, lease: t.Lease, token: fmt.Sprintf(`{"n":%d}`, e.started)}
	e.check(t, p)
	n := len(e.executions[p])
	e.executions[p] = append(e.executions[p], x)
	e.running[p]++
	e.ofJob[t.Job]++
	e.ofWorker[e.worker]++
	e.started++
	if m := e.marks[e.started]; m != nil {
		close(m)
	}
	mark := e.rng.IntN(2) == 0
	d := time.Duration(e.rng.IntN(2500)) * time.Microsecond
	if e.rng.IntN(50) == 0 {
		d *= 20 // some are there when everything around them has gone
	}
	e.mu.Unlock()

	if mark {
		t.MarkStarted()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	killed := false
	select {
	case <-timer.C:
	case <-t.Stopped():
		killed = true
	}
	r.Output = []byte(x.token)
	if killed || fails(t.Spec.GetName(), t.Index, t.Attempt) {
		r.Outcome, r.ExitCode = volleyv1.Outcome_OUTCOME_FAILED, 1
	}
	e.mu.Lock()
	e.executions[p][n].killed = killed
	e.running[p]--
	e.ofJob[t.Job]--
	e.ofWorker[e.worker]--
	e.mu.Unlock()
}

// check holds what must be true at every start. Called under mu.
func (e *executor) check(t *worker.Task, p place) {
	e.held[tenure{p, t.Lease}]++
	if n := e.held[tenure{p, t.Lease}]; n > 1 {
		e.t.Errorf("job %d index %d is started %d times under lease %d", t.Job, t.Index, n, t.Lease)
	}
	if n := e.ofWorker[e.worker]; n >= e.slots {
		e.t.Errorf("%s runs %d tasks beside the new one, it has %d CPUs", e.worker, n, e.slots)
	}
	for _, old := range e.executions[p] {
		if old.worker == e.worker && old.lease >= t.Lease {
			e.t.Errorf("job %d index %d runs under lease %d after lease %d on %s: the number does not grow", t.Job, t.Index, t.Lease, old.lease, e.worker)
		}
		if e.strict && old.attempt >= t.Attempt {
			e.t.Errorf("job %d index %d: attempt %d runs on %s after attempt %d on %s", t.Job, t.Index, t.Attempt, e.worker, old.attempt, old.worker)
		}
	}
	if !e.strict {
		return
	}
	if e.running[p] > 0 {
		e.t.Errorf("job %d index %d starts on %s and runs elsewhere: %+v", t.Job, t.Index, e.worker, e.executions[p])
	}
	if most := e.concurrency[t.Spec.GetName()]; most > 0 && e.ofJob[t.Job] >= most {
		e.t.Errorf("job %s: %d tasks run beside the new one, at most %d may at once", t.Spec.GetName(), e.ofJob[t.Job], most)
	}
}
