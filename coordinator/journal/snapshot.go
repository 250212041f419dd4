// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// A snapshot file is a head and what the caller wrote. The head holds what the
// FSM knows beside it: the epoch, against which the records after it are judged.
// Its index and term are the last record's, not raft's, whose own counts records
// that are not delivered.
type snapshotHead struct {
	epoch       epoch
	index, term uint64
}

var headMagic = [8]byte{'v', 'o', 'l', 'l', 'e', 'y', 'S', formatVersion}

const headLen = 8 + 4*8

func (h snapshotHead) encode() []byte {
	b := append(make([]byte, 0, headLen), headMagic[:]...)
	for _, v := range [...]uint64{h.epoch.index, h.epoch.term, h.index, h.term} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func readHead(r io.Reader) (h snapshotHead, err error) {
	var b [headLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, fmt.Errorf("%w: head of the snapshot: %w", ErrCorrupt, err)
	}
	if [8]byte(b[:8]) != headMagic {
		if string(b[:7]) == string(headMagic[:7]) {
			return h, fmt.Errorf("snapshot version %d, this program reads %d", b[7], formatVersion)
		}
		return h, fmt.Errorf("%w: not a journal's snapshot", ErrCorrupt)
	}
	for i, p := range [...]*uint64{&h.epoch.index, &h.epoch.term, &h.index, &h.term} {
		*p = binary.LittleEndian.Uint64(b[8+8*i:])
	}
	return h, nil
}

// snapshot is one that the caller has asked for. Raft.mu guards fixed and err.
type snapshot struct {
	head  snapshotHead
	write func(io.Writer) error
	done  func(error)
	// fixed: the FSM has seen it, so proposals may go on to raft.
	fixed bool
	err   error // why the FSM or write refused; raft would pass on its text only
}

// Snapshot implements Journal. Proposals made after it are held back until raft
// has reached the FSM with it, so the caller need not wait for that.
func (j *Raft) Snapshot(write func(io.Writer) error, done func(error)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.mayCut(j.closed, j.failure, j.snap != nil, j.proposed); err != nil {
		return err
	}
	j.snap = &snapshot{head: snapshotHead{index: j.delivered, term: j.deliveredTerm}, write: write, done: done}
	j.freed() // an FSM that waits for Next would never see it
	records, size := j.records, j.size
	j.wg.Add(1)
	go j.runSnapshot(j.snap, records, size)
	return nil
}

func (j *Raft) runSnapshot(s *snapshot, records, size uint64) {
	defer j.wg.Done()
	err := j.raft.Snapshot().Error()
	j.mu.Lock()
	switch {
	case err == nil:
		j.snapIndex, j.records0, j.size0 = s.head.index, records, size
	case s.err != nil:
		err = s.err
	case errors.Is(err, raft.ErrRaftShutdown):
		err = ErrClosed
	default:
		err = fmt.Errorf("write snapshot in %s: %w", j.cfg.Dir, err)
	}
	s.fixed = true
	j.snap = nil
	j.wake.Broadcast()
	j.mu.Unlock()
	s.done(err)
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	j := (*Raft)(f)
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.snap
	if s == nil {
		return nil, fmt.Errorf("%w: nobody asked for one", ErrBusy)
	}
	s.fixed = true
	j.wake.Broadcast()
	if j.applied != s.head.index {
		s.err = fmt.Errorf("%w: records were committed meanwhile", ErrBusy)
		return nil, s.err
	}
	s.head.epoch = j.epoch
	return s, nil
}

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(s.head.encode())
	if err == nil {
		err = s.write(sink)
	}
	if err != nil {
		s.err = fmt.Errorf("write snapshot: %w", err)
	}
	return err
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}

// newestSnapshot verifies the newest snapshot and queues it as the first event.
//
// An older one would do only if the log reaches back to it; raft's scan of the
// log notices if it does not, so a newest one whose description is unreadable,
// and which the library therefore passes over, is no silent loss either.
func (j *Raft) newestSnapshot(snaps *raft.FileSnapshotStore) (*gate, error) {
	list, err := snaps.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots in %s: %w", j.cfg.Dir, err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	_, r, err := snaps.Open(list[0].ID)
	if err != nil {
		return nil, fmt.Errorf("%w: snapshot %s in %s: %w", ErrCorrupt, list[0].ID, j.cfg.Dir, err)
	}
	head, err := readHead(r)
	if err == nil {
		err = j.checkMeta(list[0], head)
	}
	if err != nil {
		_ = r.Close() // opened for reading only
		return nil, fmt.Errorf("snapshot %s in %s: %w", list[0].ID, j.cfg.Dir, err)
	}
	g := &gate{Reader: r, under: r, done: make(chan struct{})}
	j.epoch, j.applied, j.snapIndex = head.epoch, head.index, head.index
	j.push(Event{Kind: EventRestore, Term: head.term, Index: head.index, Snapshot: g})
	return g, nil
}

// checkMeta compares a snapshot's description, a JSON file without a checksum,
// with what its name and its head say. An index that is too large would make raft
// pass over records that the snapshot does not hold.
func (j *Raft) checkMeta(m *raft.SnapshotMeta, head snapshotHead) error {
	var term, index uint64
	if _, err := fmt.Sscanf(m.ID, "%d-%d-", &term, &index); err != nil || term != m.Term || index != m.Index {
		return fmt.Errorf("%w: meta.json says index %d of term %d, the name something else", ErrCorrupt, m.Index, m.Term)
	}
	if head.index > m.Index || head.term > m.Term || head.epoch.index > m.Index {
		return fmt.Errorf("%w: holds record %d, meta.json ends at %d", ErrCorrupt, head.index, m.Index)
	}
	if m.ConfigurationIndex == 0 || m.ConfigurationIndex > m.Index { // raft would never stand for election
		return fmt.Errorf("%w: meta.json has the list of nodes at index %d of %d", ErrCorrupt, m.ConfigurationIndex, m.Index)
	}
	for _, s := range m.Configuration.Servers {
		if string(s.ID) == j.cfg.NodeID && s.Suffrage == raft.Voter {
			return nil
		}
	}
	return fmt.Errorf("%w: meta.json does not name node %q", ErrCorrupt, j.cfg.NodeID)
}

// gate is a reader that tells when it is closed.
type gate struct {
	io.Reader
	under io.Closer // nil: somebody else closes it
	once  sync.Once
	done  chan struct{}
}

// Close implements io.Closer.
func (g *gate) Close() (err error) {
	g.once.Do(func() {
		close(g.done)
		if g.under != nil {
			err = g.under.Close()
		}
	})
	return err
}

// close is Close for one that may be nil, on the way out of a failed open.
func (g *gate) close() error {
	if g == nil {
		return nil
	}
	return g.Close()
}
