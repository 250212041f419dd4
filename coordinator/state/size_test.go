// SPDX-License-Identifier: Apache-2.0

package state

import (
	"runtime"
	"testing"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// recorded makes a state with n children of one array that have ended, each
// with a start, duration, exit code, worker and attempt of its own.
func recorded(tb testing.TB, n uint64) *State {
	tb.Helper()
	s := New()
	apply := func(e *journalv1.Entry) {
		if _, _, err := s.Apply(e); err != nil {
			tb.Fatal(err)
		}
	}
	apply(&journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: &volleyv1.Hello{
		NodeId: "n", Name: "n", Epoch: 1, Capacity: &volleyv1.Resources{CpuMilli: 64_000},
	}}}})
	apply(&journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Size: n, Array: true, Spec: &volleyv1.JobSpec{Name: "j"}}}})
	const step = 10_000
	seq := uint64(0)
	for first := uint64(0); first < n; first += step {
		count := min(step, n-first)
		apply(&journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: &journalv1.Grant{NodeId: "n", Job: 1, Attempt: 1, Parallel: 64, Runs: []uint64{first, count}}}})
		lr := &volleyv1.LeaseReport{LeaseId: s.nextLease - 1, Finished: []uint64{first, count}}
		for k := range count {
			lr.StartMs = append(lr.StartMs, int64(k%7))
			lr.DurationUs = append(lr.DurationUs, 1000+k)
			lr.Outcome = append(lr.Outcome, uint32(k%2))
			lr.ExitCode = append(lr.ExitCode, uint32(k%2))
			lr.PeakKib = append(lr.PeakKib, k)
			lr.CpuMs = append(lr.CpuMs, k%100)
		}
		seq++
		apply(&journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
			NodeId: "n", Epoch: 1, Session: 1, Report: &volleyv1.Report{Seq: seq, Leases: []*volleyv1.LeaseReport{lr}},
		}}})
	}
	if c := s.Job(1).Counts(); c.GetSucceeded()+c.GetFailed() != n {
		tb.Fatalf("%v of %d recorded", c, n)
	}
	return s
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestChildBytes is not parallel: it measures the heap of the process.
func TestChildBytes(t *testing.T) {
	const n = 1_000_000
	before := heap()
	s := recorded(t, n)
	per := float64(heap()-before) / n
	runtime.KeepAlive(s)
	t.Logf("%.2f bytes a child", per)
	if per > 32 {
		t.Errorf("%.2f bytes a recorded child, want at most 32", per)
	}
}

func BenchmarkChildBytes(b *testing.B) {
	const n = 1_000_000
	per := 0.0
	for b.Loop() {
		before := heap()
		s := recorded(b, n)
		per = float64(heap()-before) / n
		runtime.KeepAlive(s)
	}
	b.ReportMetric(per, "B/child")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/child")
}

// TestHugeArray: submit and cancel cost what a job costs, not what its children
// would. Not parallel: it counts allocated bytes.
func TestHugeArray(t *testing.T) {
	for _, tt := range []struct {
		name string
		size uint64
		deps []*journalv1.Depend
	}{
		{"10^8", 100_000_000, nil},
		{"10^18", 1_000_000_000_000_000_000, nil},
		{"10^18 sequential", 1_000_000_000_000_000_000, []*journalv1.Depend{{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New()
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			for n, e := range []*journalv1.Entry{
				{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Size: tt.size, Array: true, Spec: &volleyv1.JobSpec{Name: "j"}, DependsOn: tt.deps}}},
				{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Size: tt.size, Array: true, Spec: &volleyv1.JobSpec{Name: "k"}, DependsOn: []*journalv1.Depend{{Job: 1, Type: nToN}}}}},
				{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1}}},
				{Op: &journalv1.Entry_Rerun{Rerun: &journalv1.Rerun{Job: 1}}},
				{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1, Terminate: true}}},
			} {
				if _, _, err := s.Apply(e); err != nil {
					t.Fatalf("entry %d: %v", n, err)
				}
			}
			_ = write(t, s.Freeze())
			runtime.ReadMemStats(&b)
			if got := b.TotalAlloc - a.TotalAlloc; got > 1<<20 {
				t.Errorf("%d bytes allocated, want at most 1 MiB", got)
			}
			if j := s.Job(2); j.Counts().GetFailed() != tt.size || !j.Terminal() {
				t.Errorf("the dependent has %v", j.Counts())
			}
			if err := s.CheckInvariants(); err != nil {
				t.Error(err)
			}
		})
	}
}
