// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/hashicorp/raft"
)

// Every record says in raft's Extensions what it is: a version, a kind, a number.
//
// A claim marks the start of a leadership. The claim's own index is the name of
// the epoch that begins there, and each record names the epoch in which it was
// proposed. A record counts only if the newest claim before it is the one it
// names and both are of one term; every node skips it otherwise. Without that, a
// record that was on its way into raft while leadership was lost and won again
// would be committed in the new term, behind records of another leader that its
// proposer had never seen.
const (
	extVersion      = 1
	extClaim   byte = 1 // number: a nonce by which the node knows its own claim
	extRecord  byte = 2 // number: index of the claim
	extLen          = 10
)

func encodeExt(kind byte, n uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{extVersion, kind}, n)
}

func decodeExt(b []byte) (kind byte, n uint64, err error) {
	if len(b) > 0 && b[0] != extVersion {
		return 0, 0, fmt.Errorf("record version %d, this program reads %d", b[0], extVersion)
	}
	if len(b) != extLen || (b[1] != extClaim && b[1] != extRecord) {
		return 0, 0, fmt.Errorf("%w: record header %x", ErrCorrupt, b)
	}
	return b[1], binary.LittleEndian.Uint64(b[2:]), nil
}

// epoch is a claim's place in the log. Index 0: none yet.
type epoch struct {
	index, term uint64
}

func newNonce() uint64 { return rand.Uint64() | 1 } // 0 means none

// fsm is the side of Raft that raft calls, always from one goroutine.
type fsm Raft

var _ raft.BatchingFSM = (*fsm)(nil)

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any {
	f.ApplyBatch([]*raft.Log{l})
	return nil
}

// ApplyBatch implements raft.BatchingFSM. Data goes to the caller as it is: raft
// does not touch it again, and what it reads from disk it reads into new memory.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	j := (*Raft)(f)
	j.mu.Lock()
	records := make([]Record, 0, len(logs))
	var current Event
	flush := func() {
		if len(records) > 0 {
			n := len(records)
			current.Records = records[:n:n] // push may append: not into what follows
			j.push(current)
			records = records[n:]
		}
	}
	for _, l := range logs {
		if l.Type != raft.LogCommand || j.failure != nil || j.closed {
			continue
		}
		kind, n, err := decodeExt(l.Extensions)
		if err != nil {
			flush()
			j.mu.Unlock()
			j.fail(fmt.Errorf("record %d in %s: %w", l.Index, j.store.path, err))
			return j.noAnswers(len(logs))
		}
		if kind == extClaim {
			flush()
			j.epoch = epoch{l.Index, l.Term}
			if n == j.claim {
				j.claim, j.leading, j.lead = 0, true, j.epoch
				j.push(Event{Kind: EventLeading, Term: l.Term, Index: l.Index})
			}
			continue
		}
		if n != j.epoch.index || l.Term != j.epoch.term {
			j.cfg.Logger.Info("journal: record of a lost leadership skipped", "index", l.Index, "term", l.Term)
			continue
		}
		ev := Event{Kind: EventCommitted, Term: l.Term, Own: j.leading && n == j.lead.index}
		if ev.Term != current.Term || ev.Own != current.Own {
			flush()
		}
		current = ev
		records = append(records, Record{Index: l.Index, Data: l.Data})
		j.applied = l.Index
	}
	flush()
	for j.bytes > j.cfg.maxWaiting && !j.closed && (j.snap == nil || j.snap.fixed) {
		wait := j.waitSpace()
		j.mu.Unlock()
		select {
		case <-wait:
		case <-j.done:
		}
		j.mu.Lock()
	}
	j.mu.Unlock()
	return j.noAnswers(len(logs))
}

// noAnswers returns n times nil. raft takes them out before it calls again, and
// always from one goroutine, so the array serves for ever.
func (j *Raft) noAnswers(n int) []any {
	if n > len(j.answers) {
		j.answers = make([]any, n)
	}
	return j.answers[:n]
}

// Restore implements raft.FSM: the leader sent a snapshot. It returns when the
// receiver of the event has closed the reader, since raft closes it then.
func (f *fsm) Restore(src io.ReadCloser) error {
	j := (*Raft)(f)
	head, err := readHead(src)
	if err != nil {
		j.fail(fmt.Errorf("snapshot from the leader: %w", err))
		return err
	}
	r := &gate{Reader: src, done: make(chan struct{})}
	j.mu.Lock()
	j.epoch, j.applied, j.snapIndex = head.epoch, head.index, head.index
	j.push(Event{Kind: EventRestore, Term: head.term, Index: head.index, Snapshot: r})
	j.mu.Unlock()
	select {
	case <-r.done:
	case <-j.done:
	}
	return nil
}
