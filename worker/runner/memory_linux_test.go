// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestPeakBelowTheWorkers measures a task that is smaller than this process:
// rusage says this process's memory then.
func TestPeakBelowTheWorkers(t *testing.T) {
	t.Parallel()
	// Not from the heap, which the race detector shadows several times.
	ballast, err := unix.Mmap(-1, 0, 48<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(ballast); err != nil {
			t.Error(err)
		}
	}()
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	r := newRunner(t, Options{})
	for _, tt := range []struct {
		name, line string
		low, high  int64
	}{
		{"the process itself", "exec dd if=/dev/zero of=/dev/null bs=24M count=60", 24 << 20, 32 << 20},
		{"a process of it", "dd if=/dev/zero of=/dev/null bs=24M count=60; true", 24 << 20, 32 << 20},
		{"a small one", "sleep 0.05; true", 1 << 16, 16 << 20},
	} {
		res := r.Run(&Spec{Path: "/bin/sh", Args: []string{"sh", "-c", tt.line}}, nil)
		if res.Outcome != succeeded || res.PeakMemoryBytes < tt.low || res.PeakMemoryBytes > tt.high {
			t.Errorf("%s: peak of %d bytes in %v, want %d to %d; %+v", tt.name, res.PeakMemoryBytes, res.Duration, tt.low, tt.high, res)
		}
	}
}

func TestHighWater(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 5 kB\n": 1234 << 10,
		"Name:\tx\nState:\tZ (zombie)\n":                 0,
		"Name:\tx\nVmHWM:\t  nonsense\n":                 0,
		"Name:\tx\nVmHWM:\t  77 kB":                      77 << 10,
		"":                                               0,
	} {
		if got := highWater([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
