// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/coordinator/journal"
)

// Subject is an implementation on fresh storage.
type Subject struct {
	// Open opens the journal on the storage, again each time. It is elected
	// without further ado.
	Open func() (journal.Journal, error)
	// Crash ends j as a power cut would; Open works afterwards.
	Crash func(j journal.Journal)
	// Restless: the machine may take the leadership at any time, and give it back.
	Restless bool
	// Depose takes the leadership from j and Elect gives it back. Both or none;
	// without them the subtests for leadership are not there.
	Depose, Elect func(j journal.Journal)
}

// Run executes the suite. New is called once per subtest, which owns the subject.
func Run(t *testing.T, newSubject func(t *testing.T) Subject) {
	tests := map[string]func(*testing.T, Subject){
		"first open leads":              testFirstOpen,
		"order":                         testOrder,
		"many in flight":                testManyInFlight,
		"sizes":                         testSizes,
		"reopen":                        testReopen,
		"crash":                         testCrash,
		"propose before leading":        testBeforeLeading,
		"closed":                        testClosed,
		"close with proposals":          testCloseInFlight,
		"double open":                   testDoubleOpen,
		"buffers":                       testBuffers,
		"snapshot and tail":             testSnapshotTail,
		"snapshot, records follow":      testSnapshotFollowed,
		"snapshot only":                 testSnapshotOnly,
		"snapshot of a snapshot":        testSnapshotTwice,
		"snapshot refused":              testSnapshotRefused,
		"snapshot whose write fails":    testSnapshotFails,
		"snapshot survives crash":       testSnapshotCrash,
		"stats":                         testStats,
		"random life against the model": testModel,
	}
	if probe := newSubject(t); probe.Depose != nil {
		tests["leadership lost"] = testDepose
		tests["leadership lost with proposals"] = testDeposeInFlight
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newSubject(t))
		})
	}
}

func record(i int) []byte { return fmt.Appendf(nil, "record %d", i) }

func records(from, to int) (out [][]byte) {
	for i := from; i < to; i++ {
		out = append(out, record(i))
	}
	return out
}

// wantData fails unless the state is exactly data.
func (o *owner) wantData(data [][]byte) {
	o.t.Helper()
	var got [][]byte
	for _, r := range o.state {
		got = append(got, r.Data)
	}
	if d := cmp.Diff(text(data), text(got)); d != "" {
		o.t.Fatalf("records (-want +got):\n%s", d)
	}
}

func text(data [][]byte) []string {
	out := make([]string, len(data))
	for i, d := range data {
		out[i] = string(d)
	}
	return out
}

func testFirstOpen(t *testing.T, s Subject) {
	o := open(t, s)
	if d := cmp.Diff([]journal.EventKind{journal.EventLeading}, o.events); d != "" {
		t.Fatalf("events of an empty journal (-want +got):\n%s", d)
	}
	o.close()
}

func testOrder(t *testing.T, s Subject) {
	o := open(t, s)
	for i := range 20 {
		o.put(record(i))
	}
	o.wantData(records(0, 20))
}

func testManyInFlight(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 1000)...)
	o.wantData(records(0, 1000))
	first := o.state
	o.close()
	o = open(t, s)
	if d := cmp.Diff(first, o.state); d != "" {
		t.Fatalf("after reopen (-before +after):\n%s", d)
	}
}

func testSizes(t *testing.T, s Subject) {
	large := bytes.Repeat([]byte("volley"), 8<<20/6)
	data := [][]byte{{}, {0}, large, []byte("after")}
	o := open(t, s)
	o.put(data...)
	if err := o.j.Propose(make([]byte, journal.MaxRecord+1)); !errors.Is(err, journal.ErrTooLarge) {
		t.Fatalf("record above the limit: %v", err)
	}
	o.close()
	o = open(t, s)
	if len(o.state) != len(data) {
		t.Fatalf("%d records after reopen, want %d", len(o.state), len(data))
	}
	for i, d := range data {
		if !bytes.Equal(d, o.state[i].Data) {
			t.Errorf("record %d has %d bytes, want %d, or others", i, len(o.state[i].Data), len(d))
		}
	}
}

func testReopen(t *testing.T, s Subject) {
	var before []journal.Record
	for round := range 4 {
		o := open(t, s)
		if d := cmp.Diff(before, o.state); d != "" {
			t.Fatalf("round %d (-before +after):\n%s", round, d)
		}
		o.put(records(10*round, 10*round+10)...)
		before = o.state
		o.close()
	}
}

func testCrash(t *testing.T, s Subject) {
	o := open(t, s)
	term := o.term
	o.put(records(0, 50)...)
	before := o.state
	s.Crash(o.j)
	o = open(t, s)
	if d := cmp.Diff(before, o.state); d != "" {
		t.Fatalf("acknowledged records (-before +after):\n%s", d)
	}
	if o.term <= term {
		t.Fatalf("term %d after term %d", o.term, term)
	}
	o.put(record(50))
	o.wantData(records(0, 51))
}

func testBeforeLeading(t *testing.T, s Subject) {
	j, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	// Nothing was taken from Next, so the caller cannot know that it leads.
	if err := j.Propose(record(0)); !errors.Is(err, journal.ErrNotLeader) {
		t.Fatalf("propose before EventLeading: %v", err)
	}
	o := &owner{t: t, j: j, restless: s.Restless}
	o.until(func() bool { return o.leading })
	o.put(record(1))
	o.wantData([][]byte{record(1)})
	o.close()
}

func testClosed(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(record(0))
	o.close()
	if err := o.j.Propose(record(1)); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("propose: %v", err)
	}
	if err := o.j.Snapshot(nil, nil); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("snapshot: %v", err)
	}
	if ev, ok := o.j.Next(); ok {
		t.Errorf("event %v", ev.Kind)
	}
	if o.j.Stats().Leading {
		t.Error("stats say that it leads")
	}
	if err := o.j.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func testCloseInFlight(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(record(0))
	for i := 1; i <= 200; i++ {
		o.propose(record(i))
	}
	o.close()
	o = open(t, s)
	if n := len(o.state); n < 1 || n > 201 {
		t.Fatalf("%d records", n)
	}
	o.wantData(records(0, len(o.state))) // a prefix, without holes
}

func testDoubleOpen(t *testing.T, s Subject) {
	o := open(t, s)
	if j, err := s.Open(); !errors.Is(err, journal.ErrLocked) {
		t.Fatalf("second open: %v, %v", j, err)
	}
	o.put(record(0)) // undisturbed
	o.close()
	o = open(t, s)
	o.wantData([][]byte{record(0)})
}

func testBuffers(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 100)...)
	o.close()
	o = open(t, s)
	kept := o.state
	o.put(records(100, 1000)...)
	o.mustCut("snapshot")
	o.put(records(1000, 1100)...)
	for i, r := range kept {
		if string(r.Data) != string(record(i)) {
			t.Fatalf("record %d became %q", i, r.Data)
		}
	}
	if &o.state[0].Data[0] == &o.state[1].Data[0] {
		t.Fatal("two records share memory")
	}
	o.close()
	for i, r := range kept {
		if string(r.Data) != string(record(i)) {
			t.Fatalf("record %d became %q after close", i, r.Data)
		}
	}
}

func testStats(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 10)...)
	o.wantStats(func(st journal.Stats) bool {
		return st.Leading && st.LeaderID == st.NodeID && st.Term == o.term && st.Proposed == 0 && st.Syncs > 0 && st.LogBytes > 0 &&
			st.DeliveredIndex == o.last() && st.SnapshotIndex == 0 && st.RecordsSinceSnapshot == 10 && st.BytesSinceSnapshot == 80
	})
	at := o.last()
	wait := o.cut("ten")
	o.put(records(0, 2)...)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	after := func(st journal.Stats) bool {
		return st.SnapshotIndex == at && st.RecordsSinceSnapshot == 2 && st.BytesSinceSnapshot == 16 && st.DeliveredIndex == o.last()
	}
	o.wantStats(after)
	o.close()
	o = open(t, s)
	o.wantStats(after)
}

// wantStats fails unless the figures are right while nothing happens.
func (o *owner) wantStats(right func(journal.Stats) bool) {
	o.t.Helper()
	for {
		o.settle()
		seen, st := len(o.events), o.j.Stats()
		if right(st) {
			return
		}
		o.poll()
		if !o.restless || len(o.events) == seen {
			o.t.Fatalf("stats %+v, last record %d, term %d", st, o.last(), o.term)
		}
	}
}
