// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"runtime"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// nothing is the task of the benchmarks.
type nothing struct{}

func (nothing) Execute(*Task, *Result) {}

// pump grants n indexes from first on, acknowledges, and answers when all of
// them have been reported.
func (s *fakeSession) pump(first, n uint64) {
	s.send(&volleyv1.ConnectResponse{Grants: []*volleyv1.Grant{grantOf(1, 64, first, n)}})
	for done := uint64(0); done < n; {
		m := s.await("results", func(m *volleyv1.ConnectRequest) bool { return m.GetReport() != nil })
		for _, l := range m.GetReport().GetLeases() {
			for i := 1; i < len(l.GetFinished()); i += 2 {
				done += l.GetFinished()[i]
			}
		}
		s.send(&volleyv1.ConnectResponse{AckedSeq: m.GetReport().GetSeq()})
		s.forget()
	}
}

// forget drops the messages that were looked at.
func (s *fakeSession) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages[:0], s.messages[s.seen:]...)
	s.seen = 0
}

// BenchmarkDispatch is no-op tasks through leases, slots, accounts, spool and
// gRPC over a pipe, acknowledged.
func BenchmarkDispatch(b *testing.B) {
	for _, slots := range []int64{1, 2, 4} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			c := newCoordinator(b)
			c.start(Config{Executor: nothing{}, Capacity: cpus(slots)})
			s := c.welcomed()
			s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, 1<<40, nil)}})
			const batch = 200_000
			first := uint64(0)
			s.pump(first, batch)
			b.ReportAllocs()
			for b.Loop() {
				first += batch
				s.pump(first, batch)
			}
			b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}

func TestNoAllocationPerTask(t *testing.T) {
	c := newCoordinator(t)
	c.start(Config{Executor: nothing{}, Capacity: cpus(2)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, 1<<40, nil)}})
	const n = 200_000
	s.pump(0, n) // warm
	s.pump(n, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.pump(2*n, n)
	runtime.ReadMemStats(&after)
	// Reports cost some, the fake coordinator included, and their number depends
	// on the machine; a task that allocated once would cost 1.
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.2 {
		t.Errorf("%.3f allocations per task, want none on the steady path", per)
	}
}
