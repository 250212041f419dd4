// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/volley-batch/volley/coordinator/journal"
)

// owner is a caller as the contract wants it: it takes events as they come, keeps
// what was delivered and checks each event against the rules that hold at all
// times.
type owner struct {
	t testing.TB
	j journal.Journal
	// state is every record since the snapshot, snapshot what was restored.
	state    []journal.Record
	snapshot []byte
	restored uint64 // index of the snapshot, 0: none

	leading  bool
	term     uint64
	proposed [][]byte // and not delivered as own
	// restless: leadership lost is no error. lost are the records that it left
	// undecided or refused, oldest first; what of them was not committed by the
	// time that it is back never will be, and is proposed again.
	restless bool
	lost     [][]byte
	failed   error
	events   []journal.EventKind
}

// patience is for one event on a machine that does much else.
const patience = 60 * time.Second

// open opens the journal and waits until it leads.
func open(t testing.TB, s Subject) *owner {
	t.Helper()
	j, err := s.Open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() }) // closed already in most tests; its error is tested there
	o := &owner{t: t, j: j, restless: s.Restless}
	o.until(func() bool { return o.leading })
	return o
}

// until takes events until ok holds.
func (o *owner) until(ok func() bool) {
	o.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !ok() {
		if ev, more := o.j.Next(); more {
			o.handle(ev)
			continue
		}
		select {
		case <-o.j.Ready():
		case <-limit.C:
			o.t.Fatalf("nothing more for %v; events so far %v, %d proposals undecided, stats %+v", patience, o.events, len(o.proposed), o.j.Stats())
		}
	}
}

// poll takes the events that are there.
func (o *owner) poll() {
	o.t.Helper()
	for ev, ok := o.j.Next(); ok; ev, ok = o.j.Next() {
		o.handle(ev)
	}
}

func (o *owner) last() uint64 {
	if n := len(o.state); n > 0 {
		return o.state[n-1].Index
	}
	return o.restored
}

func (o *owner) handle(ev journal.Event) {
	o.t.Helper()
	o.events = append(o.events, ev.Kind)
	if o.failed != nil {
		o.t.Fatalf("event %v after failure %v", ev.Kind, o.failed)
	}
	if ev.Term < o.term {
		o.t.Fatalf("event %v of term %d after term %d", ev.Kind, ev.Term, o.term)
	}
	switch ev.Kind {
	case journal.EventRestore:
		b, err := io.ReadAll(ev.Snapshot)
		if err != nil {
			o.t.Fatalf("read snapshot: %v", err)
		}
		if err := ev.Snapshot.Close(); err != nil {
			o.t.Fatalf("close snapshot: %v", err)
		}
		if ev.Index <= o.last() {
			o.t.Fatalf("snapshot of %d after record %d", ev.Index, o.last())
		}
		o.snapshot, o.restored, o.state = b, ev.Index, nil
	case journal.EventCommitted:
		if len(ev.Records) == 0 {
			o.t.Fatal("committed event without records")
		}
		if ev.Own && !o.leading {
			o.t.Fatal("own records outside leadership")
		}
		for _, r := range ev.Records {
			if r.Index <= o.last() {
				o.t.Fatalf("record %d after %d", r.Index, o.last())
			}
			o.state = append(o.state, r)
			if !ev.Own {
				if len(o.lost) > 0 && string(o.lost[0]) == string(r.Data) {
					o.lost = o.lost[1:]
				}
				continue
			}
			if len(o.proposed) == 0 || string(o.proposed[0]) != string(r.Data) {
				o.t.Fatalf("own record %d is not the oldest of %d proposals", r.Index, len(o.proposed))
			}
			o.proposed = o.proposed[1:]
		}
	case journal.EventLeading:
		if o.leading || ev.Term <= 0 {
			o.t.Fatalf("leading in term %d, while leading: %v", ev.Term, o.leading)
		}
		o.leading, o.term = true, ev.Term
		for len(o.lost) > 0 && o.tryPropose(o.lost[0]) {
			o.lost = o.lost[1:]
		}
	case journal.EventFollowing:
		if !o.leading {
			o.t.Fatal("following without leading")
		}
		if o.restless {
			o.lost = append(o.proposed, o.lost...)
		}
		o.leading, o.proposed = false, nil
	case journal.EventFailed:
		if ev.Err == nil {
			o.t.Fatal("failed without an error")
		}
		o.leading, o.proposed, o.failed = false, nil, ev.Err
	default:
		o.t.Fatalf("event of kind %d", ev.Kind)
	}
}

// propose hands over one record and does not wait.
func (o *owner) propose(data []byte) {
	o.t.Helper()
	if len(o.lost) > 0 || !o.tryPropose(data) { // in order
		o.lost = append(o.lost, data)
	}
}

// tryPropose reports whether the record was accepted.
func (o *owner) tryPropose(data []byte) bool {
	o.t.Helper()
	switch err := o.j.Propose(data); {
	case err == nil:
		o.proposed = append(o.proposed, data)
		return true
	case o.restless && errors.Is(err, journal.ErrNotLeader):
		return false
	default:
		o.t.Fatalf("propose: %v", err)
		return false
	}
}

// put proposes records and waits until they are committed.
func (o *owner) put(data ...[]byte) {
	o.t.Helper()
	for _, d := range data {
		o.propose(d)
	}
	o.settle()
}

// settle waits until nothing is undecided.
func (o *owner) settle() {
	o.t.Helper()
	o.until(func() bool {
		o.poll()
		return len(o.proposed)+len(o.lost) == 0 && o.leading
	})
}

// cut takes a snapshot that holds text and returns a function that waits for it.
func (o *owner) cut(text string) (wait func() error) {
	o.t.Helper()
	return o.cutBy(func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func (o *owner) cutBy(write func(io.Writer) error) (wait func() error) {
	o.t.Helper()
	done := make(chan error, 2)
	err := o.j.Snapshot(write, func(err error) { done <- err })
	for ; o.restless && errors.Is(err, journal.ErrBusy); err = o.j.Snapshot(write, func(err error) { done <- err }) {
		o.settle()
	}
	if err != nil {
		o.t.Fatalf("snapshot: %v", err)
	}
	return func() error {
		o.t.Helper()
		limit := time.After(patience)
		for {
			o.poll() // obligation 2
			select {
			case err := <-done:
				return err
			case <-o.j.Ready():
			case <-limit:
				o.t.Fatalf("snapshot not done for %v", patience)
			}
		}
	}
}

// mustCut takes a snapshot and waits for it.
func (o *owner) mustCut(text string) {
	o.t.Helper()
	if err := o.cut(text)(); err != nil {
		o.t.Fatalf("snapshot: %v", err)
	}
}

func (o *owner) close() {
	o.t.Helper()
	if err := o.j.Close(); err != nil {
		o.t.Fatalf("close: %v", err)
	}
}
