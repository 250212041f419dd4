// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// ErrInjected is wrapped by every error that a test has asked Memory for.
var ErrInjected = errors.New("injected")

// MemoryConfig says what NewMemory opens.
type MemoryConfig struct {
	// Disk is what to open. Default: a new, empty one.
	Disk *Disk
	// NodeID names this node. Default: "0".
	NodeID string
	// Hold keeps proposals and snapshots from becoming durable until Commit and
	// CommitSnapshot: a disk as slow as the test wants. Default: they are durable
	// at once.
	Hold bool
	// Follower keeps the node from leading until Lead. Default: it leads from the
	// start.
	Follower bool
}

// Memory is a Journal for tests and the simulator. It has no goroutines, clock or
// random source: what happens, happens within a call, so a run is the same each
// time. Next is to be polled; Ready works too. Its own methods inject faults.
type Memory struct {
	cfg  MemoryConfig
	disk *Disk // disk.mu guards everything below
	queue
	failure        error
	closed         bool
	leading, owner bool // as emitted; as delivered
	// unsynced are the records behind disk.synced, oldest first. own of them, the
	// newest, are of the present leadership.
	unsynced []frame
	own      int
	proposed int
	syncs    uint64

	failProposals, failSnapshots int
	snap                         *memorySnapshot
	snapIndex                    uint64
}

type memorySnapshot struct {
	frame frame
	done  func(error)
}

var _ Journal = (*Memory)(nil)

// NewMemory opens a disk. A disk that another Memory has open is refused with
// ErrLocked, and a damaged one with ErrCorrupt.
func NewMemory(cfg MemoryConfig) (*Memory, error) {
	if cfg.Disk == nil {
		cfg.Disk = &Disk{}
	}
	if cfg.NodeID == "" {
		cfg.NodeID = "0"
	}
	d := cfg.Disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user != nil {
		return nil, fmt.Errorf("open journal: %w: node %s has it open", ErrLocked, d.user.cfg.NodeID)
	}
	m := &Memory{cfg: cfg, disk: d, queue: newQueue()}
	if len(d.snapshot) > 0 {
		f, n, err := decodeFrame(d.snapshot)
		if err != nil || n != len(d.snapshot) {
			return nil, fmt.Errorf("open journal: %w: snapshot: %w", ErrCorrupt, err)
		}
		m.restore(f)
	}
	frames, end, err := decodeLog(d.log, d.synced)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	d.log, d.synced = d.log[:end], end
	for _, f := range frames {
		d.index, d.term = max(d.index, f.index), max(d.term, f.term)
		m.push(Event{Kind: EventCommitted, Term: f.term, Records: []Record{{Index: f.index, Data: f.data}}})
	}
	d.user = m
	if !cfg.Follower {
		m.lead()
	}
	return m, nil
}

func (m *Memory) restore(f frame) {
	m.snapIndex = f.index
	m.disk.index, m.disk.term = max(m.disk.index, f.index), max(m.disk.term, f.term)
	m.push(Event{Kind: EventRestore, Term: f.term, Index: f.index, Snapshot: io.NopCloser(bytes.NewReader(f.data))})
}

// Propose implements Journal.
func (m *Memory) Propose(data []byte) error {
	if len(data) > MaxRecord {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxRecord)
	}
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.failure != nil:
		return m.failure
	case !m.leading || !m.owner:
		return ErrNotLeader
	case m.failProposals > 0:
		m.failProposals--
		return fmt.Errorf("propose: %w", ErrInjected)
	}
	m.disk.index++
	m.unsynced = append(m.unsynced, frame{index: m.disk.index, term: m.disk.term, data: data})
	m.own++
	m.proposed++
	if !m.cfg.Hold {
		m.sync(len(m.unsynced))
	}
	return nil
}

// sync makes the n oldest unsynced records durable and emits them.
func (m *Memory) sync(n int) int {
	n = min(n, len(m.unsynced))
	if n <= 0 || m.failure != nil {
		return 0
	}
	m.syncs++
	for i, f := range m.unsynced[:n] {
		if m.disk.limit > 0 && len(m.disk.log)+frameHead+len(f.data) > m.disk.limit {
			m.unsynced = m.unsynced[i:]
			m.fail(fmt.Errorf("write log: %w: %w", ErrInjected, syscall.ENOSPC))
			return i
		}
		m.disk.log = f.append(m.disk.log)
		m.disk.synced = len(m.disk.log)
		own := len(m.unsynced)-i <= m.own
		m.push(Event{Kind: EventCommitted, Term: f.term, Own: own, Records: []Record{{Index: f.index, Data: f.data}}})
	}
	m.unsynced = m.unsynced[n:]
	m.own = min(m.own, len(m.unsynced))
	return n
}

// fail emits EventFailed.
func (m *Memory) fail(err error) {
	if m.failure != nil || m.closed {
		return
	}
	m.failure = fmt.Errorf("%w: %w", ErrFailed, err)
	m.leading, m.own = false, 0
	m.push(Event{Kind: EventFailed, Err: m.failure})
}

func (m *Memory) lead() {
	m.sync(len(m.unsynced)) // a new leader commits what it finds in its log
	if m.failure != nil {
		return
	}
	m.disk.term++
	m.disk.index++ // as raft, which writes a record of its own
	m.leading, m.own = true, 0
	m.push(Event{Kind: EventLeading, Term: m.disk.term, Index: m.disk.index})
}

// Next implements Journal.
func (m *Memory) Next() (Event, bool) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.closed {
		return Event{}, false
	}
	ev, ok := m.pop()
	if !ok {
		return ev, false
	}
	switch ev.Kind {
	case EventCommitted:
		if ev.Own {
			m.proposed -= len(ev.Records)
		}
	case EventLeading:
		m.owner, m.proposed = true, 0
	case EventFollowing, EventFailed:
		m.owner, m.proposed = false, 0
	}
	return ev, true
}

// Ready implements Journal.
func (m *Memory) Ready() <-chan struct{} { return m.ready }

// Snapshot implements Journal. It calls write before it returns, and done too,
// unless the Memory holds.
func (m *Memory) Snapshot(write func(io.Writer) error, done func(error)) error {
	m.disk.mu.Lock()
	f := frame{index: m.delivered, term: m.deliveredTerm}
	s := &memorySnapshot{done: done}
	err := m.mayCut(m.closed, m.failure, m.snap != nil, m.proposed)
	if err == nil {
		m.snap = s
	}
	m.disk.mu.Unlock()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = write(&b) // without the lock: it may look at Stats
	f.data = b.Bytes()
	if err = m.stage(s, f, err); err != nil {
		done(fmt.Errorf("write snapshot: %w", err))
		return nil
	}
	if !m.cfg.Hold {
		m.CommitSnapshot()
	}
	return nil
}

// stage keeps what write wrote for CommitSnapshot.
func (m *Memory) stage(s *memorySnapshot, f frame, err error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	switch {
	case m.snap != s: // write has closed the journal, or had a snapshot installed
		return ErrClosed
	case err == nil && m.failSnapshots > 0:
		m.failSnapshots--
		err = ErrInjected
	}
	if err != nil {
		m.snap = nil
		return err
	}
	s.frame = f
	return nil
}

// Stats implements Journal.
func (m *Memory) Stats() Stats {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	s := Stats{
		NodeID: m.cfg.NodeID, Leading: m.leading && m.owner, Term: m.disk.term, Proposed: m.proposed,
		DeliveredIndex: m.delivered, SnapshotIndex: m.snapIndex,
		RecordsSinceSnapshot: m.records - m.records0, BytesSinceSnapshot: m.size - m.size0,
		LogBytes: int64(len(m.disk.log)), Syncs: m.syncs,
	}
	if m.leading {
		s.LeaderID = m.cfg.NodeID
	}
	return s
}

// Close implements Journal. What was held back is lost.
func (m *Memory) Close() error {
	m.disk.mu.Lock()
	s := m.snap
	m.release()
	m.disk.mu.Unlock()
	s.drop(ErrClosed)
	return nil
}

// drop tells that a held snapshot is lost. One that is not staged yet is told by
// stage.
func (s *memorySnapshot) drop(err error) {
	if s != nil && s.frame.index > 0 {
		s.done(err)
	}
}

// release ends this Memory and leaves the disk to the next one.
func (m *Memory) release() {
	if !m.closed {
		m.closed, m.leading, m.owner = true, false, false
		m.events, m.unsynced, m.snap = nil, nil, nil
		m.disk.user = nil
	}
}
