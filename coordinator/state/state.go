// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// Version is the format of journal batches and snapshots that this package
// reads and writes.
const Version = 1

// MaxOutput is the longest output of one task that is kept, in bytes.
const MaxOutput = 64 << 10

// Refusals of entries. They are matched with errors.Is and mapped to gRPC codes
// by the callers.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
	ErrConflict = errors.New("conflict")
	// ErrUnknownEntry: the journal holds something that this version cannot
	// apply. The node must stop: going on would let its state differ.
	ErrUnknownEntry = errors.New("unknown journal entry")
)

// Lease is the right of one worker to run a set of indexes of a job.
type Lease struct {
	ID      uint64
	Job     uint64
	Worker  uint32
	Attempt uint32
	// Parallel is how many of its tasks may run at once.
	Parallel uint64
	// remaining: granted and not recorded. running: reported as started.
	// asked: the worker was asked to hand them back and has not answered.
	// Invariant: running and asked are subsets of remaining.
	remaining, running, asked *sharding.Set
	// slots is what the lease is charged with: min(Parallel, remaining).
	slots uint64
}

// Remaining is the number of indexes that are granted and not recorded.
func (l *Lease) Remaining() uint64 { return l.remaining.Len() }

// Running is the number of tasks reported as started and not as ended.
func (l *Lease) Running() uint64 { return l.running.Len() }

// Asked is the number of indexes that the worker was asked to hand back.
func (l *Lease) Asked() uint64 { return l.asked.Len() }

// Holds says that index i is granted under the lease and not recorded.
func (l *Lease) Holds(i uint64) bool { return l.remaining.Contains(i) }

// Slots is what the lease is charged with.
func (l *Lease) Slots() uint64 { return l.slots }

// Tail is what may be asked back: the last n indexes that have not been
// reported as started and were not asked back already.
func (l *Lease) Tail(n uint64) *sharding.Set {
	idle := l.remaining.Clone()
	idle.Subtract(l.running)
	idle.Subtract(l.asked)
	if idle.Len() > n {
		idle.PopFront(idle.Len() - n)
	}
	return idle
}

// NodeStatus is what the state knows of a worker; whether its session is
// connected at the moment is not journaled.
type NodeStatus uint8

// The values of NodeStatus.
const (
	NodeReady NodeStatus = iota
	NodeDraining
	NodeLost
	NodeLeft
)

// Worker is one worker process and the node it speaks for.
type Worker struct {
	Num   uint32
	Epoch uint64
	// Session counts the Hellos.
	Session   uint64
	Hello     *volleyv1.Hello // as last stated, without what was held
	Capacity  Shape
	Used      Shape
	Status    NodeStatus
	Connected int64
	leases    []uint64 // ascending
}

// NodeID is the stable id of the worker.
func (w *Worker) NodeID() string { return w.Hello.GetNodeId() }

// Name of the node.
func (w *Worker) Name() string { return w.Hello.GetName() }

// Leases of the worker by number, ascending.
func (w *Worker) Leases() []uint64 { return w.leases }

// Free is what is not charged by leases.
func (w *Worker) Free() Shape { return w.Capacity.add(w.Used, -1) }

// State is everything that the cluster knows. See the package comment for the
// contract.
type State struct {
	// epoch grows with every Freeze. A job or chunk of an older epoch belongs
	// to a frozen copy and is cloned before it is written to.
	epoch uint64

	now       int64
	clusterID string

	nextJob, nextLease uint64
	nextWorker         uint32

	jobs    map[uint64]*Job
	byName  map[string][]uint64 // ascending
	byKey   map[string]uint64
	workers []*Worker // by number; [0] is nil
	byNode  map[string]uint32
	leases  map[uint64]*Lease
	// retired leases were lost with their worker; a late result under one of
	// them is refused and counted for the job.
	retired map[uint64]uint64
	// done lists terminal jobs in the order of ending.
	done []uint64
	live int

	classes []*Class

	// dirtyWorkers gained room or changed since TakeDirty.
	dirtyWorkers map[uint32]struct{}
	// backlog has the leases that hold more than may run at once: what an idle
	// worker could be given.
	backlog map[uint64]struct{}
	// ready counts workers with status NodeReady.
	ready int

	effects []Effect
	// fault is set by tests only, see Plant.
	fault Fault
}

// New is the state of an empty cluster.
func New() *State {
	return &State{
		nextJob: 1, nextLease: 1, nextWorker: 1,
		jobs: map[uint64]*Job{}, byName: map[string][]uint64{}, byKey: map[string]uint64{},
		workers: []*Worker{nil}, byNode: map[string]uint32{}, leases: map[uint64]*Lease{},
		retired: map[uint64]uint64{}, dirtyWorkers: map[uint32]struct{}{},
		backlog: map[uint64]struct{}{},
	}
}

// Now is the time of the last entry, in Unix milliseconds.
func (s *State) Now() int64 { return s.now }

// ClusterID as given by the first entry.
func (s *State) ClusterID() string { return s.clusterID }

// Job by number; nil if there is none.
func (s *State) Job(id uint64) *Job { return s.jobs[id] }

// JobIDs of all jobs, ascending: the order of submission.
func (s *State) JobIDs() []uint64 { return slices.Sorted(maps.Keys(s.jobs)) }

// Jobs is the number of jobs, LiveJobs that of those not terminal.
func (s *State) Jobs() int { return len(s.jobs) }

// LiveJobs is the number of jobs that are not terminal.
func (s *State) LiveJobs() int { return s.live }

// JobsNamed lists the jobs of a name, oldest first.
func (s *State) JobsNamed(name string) []uint64 { return s.byName[name] }

// JobByKey finds a job by its idempotency key.
func (s *State) JobByKey(key string) (uint64, bool) {
	id, ok := s.byKey[key]
	return id, ok
}

// LastJob is the number of the newest job; 0: none was ever submitted.
func (s *State) LastJob() uint64 { return s.nextJob - 1 }

// Done lists terminal jobs in the order of ending.
func (s *State) Done() []uint64 { return s.done }

// Lease by number; nil if it is not current.
func (s *State) Lease(id uint64) *Lease { return s.leases[id] }

// Worker by number; nil if there is none.
func (s *State) Worker(num uint32) *Worker {
	if int(num) >= len(s.workers) {
		return nil
	}
	return s.workers[num]
}

// WorkerByNode finds a worker by its stable id; nil if there is none.
func (s *State) WorkerByNode(node string) *Worker { return s.Worker(s.byNode[node]) }

// Workers lists all that are known, lost ones included, by number.
func (s *State) Workers() []*Worker { return s.workers[1:] }

// ReadyWorkers is the number of workers that take work.
func (s *State) ReadyWorkers() int { return s.ready }

// Backlog lists the leases that hold indexes beyond what may run at once and
// was asked back, by number.
func (s *State) Backlog() []uint64 { return slices.Sorted(maps.Keys(s.backlog)) }

func (s *State) setStatus(w *Worker, to NodeStatus) {
	if w.Status == NodeReady {
		s.ready--
	}
	if to == NodeReady {
		s.ready++
	}
	w.Status = to
}

// TakeDirtyWorkers lists the workers that may have gained room since the last
// call, by number.
func (s *State) TakeDirtyWorkers() []uint32 {
	if len(s.dirtyWorkers) == 0 {
		return nil
	}
	d := slices.Sorted(maps.Keys(s.dirtyWorkers))
	clear(s.dirtyWorkers)
	return d
}

// mut returns the job for writing.
func (s *State) mut(id uint64) *Job {
	j := s.jobs[id]
	if j != nil && j.epoch != s.epoch {
		j = j.clone(s.epoch)
		s.jobs[id] = j
	}
	return j
}

func (s *State) emit(e Effect) { s.effects = append(s.effects, e) }

// Result is what applying an entry gives back to whoever proposed it.
type Result struct {
	// Job is the number of the submitted job.
	Job uint64
	// Existed: the idempotency key was known.
	Existed bool
	// Count of children that a rerun made runnable.
	Count uint64
	// Lease that a grant opened or added to.
	Lease uint64
	// Worker number of a Hello.
	Worker uint32
}

// Apply changes the state by one entry and returns its effects, which are
// valid until the next call. On error nothing has changed.
func (s *State) Apply(e *journalv1.Entry) (Result, []Effect, error) {
	s.effects = s.effects[:0]
	prev := s.now
	s.now = max(s.now, e.GetTimeMs())
	r, err := s.apply(e)
	if err != nil {
		s.now = prev
		return Result{}, nil, err
	}
	return r, s.effects, nil
}

func (s *State) apply(e *journalv1.Entry) (Result, error) {
	switch op := e.GetOp().(type) {
	case *journalv1.Entry_Init:
		if s.clusterID != "" {
			return Result{}, fmt.Errorf("init: %w: the cluster has an id already", ErrConflict)
		}
		s.clusterID = op.Init.GetClusterId()
		return Result{}, nil
	case *journalv1.Entry_Submit:
		return s.submit(op.Submit)
	case *journalv1.Entry_Cancel:
		return s.cancel(op.Cancel)
	case *journalv1.Entry_Rerun:
		return s.rerun(op.Rerun)
	case *journalv1.Entry_WorkerHello:
		return s.hello(op.WorkerHello.GetHello())
	case *journalv1.Entry_WorkerReport:
		return s.report(op.WorkerReport)
	case *journalv1.Entry_WorkerLost:
		return s.workerGone(op.WorkerLost.GetNodeId(), op.WorkerLost.GetEpoch(), NodeLost)
	case *journalv1.Entry_WorkerLeft:
		return s.workerGone(op.WorkerLeft.GetNodeId(), op.WorkerLeft.GetEpoch(), NodeLeft)
	case *journalv1.Entry_WorkerDrain:
		return s.drain(op.WorkerDrain)
	case *journalv1.Entry_Grant:
		return s.grant(op.Grant)
	case *journalv1.Entry_TakeBack:
		return s.takeBack(op.TakeBack)
	case *journalv1.Entry_Purge:
		return s.purge(op.Purge)
	default:
		return Result{}, fmt.Errorf("%w (type %T)", ErrUnknownEntry, op)
	}
}
