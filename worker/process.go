// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
	"github.com/volley-batch/volley/worker/output"
	"github.com/volley-batch/volley/worker/runner"
	"github.com/volley-batch/volley/worker/stage"
)

// processes runs tasks as processes of this machine.
type processes struct {
	agent   *Agent
	log     *slog.Logger
	runner  *runner.Runner
	out     *output.Store
	stage   *stage.Store
	lookup  runner.Lookup
	sockets *socketDir
	keep    *retention
	work    string

	ctx    context.Context // of preparations
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	slots int
	fused map[uint64][]fusedRun // by job, in the order of starting
}

// fusedRun says that the output of some indexes lies with the first of them.
type fusedRun struct{ first, count uint64 }

func newProcesses(a *Agent) (p *processes, err error) {
	p = &processes{agent: a, log: a.log, work: a.home.path("work"), fused: make(map[uint64][]fusedRun)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	// Before all else: what an earlier process left may hold a socket, or write
	// into a working directory.
	if err := a.home.begin(a.log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.home.end())
		}
	}()
	if p.runner, err = runner.New(runner.Options{ID: a.home.nodeID, Logger: a.log}); err != nil {
		return nil, err
	}
	if p.out, err = output.Open(a.home.path("output"), output.Options{MaxBytes: a.cfg.MaxOutputBytes}); err != nil {
		return nil, errors.Join(err, p.runner.Close())
	}
	p.stage, err = stage.Open(a.home.path("blobs"))
	if err == nil {
		p.sockets, err = openSocketDir(a.cfg.SocketDir, a.home.path("sock"))
	}
	if err == nil {
		err = sweepSpares(p.work)
	}
	if err == nil {
		p.keep, err = openRetention(p, a.home.path("forgotten.json"), a.cfg.Retention)
	}
	if err != nil {
		return nil, errors.Join(err, p.out.Close(), p.runner.Close())
	}
	return p, nil
}

func (p *processes) close() error {
	p.cancel()
	p.wg.Wait()
	// Every task has been waited for: nothing of them runs but what they were
	// allowed to leave.
	return errors.Join(p.out.Close(), p.runner.Close(), p.sockets.close(), p.agent.home.end())
}

// flush makes the output of ended tasks findable after a death of this
// process. It comes before their results are spooled.
func (p *processes) flush() {
	if err := p.out.Flush(); err != nil && !errors.Is(err, output.ErrClosed) {
		p.log.Error("output index not written; output of the last tasks may be lost", "error", err)
	}
}

// forget drops what only the job's tasks needed. Called under Agent.mu.
func (p *processes) forget(j *job) {
	inputs := j.spec.GetInputs()
	if j.prep == nil || j.prep.err != nil {
		inputs = nil
	}
	p.wg.Go(func() {
		if err := p.stage.Release(inputs); err != nil {
			p.log.Warn("input files not removed", "job", j.id, "error", err)
		}
		p.mu.Lock()
		delete(p.fused, j.number)
		p.mu.Unlock()
		p.keep.add(j.number, j.id)
	})
}

func (p *processes) newSlot() slotRunner {
	s := &processSlot{p: p, run_: p.runner.NewSlot()}
	s.sock, s.sockErr = p.sockets.listen()
	if s.sockErr != nil {
		p.log.Error("no socket for tasks; VOLLEY_SOCKET is not set", "error", s.sockErr)
	}
	p.mu.Lock()
	s.out = p.out.Slot(p.slots)
	s.spare.path = filepath.Join(p.work, sparePrefix+strconv.Itoa(p.slots))
	p.slots++
	p.mu.Unlock()
	return s
}

// processSlot belongs to one slot goroutine, which is pinned to its thread.
type processSlot struct {
	p       *processes
	run_    *runner.Slot
	out     *output.Slot
	sock    *taskSocket // nil: none
	sockErr error

	// Of the job that ran last; tasks of one job come in a row.
	prep    *prepared
	env     *runner.EnvBuilder
	point   sharding.Point
	reader  *sharding.Reader
	buf     []byte
	args    []string
	bucket  string // last work directory's parent that exists
	spare   spareDir
	spec    runner.Spec
	current one
}

// one is what is being run: a task, or a part of a fused one.
type one struct {
	task         *Task
	index, count uint64
	records      sharding.Run // of a map
	dir          string
	own          bool   // dir was made for this task
	recordsPath  string // file of its records; empty: none
	stragglers   bool
	parameters   sharding.Point
}

func (s *processSlot) close() {
	s.closeReader()
	s.leaveBucket()
	s.spare.remove()
	s.run_.Close()
	if s.sock != nil {
		s.sock.close()
	}
}

func (s *processSlot) closeReader() {
	if s.reader != nil {
		// Only read from.
		_ = s.reader.Close()
		s.reader = nil
	}
}

func notStarted(r *Result, err error) {
	*r = Result{Outcome: volleyv1.Outcome_OUTCOME_NOT_STARTED, StartedAt: time.Now(), Reason: err.Error()}
}

// run runs the task. A fused process that fails where no attempt is left is
// taken apart: halves are run again, without a word to the coordinator, until
// the records that fail by themselves are found. Each of them costs at most
// 2*log2(Count) more processes; the others succeed.
func (s *processSlot) run(t *Task, r *Result) {
	if err := s.adopt(t); err != nil {
		notStarted(r, err)
		return
	}
	if t.Count > 1 {
		s.p.noteFused(t.Job, fusedRun{t.Index, t.Count})
	}
	s.runOne(t, t.Index, t.Count, r)
	if t.Count == 1 || !splits(r) || !t.prep.isolate || t.halted() {
		return
	}
	var parts []isolated
	parts = s.isolate(t, t.Index, t.Count, parts)
	r.isolated = parts
}

// splits reports whether the failure can be that of a record.
func splits(r *Result) bool {
	switch r.Outcome {
	case volleyv1.Outcome_OUTCOME_FAILED, volleyv1.Outcome_OUTCOME_TIMED_OUT, volleyv1.Outcome_OUTCOME_OUT_OF_MEMORY:
		return true
	default:
		return false
	}
}

// isolate runs the halves of a failed run.
func (s *processSlot) isolate(t *Task, first, count uint64, parts []isolated) []isolated {
	half := count / 2
	for _, run := range [2]sharding.Run{{First: first, Count: half}, {First: first + half, Count: count - half}} {
		var r Result
		s.runOne(t, run.First, run.Count, &r)
		if run.Count > 1 && splits(&r) && !t.halted() {
			parts = s.isolate(t, run.First, run.Count, parts)
			continue
		}
		parts = append(parts, isolated{run.First, run.Count, r})
	}
	return parts
}

// halted reports whether the task was told to stop.
func (t *Task) halted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopped
}

// adopt prepares the slot for the tasks of t's job.
func (s *processSlot) adopt(t *Task) error {
	if t.prep.err != nil {
		return t.prep.err
	}
	if s.prep == t.prep {
		return nil
	}
	s.closeReader()
	s.prep = nil
	s.leaveBucket()
	s.env = runner.NewEnvBuilder(t.prep.base)
	s.point = sharding.Point{}
	if t.prep.data != nil {
		reader, err := t.prep.data.Open(t.prep.dir)
		if err != nil {
			return err
		}
		s.reader = reader
	}
	s.prep = t.prep
	return nil
}

// runOne runs one process for count successive indexes.
func (s *processSlot) runOne(t *Task, index, count uint64, r *Result) {
	s.current = one{task: t, index: index, count: count}
	c := &s.current
	err := s.locate(c)
	if err == nil {
		err = s.enterDir(c)
	}
	if err == nil {
		err = s.arrange(c)
	}
	if err != nil {
		notStarted(r, err)
	} else {
		s.execute(c, r)
		s.collect(c, r)
	}
	s.leaveDir(c)
}

// locate computes the point, or the records, of the task.
func (s *processSlot) locate(c *one) error {
	p := s.prep
	c.records = sharding.Run{First: c.index, Count: c.count}
	switch {
	case p.space != nil:
		if err := p.space.Decode(c.index, &s.point); err != nil {
			return err
		}
		c.parameters = s.point
	case p.shards != nil:
		first := p.shards.At(c.index)
		c.records = first
		if c.count > 1 {
			last := p.shards.At(c.index + c.count - 1)
			c.records.Count = last.End() - first.First
		}
		if c.records.Count == 0 {
			return fmt.Errorf("index %d: the data set has %d shards", c.index, p.shards.Len())
		}
		if c.records.Count == 1 {
			rec, err := s.reader.Record(c.records.First)
			if err != nil {
				return err
			}
			c.parameters = rec.Point
		}
	}
	return nil
}

// execute starts the process and waits for its end.
func (s *processSlot) execute(c *one, r *Result) {
	t := c.task
	ref := output.Ref{Job: t.Job, Index: c.index, Attempt: t.Attempt}
	stdout, stderr, err := s.begin(t, ref)
	if err != nil {
		notStarted(r, err)
		return
	}
	s.spec.Stdout, s.spec.Stderr = stdout, stderr
	if s.sock != nil {
		s.sock.begin()
	}
	rt, err := s.run_.Start(&s.spec)
	s.out.Started()
	if err != nil {
		notStarted(r, err)
		if _, err := s.out.End(false); err != nil {
			s.p.log.Error("output not recorded", "job", t.JobID, "index", c.index, "error", err)
		}
		return
	}
	t.MarkStarted()
	t.setOnStop(rt.Stop, rt.Kill)
	res := rt.Wait()
	c.stragglers = res.Stragglers
	t.setOnStop(nil, nil)
	if _, err := s.out.End(res.Stragglers); err != nil {
		s.p.log.Error("output not recorded", "job", t.JobID, "index", c.index, "attempt", t.Attempt, "error", err)
		r.Reason = "output lost: " + err.Error()
	}
	r.Outcome, r.ExitCode = res.Outcome, res.ExitCode
	r.StartedAt, r.Duration = res.StartedAt, res.Duration
	r.PeakKiB, r.CPUMillis = uint64(res.PeakMemoryBytes)>>10, uint64(res.CPUTime.Milliseconds())
	if res.Reason != "" {
		r.Reason = res.Reason
	}
}

// begin opens the output of an execution. The same attempt may still run under
// a lease that was taken away: it has been told to stop, and is waited for.
func (s *processSlot) begin(t *Task, ref output.Ref) (stdout, stderr int, err error) {
	for {
		// Asking first whether it runs would cost every task an answer that is
		// nearly always no.
		stdout, stderr, err = s.out.Begin(ref)
		if !errors.Is(err, output.ErrRunning) {
			return stdout, stderr, err
		}
		select {
		case <-t.Stopped():
			return 0, 0, errors.New("stopped before it was started")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// collect reads what the task reported.
func (s *processSlot) collect(c *one, r *Result) {
	var merged report
	if s.sock != nil {
		s.sock.end(&merged)
	}
	if r.Outcome == volleyv1.Outcome_OUTCOME_NOT_STARTED {
		return
	}
	s.readResults(c, r, &merged)
	merged.finish(c.task.Spec.GetMetric().GetName(), r)
}

func (p *processes) noteFused(job uint64, run fusedRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fused[job] = append(p.fused[job], run)
}

// outputRef is where the output of an execution lies.
func (p *processes) outputRef(ref output.Ref) output.Ref {
	if _, err := p.out.Lookup(ref); err == nil {
		return ref
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.fused[ref.Job] {
		if ref.Attempt == 1 && ref.Index >= f.first && ref.Index-f.first < f.count {
			ref.Index = f.first
			break
		}
	}
	return ref
}
