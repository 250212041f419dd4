// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/volley-batch/volley/coordinator/sim"
)

func env(t *testing.T, name string, def uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, v)
	}
	return n
}

// seeds runs f for seeds 1 to n on all cores until it says stop.
func seeds(n uint64, f func(seed uint64) (more bool)) {
	var next atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
				seed := next.Add(1)
				if seed > n {
					return
				}
				if !f(seed) {
					stop.Store(true)
				}
			}
		})
	}
	wg.Wait()
}

// TestSimulation runs many seeds, or the one that VOLLEY_SEED names.
// VOLLEY_SEEDS sets how many.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if seed := env(t, "VOLLEY_SEED", 0); seed > 0 {
		stats, err := sim.Run(sim.Options{Seed: seed})
		t.Logf("%+v", stats)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var mu sync.Mutex
	var total sim.Stats
	n := env(t, "VOLLEY_SEEDS", 200)
	seeds(n, func(seed uint64) bool {
		stats, err := sim.Run(sim.Options{Seed: seed})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
			return false
		}
		total.Add(stats)
		return true
	})
	t.Logf("%d seeds: %+v", n, total)
	// A simulation in which nothing happens finds nothing.
	if !t.Failed() && (total.Executions < int(n)*20 || total.Crashes < int(n) || total.Lost == 0 || total.Stale == 0 || total.Snapshots == 0) {
		t.Errorf("too little has happened: %+v", total)
	}
}

// TestSimulationFindsPlantedBug breaks the coordinator on purpose.
func TestSimulationFindsPlantedBug(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		bug  sim.Bug
		want []string // one of these
	}{
		{"double record", sim.BugDoubleRecord, []string{"double record"}},
		{"ack before commit", sim.BugAckEarly, []string{"was acknowledged and is lost"}},
		{"grant before commit", sim.BugGrantEarly, []string{"is executed twice under lease", "the fencing token does not grow", "is granted to worker"}},
		{"lost lease not fenced", sim.BugUnfenced, []string{"did not hold the index"}},
		{"returned indexes forgotten", sim.BugForgetReturned, []string{"has not ended"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var found atomic.Pointer[sim.Failure]
			seeds(200, func(seed uint64) bool {
				_, err := sim.Run(sim.Options{Seed: seed, Bug: tt.bug})
				var f *sim.Failure
				if errors.As(err, &f) && slices.ContainsFunc(tt.want, func(w string) bool { return strings.Contains(f.What, w) }) {
					found.Store(f)
				}
				// Another symptom of the bug is no find: it goes on.
				return found.Load() == nil
			})
			f := found.Load()
			if f == nil {
				t.Fatal("not found in 200 seeds")
			}
			t.Logf("found: %s", f.What)
		})
	}
}

// TestSimulationRepeats: the same seed is the same run.
func TestSimulationRepeats(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		a, err := sim.Run(sim.Options{Seed: seed + 1000})
		if err != nil {
			t.Fatal(err)
		}
		b, err := sim.Run(sim.Options{Seed: seed + 1000})
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("seed %d: %+v, then %+v", seed, a, b)
		}
	}
}
