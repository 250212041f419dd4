// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/coordinator/journal"
)

// wantSnapshot fails unless the journal began with a snapshot of want.
func (o *owner) wantSnapshot(want string) {
	o.t.Helper()
	if o.restored == 0 || string(o.snapshot) != want {
		o.t.Fatalf("restored %q from index %d, want %q", o.snapshot, o.restored, want)
	}
	if o.events[0] != journal.EventRestore {
		o.t.Fatalf("events %v: the snapshot is not first", o.events)
	}
}

func testSnapshotTail(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 500)...)
	at := o.last()
	o.mustCut("five hundred")
	o.put(records(500, 510)...)
	tail := o.state[500:]
	o.close()
	for range 2 {
		o = open(t, s)
		o.wantSnapshot("five hundred")
		if o.restored != at {
			t.Fatalf("snapshot stands for %d, want %d", o.restored, at)
		}
		if d := cmp.Diff(tail, o.state); d != "" {
			t.Fatalf("tail (-before +after):\n%s", d)
		}
		o.close()
	}
}

func testSnapshotFollowed(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 10)...)
	wait := o.cut("ten")
	o.put(records(10, 300)...)
	if err := wait(); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	o.close()
	o = open(t, s)
	o.wantSnapshot("ten")
	o.wantData(records(10, 300))
}

func testSnapshotOnly(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(record(0))
	o.mustCut("one")
	o.close()
	o = open(t, s)
	o.wantSnapshot("one")
	o.wantData(nil)
	o.put(record(1))
	o.wantData([][]byte{record(1)})
	o.close()
	o = open(t, s)
	o.wantSnapshot("one")
	o.wantData([][]byte{record(1)})
}

func testSnapshotTwice(t *testing.T, s Subject) {
	o := open(t, s)
	for i := range 5 {
		o.put(records(100*i, 100*i+100)...)
		o.mustCut(fmt.Sprint("snapshot ", i))
	}
	o.close()
	o = open(t, s)
	o.wantSnapshot("snapshot 4")
	o.wantData(nil)
	o.mustCut("again, of nothing new")
	o.put(record(500))
	o.close()
	o = open(t, s)
	o.wantSnapshot("again, of nothing new")
	o.wantData([][]byte{record(500)})
}

func testSnapshotRefused(t *testing.T, s Subject) {
	never := func(io.Writer) error { t.Error("write called"); return nil }
	o := open(t, s)
	if err := o.j.Snapshot(never, nil); !errors.Is(err, journal.ErrEmpty) {
		t.Fatalf("of nothing: %v", err)
	}
	o.put(record(0))
	for !o.tryPropose(record(1)) {
		o.settle()
	}
	if err := o.j.Snapshot(never, nil); !errors.Is(err, journal.ErrBusy) {
		t.Fatalf("with a record undecided: %v", err)
	}
	o.settle()
	o.mustCut("two")
}

func testSnapshotFails(t *testing.T, s Subject) {
	broken := errors.New("cannot encode")
	o := open(t, s)
	o.put(records(0, 3)...)
	o.mustCut("three")
	o.put(records(3, 6)...)
	wait := o.cutBy(func(w io.Writer) error {
		if _, err := io.WriteString(w, "half of"); err != nil {
			return err
		}
		return broken
	})
	if err := wait(); !errors.Is(err, broken) {
		t.Fatalf("done with %v, want %v", err, broken)
	}
	o.put(record(6))
	o.close()
	o = open(t, s)
	o.wantSnapshot("three")
	o.wantData(records(3, 7))
	o.mustCut("seven")
	o.close()
	o = open(t, s)
	o.wantSnapshot("seven")
}

func testSnapshotCrash(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 200)...)
	o.mustCut("two hundred")
	o.put(records(200, 203)...)
	s.Crash(o.j)
	o = open(t, s)
	o.wantSnapshot("two hundred")
	o.wantData(records(200, 203))
}
