// SPDX-License-Identifier: Apache-2.0

package output

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

var sample = []record{
	{kind: kindOutput, job: 1, entry: entry{index: 7, attempt: 1, segment: 3, off: [2]uint32{100, 0}, length: [2]uint32{20, 5}}},
	{kind: kindOutput, job: math.MaxUint64, entry: entry{
		index: math.MaxUint64 - 1, attempt: math.MaxUint32, segment: math.MaxUint32,
		off: [2]uint32{math.MaxUint32, math.MaxUint32}, length: [2]uint32{math.MaxUint32, math.MaxUint32},
	}},
	{kind: kindSilent, job: 2, attempt: 1, first: 0, count: 1 << 40},
	{kind: kindSilent, job: 2, attempt: 3, first: math.MaxUint64 - 1, count: 1},
	{kind: kindRemoved, job: 1},
}

var recordCmp = cmp.AllowUnexported(record{}, entry{})

func frames(records []record) []byte {
	var w frameWriter
	for i := range records {
		w.put(&records[i])
	}
	w.seal()
	return w.buf
}

func TestRecords(t *testing.T) {
	t.Parallel()
	var got []record
	b := frames(sample)
	if good := decodeFrames(b, func(r *record) { got = append(got, *r) }); good != len(b) {
		t.Errorf("%d of %d bytes decoded", good, len(b))
	}
	if diff := cmp.Diff(sample, got, recordCmp); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range [][]byte{
		{},
		{0},
		{9, 1},
		{1},
		{1, 0x80},
		{3},
		{2, 1, 1, 0, 0},             // no index in the run
		{1, 1, 1, 1, 0, 0, 0, 0, 0}, // segment 0
		{2, 1, 0xff, 0xff, 0xff, 0xff, 0x1f, 0, 1}, // attempt over 32 bits
	} {
		if _, err := decodeRecord(bad, &record{}); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

// FuzzFrames: whatever the bytes, decoding ends, what it gives is encodable,
// and encodes to the same again.
func FuzzFrames(f *testing.F) {
	whole := frames(sample)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(slices.Clone(whole), 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		// As frames, and as the payload of a frame whose checksum is right.
		for _, in := range [][]byte{b, sealed(b)} {
			var got []record
			good := decodeFrames(in, func(r *record) { got = append(got, *r) })
			if good < 0 || good > len(in) || good == 0 && len(got) > 0 {
				t.Fatalf("%d bytes good of %d, %d records", good, len(in), len(got))
			}
			var again []record
			out := frames(got)
			if n := decodeFrames(out, func(r *record) { again = append(again, *r) }); n != len(out) {
				t.Fatalf("own encoding: %d of %d bytes", n, len(out))
			}
			if diff := cmp.Diff(got, again, recordCmp); diff != "" {
				t.Fatalf("(-first +again):\n%s", diff)
			}
			j := &job{}
			for _, r := range got {
				if r.kind == kindSilent {
					j.addSilent(r.attempt, r.first, r.count)
					if _, _, ok := j.find(r.first+r.count-1, r.attempt); !ok {
						t.Fatalf("%+v is not found", r)
					}
				}
			}
		}
	})
}

func sealed(payload []byte) []byte {
	if len(payload) == 0 {
		return nil
	}
	w := frameWriter{buf: append(make([]byte, frameHeader), payload...)}
	w.seal()
	return w.buf
}

// TestRuns compares the set with a plain one.
func TestRuns(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var r runs
		plain := make(map[uint64]bool)
		for range 60 {
			first, n := rng.Uint64N(100), 1+rng.Uint64N(6)
			r.add(first, n)
			for i := range n {
				plain[first+i] = true
			}
			for i := range uint64(110) {
				if r.has(i) != plain[i] {
					t.Fatalf("%d: %v in %v", i, r.has(i), r.list)
				}
			}
			for i := 1; i < len(r.list); i++ {
				if r.list[i-1].first+r.list[i-1].count >= r.list[i].first {
					t.Fatalf("not apart: %v", r.list)
				}
			}
		}
	}
}

// TestFind compares lookups between additions with a plain map.
func TestFind(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	var j job
	type key struct {
		index   uint64
		attempt uint32
	}
	plain := make(map[key]uint32)
	for n := range uint32(4 * maxTail) {
		k := key{rng.Uint64N(2000), 1 + rng.Uint32N(2)}
		j.add(entry{index: k.index, attempt: k.attempt, segment: n + 1})
		plain[k] = n + 1
		if n%97 == 0 || n > 4*maxTail-50 {
			for range 50 {
				k := key{rng.Uint64N(2000), 1 + rng.Uint32N(2)}
				e, silent, ok := j.find(k.index, k.attempt)
				want, known := plain[k]
				if ok != known || silent || e.segment != want {
					t.Fatalf("%v: segment %d, %v; want %d, %v", k, e.segment, ok, want, known)
				}
				last, ok := j.lastAttempt(k.index)
				var wantLast uint32
				for a := range uint32(3) {
					if _, known := plain[key{k.index, a}]; known {
						wantLast = a
					}
				}
				if last != wantLast || ok != (wantLast > 0) {
					t.Fatalf("last attempt of %d: %d, %v; want %d", k.index, last, ok, wantLast)
				}
			}
		}
	}
}

func TestEntrySize(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(entry{}); n != 32 {
		t.Errorf("an attempt costs %d bytes; the package comment says 32", n)
	}
}
