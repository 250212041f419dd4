// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
	o := &owner{t: t, j: j}
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
	o.propose(record(1))
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
	done := make(chan error, 2)
	err := o.j.Snapshot(func(w io.Writer) error {
		if _, err := io.WriteString(w, "half of"); err != nil {
			return err
		}
		return broken
	}, func(err error) { done <- err })
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	if err := <-done; !errors.Is(err, broken) {
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

func testStats(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(records(0, 10)...)
	st := o.j.Stats()
	if !st.Leading || st.LeaderID != st.NodeID || st.Term != o.term || st.Proposed != 0 || st.Syncs == 0 || st.LogBytes == 0 ||
		st.DeliveredIndex != o.last() || st.SnapshotIndex != 0 || st.RecordsSinceSnapshot != 10 || st.BytesSinceSnapshot != 80 {
		t.Fatalf("stats %+v", st)
	}
	at := o.last()
	wait := o.cut("ten")
	o.put(records(0, 2)...)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if st := o.j.Stats(); st.SnapshotIndex != at || st.RecordsSinceSnapshot != 2 || st.BytesSinceSnapshot != 16 || st.DeliveredIndex != o.last() {
			t.Fatalf("stats %+v, snapshot at %d, last %d", st, at, o.last())
		}
	}
	check()
	o.close()
	o = open(t, s)
	check()
}

// testModel lives through random appends, snapshots, restarts and crashes. The
// model is the list of records that were delivered.
func testModel(t *testing.T, s Subject) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var all [][]byte
	base := 0 // all[:base] are in the snapshot
	o := open(t, s)
	for range 120 {
		switch rng.IntN(8) {
		case 0:
			o.mustCutIf(len(all) > 0, len(all))
			if len(all) > 0 {
				base = len(all)
			}
		case 1, 2:
			if rng.IntN(2) == 0 {
				o.close()
			} else {
				s.Crash(o.j)
			}
			o = open(t, s)
			if base > 0 {
				o.wantSnapshot(fmt.Sprint(base))
			}
			o.wantData(all[base:])
		default:
			for range rng.IntN(30) {
				d := make([]byte, rng.IntN(600))
				for i := range d {
					d[i] = byte(rng.Uint32())
				}
				all = append(all, d)
				o.propose(d)
			}
			o.settle()
		}
	}
}

func (o *owner) mustCutIf(ok bool, n int) {
	o.t.Helper()
	if ok {
		o.mustCut(fmt.Sprint(n))
	}
}

func testDepose(t *testing.T, s Subject) {
	o := open(t, s)
	for round := range 3 {
		term := o.term
		o.put(record(2*round), record(2*round+1))
		s.Depose(o.j)
		o.until(func() bool { return !o.leading })
		if err := o.j.Propose(record(99)); !errors.Is(err, journal.ErrNotLeader) {
			t.Fatalf("propose as a follower: %v", err)
		}
		s.Elect(o.j)
		o.until(func() bool { return o.leading })
		if o.term <= term {
			t.Fatalf("leads in term %d after term %d", o.term, term)
		}
	}
	o.put(record(6))
	o.wantData(records(0, 7))
}

func testDeposeInFlight(t *testing.T, s Subject) {
	o := open(t, s)
	o.put(record(0))
	for i := 1; i <= 100; i++ {
		o.propose(record(i))
	}
	s.Depose(o.j)
	// The caller has not seen it yet: refused, or accepted and never committed in
	// the next term.
	late := o.j.Propose([]byte("late"))
	if late != nil && !errors.Is(late, journal.ErrNotLeader) {
		t.Fatalf("propose around the loss: %v", late)
	}
	if late == nil {
		o.proposed = append(o.proposed, []byte("late"))
	}
	o.until(func() bool { return !o.leading })
	s.Elect(o.j)
	o.until(func() bool { return o.leading })
	n := len(o.state)
	want := append(records(0, 101), []byte("late"))
	if n < 1 || n > len(want) {
		t.Fatalf("%d records", n)
	}
	o.wantData(want[:n]) // a prefix
	o.put([]byte("new term"))
	o.wantData(append(want[:n:n], []byte("new term")))
}
