// SPDX-License-Identifier: Apache-2.0

// Package journal is a durable, ordered log of opaque records, with snapshots and
// leadership. It knows bytes only; what they mean is the engine's affair.
//
// There are two implementations of one contract, held to it by the suite in
// package journaltest: Raft, hashicorp/raft over files, one node or several by
// the same code path; and Memory, which has no goroutines and no clock, and
// injects faults, for the simulator.
//
// # The loop of the caller
//
//	for {
//		select {
//		case <-j.Ready():
//			for ev, ok := j.Next(); ok; ev, ok = j.Next() {
//				switch ev.Kind {
//				case journal.EventRestore:   // drop the state, read ev.Snapshot, close it
//				case journal.EventCommitted: // ev.Own: release effects; else: apply
//				case journal.EventLeading:   // start to decide and to propose
//				case journal.EventFollowing: // drop the speculative state
//				case journal.EventFailed:    // stop
//				}
//			}
//		case cmd := <-inbox:
//			data := apply(cmd) // speculation
//			err := j.Propose(data)
//		}
//	}
//
// Events are pulled (Ready, Next), not sent through a channel. A select loop
// needs a channel to wake it and a single-threaded simulator must not have one;
// a channel of events would need a goroutine to feed it, so the simulator would
// have no fixed order, and would cost a hop per event when a restart replays the
// log. Records that commit while the caller is busy arrive as one event.
//
// # Obligations of the caller
//
//  1. One goroutine calls Propose, Next and Snapshot. Only so is "the last
//     record that Next returned" a place in the log that it can speak about.
//  2. It goes on calling Next. A journal whose events nobody takes stops
//     applying once 64 MiB wait.
//  3. It proposes only between EventLeading and EventFollowing; otherwise
//     Propose refuses. A record that was accepted while leadership was being
//     lost and won again unnoticed is never committed in the later term: every
//     record carries the term it was meant for, and all nodes skip it elsewhere.
//     Otherwise a decision made on the state of one term would be applied to the
//     state of another.
//  4. It releases no effect of a record before EventCommitted brings it. Own
//     records come in the order of Propose, none left out, so a queue of waiting
//     effects is enough; Index is not needed to match them.
//  5. On EventFollowing it drops everything that rests on records not yet
//     delivered. They are undecided: some may still arrive with Own unset. The
//     state is rebuilt from what was delivered, which the caller keeps or reads
//     again by reopening the journal.
//  6. On EventRestore it replaces its state, and closes the reader before it
//     calls Next again. The records of a snapshot are not delivered.
//  7. On EventFailed it stops the node. It does not reopen the directory in the
//     same process to try once more: after a failed fsync the kernel may report
//     success for pages that it has dropped.
//  8. It calls Snapshot when every record that it proposed was delivered and
//     applied, with a copy that later changes do not reach. Snapshots are never
//     taken by the journal itself: only the caller knows where its speculation
//     and the commit mark meet.
//  9. It never writes to a slice that it has proposed or received.
//
// # Order
//
// After an open: EventRestore if there is a snapshot, then EventCommitted for
// what follows it, then EventLeading if this node is elected. EventLeading comes
// after all records of earlier terms. Leading and Following alternate. Every
// record is delivered once per open, in log order, and the order is the same on
// every node. EventFailed is last.
//
// # Durability
//
// A record is delivered only after a majority of the nodes (with one node: this
// one) has fsynced it; one fsync covers all records that were proposed while the
// one before ran. Records that were delivered survive kill -9 and power loss, and
// a reopen delivers them again unless a snapshot stands for them. Records that
// were proposed and not delivered may or may not survive; of those, a prefix
// survives, never one without those before it.
//
// # Damage
//
// Opening verifies every record's checksum, the order of the indexes without a
// gap from the snapshot on, both copies of the root page, and the snapshot's
// checksum; what does not fit is an error that wraps ErrCorrupt and names the
// file. A newer format version is refused. A disk that fails, fills up or turns
// out corrupt at run time ends in EventFailed, never in a panic. What cannot be
// seen: a directory that was rolled back as a whole to an older, consistent state
// (a restored backup, a disk that lied about fsync).
package journal
