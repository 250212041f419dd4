// SPDX-License-Identifier: Apache-2.0

package journal

import "fmt"

// Commit makes the n oldest held records durable and has Next return them; a
// negative n means all. It returns how many there were.
func (m *Memory) Commit(n int) int {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if n < 0 {
		n = len(m.unsynced)
	}
	return m.sync(n)
}

// Held returns how many records wait for Commit.
func (m *Memory) Held() int {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return len(m.unsynced)
}

// CommitSnapshot makes a held snapshot durable, drops the records that it stands
// for, and calls its done. It reports whether there was one.
func (m *Memory) CommitSnapshot() bool {
	m.disk.mu.Lock()
	s := m.snap
	if s == nil || s.frame.index == 0 || m.closed || m.failure != nil {
		m.disk.mu.Unlock()
		return false
	}
	d := m.disk
	d.snapshot = s.frame.append(nil)
	keep, at := []byte(nil), 0
	for at < d.synced {
		f, n, err := decodeFrame(d.log[at:])
		if err != nil {
			m.fail(fmt.Errorf("compact log at byte %d: %w: %w", at, ErrCorrupt, err))
			break
		}
		if f.index > s.frame.index {
			keep = append(keep, d.log[at:]...)
			break
		}
		at += n
	}
	err := m.failure
	if err == nil {
		d.log, d.synced = keep, len(keep)
		m.snapIndex = s.frame.index
		m.records0, m.size0 = m.records, m.size
		m.recount()
	}
	m.snap = nil
	d.mu.Unlock()
	s.done(err)
	return true
}

// recount puts the figures since the snapshot right: records may have been
// delivered between Snapshot and CommitSnapshot.
func (m *Memory) recount() {
	frames, _, err := decodeLog(m.disk.log, m.disk.synced)
	if err != nil {
		return // figures only; the next open reports it
	}
	for _, f := range frames {
		if f.index <= m.delivered {
			m.records0--
			m.size0 -= uint64(len(f.data))
		}
	}
}

// Crash ends the Memory as a power cut would. Of the held records the oldest keep
// happened to reach the disk, and torn bytes of the next; the others, and a held
// snapshot, are lost and its done is not called. Every call but Next, Ready and
// Stats answers ErrClosed from here on, and the disk can be opened again.
func (m *Memory) Crash(keep, torn int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.closed {
		return
	}
	m.reach(keep)
	if keep = min(max(keep, 0), len(m.unsynced)); keep < len(m.unsynced) {
		b := m.unsynced[keep].append(nil)
		m.disk.log = append(m.disk.log, b[:min(max(torn, 0), len(b)-1)]...)
	}
	m.release()
}

// reach writes the n oldest held records without acknowledging them.
func (m *Memory) reach(n int) {
	for _, f := range m.unsynced[:min(max(n, 0), len(m.unsynced))] {
		m.disk.log = f.append(m.disk.log)
	}
}

// FailDisk breaks the storage: EventFailed with err, which wraps ErrInjected. The
// oldest keep of the held records reached it nevertheless.
func (m *Memory) FailDisk(err error, keep int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.failure == nil && !m.closed {
		m.reach(keep)
		m.unsynced = nil
		m.fail(fmt.Errorf("write log: %w: %w", ErrInjected, err))
	}
}

// FailProposals has the next n proposals refused with ErrInjected.
func (m *Memory) FailProposals(n int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.failProposals = n
}

// FailSnapshots has the next n snapshots fail with ErrInjected.
func (m *Memory) FailSnapshots(n int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.failSnapshots = n
}

// Depose takes leadership away. The oldest keep of the held records stay in the
// log, undecided: Commit or Lead delivers them, not as own ones. The others are
// lost. It does nothing on a follower.
func (m *Memory) Depose(keep int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if !m.leading || m.closed {
		return
	}
	m.unsynced = m.unsynced[:min(max(keep, 0), len(m.unsynced))]
	m.leading, m.own = false, 0
	m.push(Event{Kind: EventFollowing, Term: m.disk.term})
}

// Lead makes a follower the leader of a new term. It does nothing on a leader.
func (m *Memory) Lead() {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if !m.leading && !m.closed {
		m.lead()
	}
}

// Replicate delivers, on a follower, records of another leader, in a new term
// each time. What was undecided in the log is committed before them.
func (m *Memory) Replicate(records ...[]byte) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.failure != nil:
		return m.failure
	case m.leading:
		return fmt.Errorf("replicate: %w: the node leads", ErrInjected)
	}
	m.disk.term++
	m.disk.index++
	for _, r := range records {
		m.disk.index++
		m.unsynced = append(m.unsynced, frame{index: m.disk.index, term: m.disk.term, data: r})
	}
	m.sync(len(m.unsynced))
	return m.failure
}

// Install replaces, on a follower, snapshot and log by a snapshot of another
// leader, which stands for records that this node has not seen. A held snapshot is
// older, and dropped.
func (m *Memory) Install(snapshot []byte) error {
	m.disk.mu.Lock()
	s, err := m.install(snapshot)
	m.disk.mu.Unlock()
	s.drop(fmt.Errorf("%w: the leader sent a newer one", ErrBusy))
	return err
}

func (m *Memory) install(snapshot []byte) (dropped *memorySnapshot, err error) {
	switch {
	case m.closed:
		return nil, ErrClosed
	case m.failure != nil:
		return nil, m.failure
	case m.leading:
		return nil, fmt.Errorf("install: %w: the node leads", ErrInjected)
	}
	d := m.disk
	d.term++
	d.index += 2
	f := frame{index: d.index, term: d.term, data: append([]byte(nil), snapshot...)}
	d.log, d.synced, m.unsynced = nil, 0, nil
	d.snapshot = f.append(nil)
	dropped, m.snap = m.snap, nil
	m.restore(f)
	return dropped, nil
}
