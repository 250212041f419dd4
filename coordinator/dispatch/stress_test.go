// SPDX-License-Identifier: Apache-2.0

package dispatch_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
)

// TestWorkersComeAndGo has workers connect, break off, restart and leave at
// random while jobs run. Each index is recorded once.
func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	const workers, jobs, size = 6, 3, 600
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	// Short, so that leases of workers that stay away run out within the test.
	c := newCluster(t, engine.Options{WorkerLease: 300 * time.Millisecond})
	var ids []uint64
	for range jobs {
		ids = append(ids, c.submit(size))
	}
	var all []*workertest.Worker
	over := make(chan struct{})
	var running sync.WaitGroup
	for n := range workers {
		w := workertest.New(workertest.Options{NodeID: string(rune('a' + n)), CPUs: int64(1 + n%4), Lazy: n%3 == 2})
		all = append(all, w)
		running.Go(func() { comeAndGo(c, w, rand.New(rand.NewPCG(seed, uint64(n))), over) })
	}
	for _, id := range ids {
		j := c.ended(id)
		if got := j.GetCounts(); got.GetSucceeded() != size || got.GetFailed() != 0 {
			t.Errorf("job %d: %v", id, got)
		}
		// Every recorded attempt but the lost ones is the one success of its
		// index.
		if j.GetFinishedAttempts() != size+j.GetLostAttempts() {
			t.Errorf("job %d: %d attempts recorded for %d indexes, %d of them lost", id, j.GetFinishedAttempts(), size, j.GetLostAttempts())
		}
		for i := range uint64(size) {
			runs := 0
			for _, w := range all {
				runs += w.Runs(id, i)
			}
			if runs == 0 {
				t.Errorf("index %d:%d is recorded and was never run", id, i)
			}
		}
	}
	close(over)
	running.Wait()
	c.view(func(s *state.State) {
		for _, w := range s.Workers() {
			if w.Status == state.NodeReady && w.Used != (state.Shape{}) {
				t.Errorf("worker %s is charged with %v after all has ended", w.Name(), w.Used)
			}
		}
	})
}

// comeAndGo drives one worker until over.
func comeAndGo(c *cluster, w *workertest.Worker, r *rand.Rand, over <-chan struct{}) {
	defer w.Cut()
	pause := func(most time.Duration) bool {
		timer := time.NewTimer(rand.N(most))
		defer timer.Stop()
		select {
		case <-over:
			return false
		case <-timer.C:
			return true
		}
	}
	for {
		select {
		case <-over:
			return
		default:
		}
		// Refused at times, when the last session's end is still on its way.
		_ = w.Connect(c.ctx, c.conn)
		for n := r.IntN(6); n >= 0; n-- {
			w.Start()
			if !pause(10 * time.Millisecond) {
				return
			}
		}
		switch r.IntN(8) {
		case 0:
			w.Restart()
		case 1:
			_ = w.Bye()
		case 2:
			w.Cut()
			if !pause(500 * time.Millisecond) {
				return
			}
		case 3: // connects again beside the open stream
		default:
			w.Cut()
		}
	}
}
