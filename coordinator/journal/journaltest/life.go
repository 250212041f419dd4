// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/volley-batch/volley/coordinator/journal"
)

// testModel lives through random appends, snapshots, restarts and crashes. The
// model is the list of records that were delivered.
func testModel(t *testing.T, s Subject) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var all [][]byte
	base := 0 // all[:base] are in the snapshot
	o := open(t, s)
	steps := 120
	if s.Restless {
		steps = 50 // each election takes its time
	}
	for range steps {
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
	o.restless = false // what is lost stays lost
	want := records(0, 1)
	accepted := func(data []byte) bool {
		switch err := o.j.Propose(data); {
		case errors.Is(err, journal.ErrNotLeader):
			return false
		case err != nil:
			t.Fatalf("propose around the loss: %v", err)
		}
		o.proposed, want = append(o.proposed, data), append(want, data)
		return true
	}
	for i := 1; i <= 100; i++ {
		if !accepted(record(i)) && !s.Restless {
			t.Fatal("refused by a leader")
		}
	}
	s.Depose(o.j)
	// The caller has not seen it yet: refused, or accepted and never committed in
	// the next term.
	accepted([]byte("late"))
	o.until(func() bool { return !o.leading })
	s.Elect(o.j)
	o.until(func() bool { return o.leading })
	n := len(o.state)
	o.restless = s.Restless
	if n < 1 || n > len(want) {
		t.Fatalf("%d records", n)
	}
	o.wantData(want[:n]) // a prefix
	o.put([]byte("new term"))
	o.wantData(append(want[:n:n], []byte("new term")))
}
