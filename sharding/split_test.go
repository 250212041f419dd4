// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// covers fails unless the shards are the records, each once, in order.
func covers(t interface{ Fatalf(string, ...any) }, s *Shards, records uint64) {
	next := uint64(0)
	for k := range s.Len() {
		run := s.At(k)
		if run.First != next || run.Count == 0 {
			t.Fatalf("shard %d of %d is %v, want it to begin at %d", k, s.Len(), run, next)
		}
		next = run.End()
	}
	if next != records {
		t.Fatalf("the shards end at %d of %d records", next, records)
	}
	if run := s.At(s.Len()); run != (Run{}) {
		t.Fatalf("shard beyond the last: %v", run)
	}
}

func TestSplitRows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ records, rows, want uint64 }{
		{1, 1, 1}, {10, 3, 4}, {10, 10, 1}, {10, 11, 1}, {9, 3, 3}, {10, math.MaxInt64, 1},
	} {
		s, err := Split(&Manifest{records: tt.records}, &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: tt.rows}})
		if err != nil || s.Len() != tt.want {
			t.Errorf("%d records by %d: %d shards, %v; want %d", tt.records, tt.rows, s.Len(), err, tt.want)
			continue
		}
		covers(t, s, tt.records)
	}
	huge, err := Split(&Manifest{records: maxIndex}, &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	if last := huge.At(huge.Len() - 1); last.End() != maxIndex {
		t.Errorf("last shard of 2^63 records: %v", last)
	}
	for _, shard := range []*volleyv1.Shard{nil, {}, {By: &volleyv1.Shard_TargetMs{TargetMs: 60_000}}} {
		if s, err := Split(&Manifest{records: 7}, shard); err != nil || s.Len() != 7 || s.At(3) != (Run{3, 1}) {
			t.Errorf("%v: %v", shard, err)
		}
	}
	if _, err := Split(&Manifest{records: 7}, &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: 7}}); err == nil {
		t.Error("by bytes without boundaries: no error")
	}
}

// TestSplitRandom holds for random data sets that each record is in one shard,
// that a shard by bytes ends with the record that reaches the size, and that
// shards written and read again are the data set.
func TestSplitRandom(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		content := map[string]string{}
		line := rapid.OneOf(rapid.StringMatching(`[a-z ]{0,12}`), rapid.StringMatching(`x{20,90}`))
		ends := rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"})
		var want []string
		var sizes []uint64
		for f := range rapid.IntRange(1, 3).Draw(rt, "files") {
			var b strings.Builder
			for range rapid.IntRange(0, 40).Draw(rt, "lines") {
				l, end := line.Draw(rt, "line"), ends.Draw(rt, "end")
				b.WriteString(l + end)
				if l != "" {
					want = append(want, l)
					sizes = append(sizes, uint64(len(l)+min(len(end), 2)))
					if end == "\n\n" {
						sizes[len(sizes)-1]-- // the empty line is no record's
					}
				}
			}
			content[fmt.Sprintf("%d/%d.txt", n, f)] = b.String()
		}
		if len(want) == 0 {
			return
		}
		dir := treeAt(t, root, content)
		size := rapid.Uint64Range(1, 300).Draw(rt, "size")
		shard := &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: size}}
		m := build(t, dir, &volleyv1.Map{Over: fmt.Sprintf("%d/*.txt", n), Format: formatLines, Shard: shard})
		byBytes, err := Split(m, shard)
		if err != nil {
			rt.Fatal(err)
		}
		covers(rt, byBytes, uint64(len(want)))
		for k := range byBytes.Len() {
			run, sum := byBytes.At(k), uint64(0)
			for i := run.First; i < run.End(); i++ {
				if sum >= size {
					rt.Fatalf("shard %v goes on after %d of %d bytes", run, sum, size)
				}
				sum += sizes[i]
			}
			if sum < size && k+1 < byBytes.Len() {
				rt.Fatalf("shard %v ends after %d of %d bytes", run, sum, size)
			}
		}
		byRows, err := Split(m, &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: rapid.Uint64Range(1, 50).Draw(rt, "rows")}})
		if err != nil {
			rt.Fatal(err)
		}
		covers(rt, byRows, uint64(len(want)))
		r, err := m.Open(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		var b strings.Builder
		for _, k := range rapid.Permutation(indexes(byRows.Len())).Draw(rt, "order") {
			b.Reset()
			run := byRows.At(k)
			if err := WriteRecords(&b, r, run); err != nil {
				rt.Fatal(err)
			}
			if w := strings.Join(want[run.First:run.End()], "\n") + "\n"; b.String() != w {
				rt.Fatalf("shard %v is %q, want %q", run, b.String(), w)
			}
		}
	})
}

func indexes(n uint64) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i)
	}
	return out
}

func TestSplitFilesByBytes(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"a": "1234", "b": "", "c": "1", "d": "123456789", "e": "1"})
	shard := &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: 5}}
	s, err := Split(build(t, dir, &volleyv1.Map{Over: "*", Shard: shard}), shard)
	if err != nil {
		t.Fatal(err)
	}
	covers(t, s, 5)
	if s.Len() != 3 || s.At(0) != (Run{0, 3}) || s.At(1) != (Run{3, 1}) || s.At(2) != (Run{4, 1}) {
		t.Errorf("%d shards: %v %v %v", s.Len(), s.At(0), s.At(1), s.At(2))
	}
}

func TestCutBuilder(t *testing.T) {
	t.Parallel()
	// Equal shards are one run.
	b := cutBuilder{cutList: cutList{bytes: 100}}
	for range 1_000_000 {
		if err := b.add(100); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.shard) != 2 || b.len() != 1_000_000 {
		t.Errorf("%d runs, %d shards", len(b.shard)-1, b.len())
	}
	// Shards that all differ from their neighbours are refused in the end.
	b = cutBuilder{cutList: cutList{bytes: 100}}
	var err error
	n := 0
	for ; err == nil && n < 4*maxCuts; n++ {
		if n%3 == 0 {
			err = b.add(100)
		} else {
			err = b.add(50)
		}
	}
	if err == nil || n > 3*maxCuts/2+3 {
		t.Errorf("no refusal after %d records: %v", n, err)
	}
	if got := shardError(err, 100).Error(); !strings.Contains(got, "map.shard.bytes") || !strings.Contains(got, "use rows") {
		t.Errorf("error %q", got)
	}
	var c cutList
	if c.add(math.MaxUint64, 3) || c.add(0, 1) || c.add(1, 0) || c.add(1<<63, 1<<62) {
		t.Error("add takes runs that overflow")
	}
}

func TestFuseCount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		target, per time.Duration
		last, limit uint64
		want        uint64
	}{
		{time.Minute, 0, 0, 0, 1},                            // nothing known
		{time.Minute, time.Millisecond, 0, 0, 1},             // nothing run: grow from one
		{time.Minute, time.Millisecond, 1, 0, 2},             // doubles
		{time.Minute, time.Millisecond, 1 << 20, 0, 60_000},  // at once down
		{time.Minute, time.Second, 50, 0, 60},                // reaches the target
		{time.Minute, time.Hour, 50, 0, 1},                   // never below one
		{time.Minute, time.Second, 50, 20, 20},               // limit
		{time.Minute, 0, 8, 0, 8},                            // no new measurement
		{time.Minute, -time.Second, 8, 4, 4},                 // clock went back
		{0, time.Second, 8, 0, 1},                            // no target
		{math.MaxInt64, 1, math.MaxUint64, 0, math.MaxInt64}, // no overflow
	} {
		if got := FuseCount(tt.target, tt.per, tt.last, tt.limit); got != tt.want {
			t.Errorf("FuseCount(%v, %v, %d, %d) = %d, want %d", tt.target, tt.per, tt.last, tt.limit, got, tt.want)
		}
	}
	// A process start of 5 s and 1 ms a record: the count settles where the
	// process takes the target.
	count := uint64(0)
	var took time.Duration
	per := time.Duration(0)
	for range 40 {
		count = FuseCount(time.Minute, per, count, 0)
		took = 5*time.Second + time.Duration(count)*time.Millisecond
		per = took / time.Duration(count)
	}
	if took < 50*time.Second || took > 61*time.Second {
		t.Errorf("settles at %d records, %v", count, took)
	}
}
