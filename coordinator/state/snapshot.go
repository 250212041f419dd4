// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protodelim"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	"github.com/volley-batch/volley/sharding"
)

// Frozen is a copy of the state at one moment. It shares jobs and chunks with
// the state, which clones them before it writes to them again, so that Freeze
// costs a pointer for each job and not a byte for each child.
type Frozen struct {
	header  *journalv1.SnapshotHeader
	workers []*journalv1.SnapshotWorker
	jobs    []*Job
	leases  []*journalv1.SnapshotLease
}

// Freeze copies the state. The copy may be written by another goroutine.
func (s *State) Freeze() *Frozen {
	f := &Frozen{header: &journalv1.SnapshotHeader{
		Version: Version, ClusterId: s.clusterID, TimeMs: s.now, NextJob: s.nextJob, NextLease: s.nextLease, Done: slices.Clone(s.done),
	}}
	for _, id := range slices.Sorted(maps.Keys(s.retired)) {
		f.header.Retired = append(f.header.Retired, id, s.retired[id])
	}
	for _, w := range s.Workers() {
		f.workers = append(f.workers, &journalv1.SnapshotWorker{Hello: w.Hello, Epoch: w.Epoch, Status: uint32(w.Status), Connected: w.Connected, Session: w.Session})
	}
	for _, id := range s.JobIDs() {
		f.jobs = append(f.jobs, s.jobs[id])
	}
	for _, id := range slices.Sorted(maps.Keys(s.leases)) {
		l := s.leases[id]
		f.leases = append(f.leases, &journalv1.SnapshotLease{
			Id: l.ID, Job: l.Job, Worker: l.Worker, Attempt: l.Attempt, Parallel: l.Parallel,
			Remaining: l.remaining.AppendPacked(nil), Running: l.running.AppendPacked(nil), Asked: l.asked.AppendPacked(nil),
		})
	}
	s.epoch++
	return f
}

// Write writes the snapshot as a stream of frames.
func (f *Frozen) Write(w io.Writer) error {
	bw := bufio.NewWriterSize(w, 1<<16)
	frames := uint64(0)
	put := func(m *journalv1.SnapshotFrame) error {
		frames++
		_, err := protodelim.MarshalTo(bw, m)
		return err
	}
	if err := put(&journalv1.SnapshotFrame{Frame: &journalv1.SnapshotFrame_Header{Header: f.header}}); err != nil {
		return err
	}
	for _, m := range f.workers {
		if err := put(&journalv1.SnapshotFrame{Frame: &journalv1.SnapshotFrame_Worker{Worker: m}}); err != nil {
			return err
		}
	}
	for _, j := range f.jobs {
		if err := put(&journalv1.SnapshotFrame{Frame: &journalv1.SnapshotFrame_Job{Job: j.snapshot()}}); err != nil {
			return err
		}
		for _, base := range slices.Sorted(maps.Keys(j.chunks)) {
			if err := put(&journalv1.SnapshotFrame{Frame: &journalv1.SnapshotFrame_Chunk{Chunk: j.chunks[base].snapshot(base)}}); err != nil {
				return err
			}
		}
	}
	for _, m := range f.leases {
		if err := put(&journalv1.SnapshotFrame{Frame: &journalv1.SnapshotFrame_Lease{Lease: m}}); err != nil {
			return err
		}
	}
	if err := put(&journalv1.SnapshotFrame{Frame: &journalv1.SnapshotFrame_End{End: &journalv1.SnapshotEnd{Frames: frames}}}); err != nil {
		return err
	}
	return bw.Flush()
}

func (j *Job) snapshot() *journalv1.SnapshotJob {
	m := &journalv1.SnapshotJob{
		Id: j.ID, Spec: j.Spec, Size: j.Size, Array: j.Array, IdempotencyKey: j.Key,
		Created: j.Created, Started: j.Started, Stopped: j.Stopped, Terminal: j.terminal,
		Ready: j.ready.AppendPacked(nil), Cancelled: j.cancelled.AppendPacked(nil),
		DepFailed: j.depFailed.AppendPacked(nil), Killing: j.killing.AppendPacked(nil),
		Cancel: j.cancel, Terminate: j.terminate, CancelReason: j.cancelReason,
		Depends: j.depends, Satisfied: j.satisfied, Dependents: j.dependents,
		HasBest: j.best.OK, BestIndex: j.best.Index, BestValue: j.best.Value,
		TaskUs: j.taskUS, Attempts: j.attempts, Stale: j.stale, LostRuns: j.lostRuns, Fence: j.fence, Stopping: j.stopping.AppendPacked(nil),
	}
	for _, r := range j.reasons {
		m.Reasons = append(m.Reasons, r.status, r.detail)
	}
	return m
}

func (c *chunk) snapshot(base uint64) *journalv1.SnapshotChunk {
	m := &journalv1.SnapshotChunk{Base: base, Output: c.output, Metric: c.metric, Records: make([]byte, 0, len(c.recs)*recordSize)}
	for i := range c.recs {
		m.Records = c.recs[i].appendTo(m.Records)
	}
	for _, k := range slices.Sorted(maps.Keys(c.history)) {
		h := &journalv1.SnapshotHistory{Position: uint32(k)}
		for i := range c.history[k] {
			h.Records = c.history[k][i].appendTo(h.Records)
		}
		m.History = append(m.History, h)
	}
	for _, k := range slices.Sorted(maps.Keys(c.base)) {
		m.Uncharged = append(m.Uncharged, uint32(k), uint32(c.base[k]))
	}
	return m
}

// ErrSnapshot: a snapshot cannot be read. The node must not start from it.
var ErrSnapshot = errors.New("unreadable snapshot")

// maxFrame bounds one frame: the spec of a job is the largest.
const maxFrame = 1 << 30

// Read makes a state from a snapshot.
func Read(r io.Reader) (*State, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	s := New()
	var job *Job
	for frames := uint64(0); ; frames++ {
		var f journalv1.SnapshotFrame
		if err := (protodelim.UnmarshalOptions{MaxSize: maxFrame}).UnmarshalFrom(br, &f); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("%w: frame %d: %w", ErrSnapshot, frames, err)
		}
		h, first := f.Frame.(*journalv1.SnapshotFrame_Header)
		if first != (frames == 0) {
			return nil, fmt.Errorf("%w: frame %d: it must begin with one header", ErrSnapshot, frames)
		}
		var err error
		switch m := f.Frame.(type) {
		case *journalv1.SnapshotFrame_Header:
			err = s.readHeader(h.Header)
		case *journalv1.SnapshotFrame_Worker:
			s.readWorker(m.Worker)
		case *journalv1.SnapshotFrame_Job:
			job, err = s.readJob(m.Job)
		case *journalv1.SnapshotFrame_Chunk:
			err = readChunk(job, m.Chunk)
		case *journalv1.SnapshotFrame_Lease:
			err = s.readLease(m.Lease)
		case *journalv1.SnapshotFrame_End:
			if m.End.GetFrames() != frames {
				return nil, fmt.Errorf("%w: it has %d frames and should have %d", ErrSnapshot, frames, m.End.GetFrames())
			}
			return s, s.finishRead()
		default:
			err = fmt.Errorf("unknown kind %T", m)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: frame %d: %w", ErrSnapshot, frames, err)
		}
	}
}

func (s *State) readHeader(h *journalv1.SnapshotHeader) error {
	if h.GetVersion() != Version {
		return fmt.Errorf("version %d, this program reads version %d", h.GetVersion(), Version)
	}
	s.clusterID, s.now, s.nextJob, s.nextLease, s.done = h.GetClusterId(), h.GetTimeMs(), h.GetNextJob(), h.GetNextLease(), h.GetDone()
	if len(h.GetRetired())%2 != 0 {
		return errors.New("retired leases do not come in pairs")
	}
	for i := 0; i < len(h.GetRetired()); i += 2 {
		s.retired[h.GetRetired()[i]] = h.GetRetired()[i+1]
	}
	return nil
}

func (s *State) readWorker(m *journalv1.SnapshotWorker) {
	c := m.GetHello().GetCapacity()
	w := &Worker{
		Num: s.nextWorker, Hello: m.GetHello(), Epoch: m.GetEpoch(), Session: m.GetSession(), Status: NodeLost, Connected: m.GetConnected(),
		Capacity: Shape{c.GetCpuMilli(), c.GetMemoryBytes(), c.GetGpu()},
	}
	s.setStatus(w, NodeStatus(m.GetStatus()))
	s.nextWorker++
	s.workers = append(s.workers, w)
	s.byNode[w.NodeID()] = w.Num
	if w.Status == NodeReady {
		s.dirtyWorkers[w.Num] = struct{}{}
	}
}

func (s *State) readJob(m *journalv1.SnapshotJob) (*Job, error) {
	j := &Job{
		epoch: s.epoch, ID: m.GetId(), Spec: m.GetSpec(), Size: m.GetSize(), Array: m.GetArray(), Key: m.GetIdempotencyKey(),
		Shape: ShapeOf(m.GetSpec().GetResources()), Created: m.GetCreated(), Started: m.GetStarted(), Stopped: m.GetStopped(), terminal: m.GetTerminal(),
		cancel: m.GetCancel(), terminate: m.GetTerminate(), cancelReason: m.GetCancelReason(),
		depends: m.GetDepends(), satisfied: m.GetSatisfied(), dependents: m.GetDependents(),
		best:   Best{OK: m.GetHasBest(), Index: m.GetBestIndex(), Value: m.GetBestValue()},
		taskUS: m.GetTaskUs(), attempts: m.GetAttempts(), stale: m.GetStale(), lostRuns: m.GetLostRuns(), fence: m.GetFence(),
		chunks: map[uint64]*chunk{},
	}
	if s.jobs[j.ID] != nil {
		return nil, fmt.Errorf("job %d is there twice", j.ID)
	}
	for _, d := range j.depends {
		j.sequential = j.sequential || d.GetJob() == 0
	}
	for _, set := range []struct {
		to   **sharding.Set
		from []uint64
		name string
	}{{&j.ready, m.GetReady(), "ready"}, {&j.cancelled, m.GetCancelled(), "cancelled"}, {&j.depFailed, m.GetDepFailed(), "dep_failed"}, {&j.killing, m.GetKilling(), "killing"}, {&j.stopping, m.GetStopping(), "stopping"}} {
		p, err := sharding.ParsePacked(set.from)
		if err != nil {
			return nil, fmt.Errorf("job %d: %s: %w", j.ID, set.name, err)
		}
		*set.to = p
	}
	if len(m.GetReasons())%2 != 0 || len(m.GetReasons()) == 0 {
		return nil, fmt.Errorf("job %d: %d reason texts", j.ID, len(m.GetReasons()))
	}
	for i := 0; i < len(m.GetReasons()); i += 2 {
		j.reasons = append(j.reasons, reason{m.GetReasons()[i], m.GetReasons()[i+1]})
	}
	j.failed = j.cancelled.Len() + j.depFailed.Len()
	s.jobs[j.ID] = j
	s.byName[j.Name()] = append(s.byName[j.Name()], j.ID)
	if j.Key != "" {
		s.byKey[j.Key] = j.ID
	}
	if !j.terminal {
		s.live++
	}
	return j, nil
}

func readChunk(j *Job, m *journalv1.SnapshotChunk) error {
	if j == nil {
		return errors.New("a chunk comes before any job")
	}
	if m.GetBase() > j.Size>>chunkBits {
		return fmt.Errorf("job %d: chunk %d lies behind its size %d", j.ID, m.GetBase(), j.Size)
	}
	c := newChunk(j.epoch, j.Size, m.GetBase()<<chunkBits)
	n := len(c.recs)
	if len(m.GetRecords()) != n*recordSize || len(m.GetOutput())%max(n, 1) != 0 || len(m.GetMetric())%max(n, 1) != 0 {
		return fmt.Errorf("job %d: chunk %d has columns of %d bytes, %d outputs, %d metrics for %d records",
			j.ID, m.GetBase(), len(m.GetRecords()), len(m.GetOutput()), len(m.GetMetric()), n)
	}
	decode := func(b []byte) (record, error) {
		r := decodeRecord(b)
		if int(r.reason) >= len(j.reasons) || r.phase() > phaseSkipped {
			return r, fmt.Errorf("job %d: chunk %d: bad record", j.ID, m.GetBase())
		}
		return r, nil
	}
	var err error
	for i := range c.recs {
		if c.recs[i], err = decode(m.GetRecords()[i*recordSize:]); err != nil {
			return err
		}
		switch c.recs[i].phase() {
		case phaseSkipped:
			j.skipped++
			j.succeeded++
		case phaseSucceeded:
			j.succeeded++
		case phaseFailed:
			j.failed++
		default:
		}
	}
	if len(m.GetOutput()) == n {
		c.output = m.GetOutput()
	}
	if len(m.GetMetric()) == n {
		c.metric = m.GetMetric()
	}
	for _, h := range m.GetHistory() {
		if int(h.GetPosition()) >= n || len(h.GetRecords())%recordSize != 0 {
			return fmt.Errorf("job %d: chunk %d: bad history", j.ID, m.GetBase())
		}
		for b := h.GetRecords(); len(b) > 0; b = b[recordSize:] {
			r, err := decode(b)
			if err != nil {
				return err
			}
			if c.history == nil {
				c.history = map[uint16][]record{}
			}
			c.history[uint16(h.GetPosition())] = append(c.history[uint16(h.GetPosition())], r)
		}
	}
	for i := 0; i+1 < len(m.GetUncharged()); i += 2 {
		if int(m.GetUncharged()[i]) >= n || m.GetUncharged()[i+1] > math.MaxUint16 {
			return fmt.Errorf("job %d: chunk %d: bad uncharged", j.ID, m.GetBase())
		}
		c.addBase(uint16(m.GetUncharged()[i]), uint16(m.GetUncharged()[i+1]))
	}
	j.chunks[m.GetBase()] = c
	return nil
}

func (s *State) readLease(m *journalv1.SnapshotLease) error {
	j, w := s.jobs[m.GetJob()], s.Worker(m.GetWorker())
	if j == nil || w == nil {
		return fmt.Errorf("lease %d: no job %d or worker %d", m.GetId(), m.GetJob(), m.GetWorker())
	}
	l := &Lease{ID: m.GetId(), Job: j.ID, Worker: w.Num, Attempt: m.GetAttempt(), Parallel: m.GetParallel()}
	var errs [3]error
	l.remaining, errs[0] = sharding.ParsePacked(m.GetRemaining())
	l.running, errs[1] = sharding.ParsePacked(m.GetRunning())
	l.asked, errs[2] = sharding.ParsePacked(m.GetAsked())
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("lease %d: %w", l.ID, err)
	}
	s.leases[l.ID] = l
	j.leases = append(j.leases, l.ID)
	w.leases = append(w.leases, l.ID)
	j.leased += l.remaining.Len()
	j.running += l.running.Len()
	l.slots = min(l.Parallel, l.remaining.Len())
	j.slots += l.slots
	w.Used = w.Used.add(j.Shape, int64(l.slots))
	s.noteBacklog(l)
	return nil
}

// finishRead files the jobs and checks that the whole agrees with itself.
func (s *State) finishRead() error {
	for _, id := range s.JobIDs() {
		s.refile(s.jobs[id])
	}
	if err := s.CheckInvariants(); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return nil
}
