// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"io"
)

// Journal is a durable, ordered log of opaque records with snapshots and
// leadership. The package comment states the obligations of the caller.
//
// No method blocks on the disk or the network but Close. One goroutine, the
// owner, calls Propose, Next and Snapshot; Ready, Stats and Close may be called
// from any goroutine.
type Journal interface {
	// Propose hands over one record and returns at once. Records become durable
	// and are delivered in the order of the calls. The journal owns data from
	// here on: the caller must not write to it again (it may read it).
	//
	// The error is ErrNotLeader, ErrClosed, ErrTooLarge, or wraps ErrFailed;
	// such a record is not in the log and never will be. With a nil error the
	// outcome comes as an event: EventCommitted with Own set, or EventFollowing
	// or EventFailed, after which every record of that term which was not yet
	// delivered is undecided: it may still come as a committed record with Own
	// unset, now or after a restart, or never.
	Propose(data []byte) error

	// Next returns the next event, or false when there is none yet. It never
	// blocks. The record slices are the receiver's for reading only, for as long
	// as it likes: the journal neither reuses nor changes them.
	Next() (Event, bool)

	// Ready receives a token after events have arrived. Once Next has returned
	// false, a token is there as soon as it would return true; so after a receive
	// the caller calls Next until it returns false. A token without an event is
	// possible. The channel is never closed; there is one for all calls.
	Ready() <-chan struct{}

	// Snapshot stores what write writes as the state after the last record that
	// Next has returned, and returns at once; records at or before that point may
	// be dropped from the log when it is durable. write runs later on another
	// goroutine (in Memory: within Snapshot), while newer records are proposed
	// and applied: it must write a frozen copy. done is called exactly once, from
	// any goroutine, possibly before Snapshot returns, and must not block: with
	// nil when the snapshot is durable, with an error when the older one and the
	// log still count. After Close has returned done has been called.
	//
	// An error of Snapshot itself means that neither function is called:
	// ErrBusy: an own record is proposed and not delivered, an event waits in
	// Next, or another snapshot is being written: ask again at the next point
	// where commit mark and speculation meet. ErrEmpty: there is nothing to
	// store. ErrClosed, ErrFailed: as for Propose. done may receive ErrBusy too,
	// on a node that does not lead.
	Snapshot(write func(io.Writer) error, done func(error)) error

	// Stats returns figures for operators. It may be slightly out of date.
	Stats() Stats

	// Close gives up leadership, stops, and releases the directory. It waits for
	// the write in progress. What was proposed and not delivered is undecided.
	// Nothing is delivered afterwards. A second Close is a no-op.
	Close() error
}

// EventKind says what happened. See the package comment for the order of events.
type EventKind uint8

const (
	// EventRestore: Event.Snapshot replaces the whole state. It comes first after
	// an open if there is a snapshot, and on a follower that fell too far behind.
	EventRestore EventKind = iota + 1
	// EventCommitted: Event.Records are durable on a majority, in order.
	EventCommitted
	// EventLeading: this node leads in Event.Term and every earlier record has
	// been delivered. Propose is accepted from here on.
	EventLeading
	// EventFollowing: this node leads no longer. It follows only an EventLeading.
	EventFollowing
	// EventFailed: the storage is broken, Event.Err says how. It is the last
	// event: the node must stop, and must not act on undelivered records.
	EventFailed
)

func (k EventKind) String() string {
	switch k {
	case EventRestore:
		return "restore"
	case EventCommitted:
		return "committed"
	case EventLeading:
		return "leading"
	case EventFollowing:
		return "following"
	case EventFailed:
		return "failed"
	default:
		return "unknown"
	}
}

// Event is one thing that happened. Which fields are set depends on Kind.
type Event struct {
	Kind EventKind
	// Term is the term of the records, or of the leadership won or lost.
	// For EventRestore it is the term of the last record in the snapshot.
	Term uint64
	// Records, of EventCommitted: one or more, of one term, in order. Indexes
	// grow, with gaps: the log has records of its own.
	Records []Record
	// Own, of EventCommitted: this node proposed all Records since its latest
	// EventLeading, so they are the oldest of the proposals that it still waits
	// for. Unset on records of other nodes, of earlier terms, and of before a
	// restart, even if this node wrote them.
	Own bool
	// Snapshot, of EventRestore: what Snapshot's write wrote. The receiver reads
	// it and must Close it; newer events may be delivered only then.
	Snapshot io.ReadCloser
	// Index, of EventRestore: the last record that the snapshot stands for. Of
	// EventLeading: where in the log this leadership begins.
	Index uint64
	// Err, of EventFailed: what broke; wraps ErrFailed and names the file.
	Err error
}

// Record is one committed record.
type Record struct {
	// Index is the record's place in the log; the same on every node, for ever.
	Index uint64
	// Data is what was proposed. Read-only.
	Data []byte
}

// Stats describes a journal.
type Stats struct {
	// NodeID is this node; LeaderID and LeaderAddr are the leader, empty while
	// there is none known.
	NodeID, LeaderID, LeaderAddr string
	Leading                      bool
	Term                         uint64
	// Proposed counts own records that are proposed and not yet delivered.
	Proposed int
	// DeliveredIndex is the last record or snapshot that Next has returned.
	DeliveredIndex uint64
	// SnapshotIndex is the newest durable snapshot's place in the log, 0 if none.
	SnapshotIndex uint64
	// RecordsSinceSnapshot and BytesSinceSnapshot count what Next has returned
	// since the newest snapshot: what a restart replays.
	RecordsSinceSnapshot, BytesSinceSnapshot uint64
	// LogBytes is the size of the log's file or files.
	LogBytes int64
	// Syncs counts writes to the log since it was opened that waited for the disk.
	Syncs uint64
}

// MaxRecord is the largest record that Propose accepts. Larger ones would hold up
// heartbeats between nodes for as long as they are on the wire.
const MaxRecord = 64 << 20

var (
	// ErrNotLeader is the answer to Propose on a node that does not lead.
	ErrNotLeader = errors.New("journal: this node is not the leader")
	// ErrClosed is the answer to any call after Close.
	ErrClosed = errors.New("journal: closed")
	// ErrFailed is wrapped by every error that comes from broken storage.
	ErrFailed = errors.New("journal: storage failed")
	// ErrCorrupt is wrapped by errors about files that are damaged or missing.
	ErrCorrupt = errors.New("it is damaged")
	// ErrLocked is wrapped by the error for a directory that is in use.
	ErrLocked = errors.New("the directory is in use")
	// ErrTooLarge is wrapped by the answer to Propose for more than MaxRecord bytes.
	ErrTooLarge = errors.New("journal: record too large")
	// ErrBusy is the answer to Snapshot at a point where none can be cut.
	ErrBusy = errors.New("journal: no snapshot can be cut here")
	// ErrEmpty is the answer to Snapshot before anything was delivered.
	ErrEmpty = errors.New("journal: nothing to snapshot")
)
