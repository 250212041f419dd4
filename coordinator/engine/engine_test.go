// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
)

// start runs an engine in a bubble; the bubble fails when a goroutine is left.
func start(t *testing.T, hold bool) (*Engine, *journal.Memory, func() error) {
	t.Helper()
	mem, err := journal.NewMemory(journal.MemoryConfig{Hold: hold})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Journal: mem, ClusterID: "test", Release: func(*state.State, []state.Effect) {}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	<-e.Leads()
	return e, mem, func() error { cancel(); return <-ended }
}

func TestEngine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, stop := start(t, false)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 20 {
					r, err := e.Do(t.Context(), submit(fmt.Sprintf("j%d-%d", g, i)))
					if err != nil || r.Job == 0 {
						t.Errorf("%+v, %v", r, err)
					}
					if err := e.View(t.Context(), func(s *state.State) {
						if s.Job(r.Job) == nil {
							t.Errorf("job %d is not there", r.Job)
						}
					}); err != nil {
						t.Error(err)
					}
					if err := e.Touch(t.Context(), "n", 1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if _, err := e.Do(t.Context(), cancel(999)); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("a refusal: %v", err)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestEngineStops: whoever waits is answered, and whoever comes later.
func TestEngineStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, stop := start(t, true)
		errs := make(chan error, 3)
		go func() { _, err := e.Do(t.Context(), submit("a")); errs <- err }()
		go func() { errs <- e.View(t.Context(), func(*state.State) {}) }()
		go func() {
			errs <- e.Send(t.Context(), submit("b"), func(_ state.Result, err error) {
				if !errors.Is(err, ErrStopped) {
					t.Errorf("the reply: %v", err)
				}
			})
		}()
		synctest.Wait()
		_ = stop()
		synctest.Wait()
		stopped := 0
		for range 3 {
			if err := <-errs; errors.Is(err, ErrStopped) {
				stopped++
			}
		}
		if stopped != 2 { // Send itself was taken
			t.Errorf("%d of 2 waiters were told", stopped)
		}
		if _, err := e.Do(t.Context(), submit("c")); !errors.Is(err, ErrStopped) {
			t.Errorf("Do after the end: %v", err)
		}
		if err := e.View(t.Context(), func(*state.State) { t.Error("it ran") }); !errors.Is(err, ErrStopped) {
			t.Errorf("View after the end: %v", err)
		}
		if err := e.Send(t.Context(), submit("d"), nil); !errors.Is(err, ErrStopped) {
			t.Errorf("Send after the end: %v", err)
		}
		if err := e.Touch(t.Context(), "n", 1); !errors.Is(err, ErrStopped) {
			t.Errorf("Touch after the end: %v", err)
		}
	})
}

// TestEngineCallerGivesUp: a caller whose context ends does not wait for a disk
// that hangs, and the engine goes on.
func TestEngineCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, mem, stop := start(t, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Do(ctx, submit("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- e.View(t.Context(), func(*state.State) {}) }()
		synctest.Wait()
		for mem.Held() > 0 {
			mem.Commit(-1)
			synctest.Wait()
		}
		if err := <-done; err != nil {
			t.Errorf("View: %v", err)
		}
		if err := e.View(t.Context(), func(s *state.State) {
			if s.Jobs() != 1 {
				t.Errorf("%d jobs", s.Jobs())
			}
		}); err != nil {
			t.Error(err)
		}
		_ = stop()
	})
}

func TestEngineLosesLeadership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, mem, stop := start(t, true)
		errs := make(chan error, 1)
		go func() { _, err := e.Do(t.Context(), submit("a")); errs <- err }()
		synctest.Wait()
		mem.Depose(0)
		if err := <-errs; !errors.Is(err, ErrNotLeader) {
			t.Errorf("Do: %v", err)
		}
		if err := stop(); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestEngineExpiresWorkers by its own ticker.
func TestEngineExpiresWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, stop := start(t, false)
		if _, err := e.Do(t.Context(), hello("n")); err != nil {
			t.Fatal(err)
		}
		status := func() (s state.NodeStatus) {
			if err := e.View(t.Context(), func(st *state.State) { s = st.WorkerByNode("n").Status }); err != nil {
				t.Fatal(err)
			}
			return s
		}
		time.Sleep(e.WorkerLease() - time.Second) // virtual
		if s := status(); s != state.NodeReady {
			t.Errorf("before the end of the lease: %v", s)
		}
		time.Sleep(2 * time.Second)
		if s := status(); s != state.NodeLost {
			t.Errorf("after the end of the lease: %v", s)
		}
		_ = stop()
	})
}
