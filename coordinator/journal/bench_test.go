// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/volley-batch/volley/coordinator/journal"
)

// BenchmarkAppend proposes batch records and waits until all are committed,
// fsynced.
func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("size=256/batch=%d", batch), func(b *testing.B) {
			j, _ := openLeading(b, journal.RaftConfig{Dir: b.TempDir()})
			data := make([]byte, 256)
			syncs := j.Stats().Syncs
			b.ReportAllocs()
			for b.Loop() {
				for range batch {
					if err := j.Propose(data); err != nil {
						b.Fatal(err)
					}
				}
				for n := batch; n > 0; {
					n -= len(await(b, j).Records)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(j.Stats().Syncs-syncs)/float64(b.N), "syncs/op")
		})
	}
}

// BenchmarkReopen opens a journal and takes its records.
func BenchmarkReopen(b *testing.B) {
	for _, bb := range []struct{ records, size int }{{100_000, 256}, {2_000, 64 << 10}} {
		b.Run(fmt.Sprintf("records=%d/size=%d", bb.records, bb.size), func(b *testing.B) {
			dir := b.TempDir()
			j, _ := openLeading(b, journal.RaftConfig{Dir: dir})
			chunk := min(1000, 64<<20/bb.size)
			for n := 0; n < bb.records; n += chunk {
				for range min(chunk, bb.records-n) {
					if err := j.Propose(make([]byte, bb.size)); err != nil {
						b.Fatal(err)
					}
				}
				for k := min(chunk, bb.records-n); k > 0; {
					k -= len(await(b, j).Records)
				}
			}
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				j, records := openLeading(b, journal.RaftConfig{Dir: dir})
				if len(records) != bb.records {
					b.Fatalf("%d records", len(records))
				}
				if err := j.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpenEmpty creates a journal and waits until it leads. ns/op has the
// closing in it; the metrics do not.
func BenchmarkOpenEmpty(b *testing.B) {
	dir := b.TempDir()
	var open, leading []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		j, err := journal.OpenRaft(journal.RaftConfig{Dir: filepath.Join(dir, fmt.Sprint(i))})
		if err != nil {
			b.Fatal(err)
		}
		open = append(open, time.Since(start))
		awaitKind(b, j, journal.EventLeading)
		leading = append(leading, time.Since(start))
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(open)
	slices.Sort(leading)
	b.ReportMetric(open[len(open)/2].Seconds()*1e3, "p50-ms-to-open")
	b.ReportMetric(leading[len(leading)/2].Seconds()*1e3, "p50-ms-to-lead")
}
