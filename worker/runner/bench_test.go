// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

func cpuTime(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var ru syscall.Rusage
		if err := syscall.Getrusage(who, &ru); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	return sum
}

// BenchmarkSpawn starts and waits for /bin/true: this package, the system calls
// alone, and os/exec, each from so many slots at once.
func BenchmarkSpawn(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	env := os.Environ()
	fd := null.Fd()
	bare := func(next func() bool) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		attr := &syscall.ProcAttr{Env: env, Files: []uintptr{fd, fd, fd}}
		for next() {
			pid, err := syscall.ForkExec("/bin/true", []string{"true"}, attr)
			if err != nil {
				b.Error(err)
				return
			}
			var ws syscall.WaitStatus
			if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
				b.Error(err)
				return
			}
		}
	}
	osexec := func(next func() bool) {
		for next() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Error(err)
				return
			}
		}
	}
	slot := func(r *Runner, limits Limits) func(func() bool) {
		return func(next func() bool) {
			s := r.NewSlot()
			defer s.Close()
			spec := &Spec{Path: "/bin/true", Args: []string{"true"}, Env: env, Limits: limits}
			for next() {
				if res := s.Run(spec, nil); res.Outcome != succeeded {
					b.Errorf("result %+v", res)
					return
				}
			}
		}
	}
	r := newRunner(b, Options{})
	ways := []struct {
		name string
		loop func(next func() bool)
	}{
		{"forkexec", bare},
		{"runner", slot(r, Limits{})},
		{"runner-memory-limit", slot(r, Limits{MemoryBytes: 64 << 20})},
		{"os-exec", osexec},
	}
	for _, slots := range []int{1, 2, 4} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("way=%s/slots=%d", way.name, slots), func(b *testing.B) {
				b.ReportAllocs()
				var mu sync.Mutex
				ended := false
				next := func() bool {
					mu.Lock()
					defer mu.Unlock()
					ended = ended || !b.Loop()
					return !ended
				}
				before := cpuTime(b)
				var wg sync.WaitGroup
				for range slots {
					wg.Go(func() { way.loop(next) })
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
				// Of worker and tasks together: steadier than the wall on a shared
				// machine.
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/task")
			})
		}
	}
}
