// SPDX-License-Identifier: Apache-2.0

package output

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
)

// BenchmarkAttempt is what one attempt costs beside its process.
func BenchmarkAttempt(b *testing.B) {
	for _, bytes := range []int{0, 100} {
		b.Run(fmt.Sprintf("bytes=%d", bytes), func(b *testing.B) {
			b.ReportAllocs()
			s := openStore(b, b.TempDir(), Options{})
			slot := s.Slot(0)
			text := make([]byte, bytes)
			index := uint64(0)
			for b.Loop() {
				o, _, err := slot.Begin(Ref{1, index, 1})
				if err != nil {
					b.Fatal(err)
				}
				if bytes > 0 {
					if _, err := syscall.Write(o, text); err != nil {
						b.Fatal(err)
					}
				}
				slot.Started()
				if _, err := slot.End(false); err != nil {
					b.Fatal(err)
				}
				index++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
		})
	}
}

// BenchmarkMemory reports what the index of a million attempts holds in memory.
func BenchmarkMemory(b *testing.B) {
	const attempts = 1_000_000
	for _, silent := range []bool{false, true} {
		b.Run(fmt.Sprintf("silent=%v/attempts=%d", silent, attempts), func(b *testing.B) {
			var perAttempt float64
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				j := &job{}
				for i := range uint64(attempts) {
					// As four slots end: near the order, not in it.
					index := i&^7 + rand.Uint64N(8)
					if silent {
						j.addSilent(1, index, 1)
					} else {
						j.add(entry{index: index, attempt: 1, segment: 1})
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				perAttempt = float64(after.HeapAlloc-before.HeapAlloc) / attempts
				runtime.KeepAlive(j)
			}
			b.ReportMetric(perAttempt, "B/attempt")
		})
	}
}

// BenchmarkOpen reads an index of a million attempts.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := openStore(b, dir, Options{})
	slot := s.Slot(0)
	if _, _, err := slot.Begin(Ref{1, 0, 1}); err != nil {
		b.Fatal(err)
	}
	end(b, slot)
	s.mu.Lock()
	s.segment(1).dirty = true
	for i := range uint64(1_000_000) {
		if err := s.record(Ref{Job: 1, Index: i, Attempt: 1}, entry{index: i, attempt: 1, segment: 1, off: [2]uint32{uint32(i)}, length: [2]uint32{1, 0}}); err != nil {
			b.Fatal(err)
		}
	}
	s.mu.Unlock()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("attempts=1000000", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(dir, Options{})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
