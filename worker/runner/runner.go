// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Options of a Runner. The zero value works.
type Options struct {
	// ID names the cgroups of this runner, so it must be stable over restarts
	// of the worker and unique on the machine: New kills and removes what an
	// earlier runner with the same ID left. Letters, digits, '-', '_' and '.'.
	// Default: one of its own, whose leftovers nobody finds.
	ID string
	// NoCgroups keeps the runner from using cgroups. Default: they are used
	// where they are writable and a task has limits.
	NoCgroups bool
	// Logger gets what the operator should know. Default: discarded.
	Logger *slog.Logger
}

// Validate says which field is wrong.
func (o *Options) Validate() error {
	for _, c := range o.ID {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c)
		if !ok {
			return fmt.Errorf("runner: id %q has %q; use letters, digits, '-', '_' and '.'", o.ID, c)
		}
	}
	if len(o.ID) > 128 {
		return fmt.Errorf("runner: id of %d characters; use at most 128", len(o.ID))
	}
	return nil
}

// Runner runs tasks. Its methods may be called concurrently.
type Runner struct {
	log     *slog.Logger
	null    *os.File
	nullFD  int
	groups  cgroups // nil: none writable
	rlimits bool    // memory limits by rlimit can be set

	// noGroups is why there are no cgroups; warned of with the first task
	// that has limits, since most have none and the rest do not care.
	noGroups error
	warn     sync.Once

	// ignored swallows signals that the worker was started to ignore.
	ignored chan os.Signal

	mu     sync.Mutex
	free   []chan runRequest // idle pinned goroutines of Run
	closed bool
	wg     sync.WaitGroup

	meter *meter
}

// New finds out what this machine permits. It marks every descriptor of the
// process above 2 close-on-exec, so that what the worker itself inherited does
// not reach its tasks.
func New(opts Options) (*Runner, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	id := opts.ID
	if id == "" {
		id = fmt.Sprintf("pid-%d-%d", os.Getpid(), unnamed.Add(1))
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("runner: open %s: %w", os.DevNull, err)
	}
	closeOnExecAll()
	r := &Runner{log: log, null: null, nullFD: int(null.Fd()), rlimits: haveRlimits, ignored: make(chan os.Signal, 1), meter: newMeter()}
	// A worker under nohup ignores SIGHUP, one in the background of a script
	// ignores SIGINT, and exec hands an ignored signal down. A handler does
	// not: to the worker a full channel is the same as ignoring.
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(r.ignored, sig)
		}
	}
	if !opts.NoCgroups {
		groups, err := findCgroups(id, log)
		if err != nil {
			r.noGroups = err
		} else {
			r.groups = groups
			log.Debug("cgroups usable", "kind", groups.kind())
		}
	}
	if sampleMemory {
		r.wg.Go(r.meter.run)
	}
	return r, nil
}

// Enforcement says by what memory and CPU limits are enforced: "cgroup2",
// "cgroup1", "rlimit" or "none".
func (r *Runner) Enforcement() string {
	switch {
	case r.groups != nil:
		return r.groups.kind()
	case r.rlimits:
		return "rlimit"
	default:
		return "none"
	}
}

func (r *Runner) warnNoGroups() {
	r.warn.Do(func() {
		if r.noGroups != nil {
			r.log.Warn("cgroups are not usable: memory limits become RLIMIT_DATA of each process, cpu limits are not enforced",
				"reason", r.noGroups, "memory_enforced", r.rlimits)
		}
	})
}

// Close frees what the runner holds, once its slots are closed and its runs
// have ended; it blocks for the latter.
func (r *Runner) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	for _, c := range r.free {
		close(c)
	}
	r.free = nil
	r.mu.Unlock()
	close(r.meter.stop)
	r.wg.Wait()
	var err error
	if r.groups != nil {
		err = r.groups.close()
	}
	// The handlers that replace an inherited "ignore" stay: taking them away
	// would hand SIGHUP's default, death, to the worker.
	if cerr := r.null.Close(); err == nil {
		err = cerr
	}
	return err
}

// unnamed numbers the runners of this process that have no ID.
var unnamed atomic.Uint64

type runRequest struct {
	spec    *Spec
	started func(*Task)
	result  chan<- Result
}

// Run is Slot.Run for callers that have no slot. It blocks until the task has
// ended. `started` runs on another goroutine.
func (r *Runner) Run(spec *Spec, started func(*Task)) Result {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return NotStarted(&StartError{Reason: "runner is closed"})
	}
	var c chan runRequest
	if n := len(r.free); n > 0 {
		c = r.free[n-1]
		r.free = r.free[:n-1]
	} else {
		c = make(chan runRequest, 1)
		r.wg.Go(func() { r.serve(c) })
	}
	r.mu.Unlock()
	result := make(chan Result, 1)
	c <- runRequest{spec, started, result}
	return <-result
}

func (r *Runner) serve(c chan runRequest) {
	slot := r.NewSlot()
	defer slot.Close()
	for req := range c {
		res := slot.Run(req.spec, req.started)
		r.mu.Lock()
		closed := r.closed
		if !closed {
			r.free = append(r.free, c)
		}
		r.mu.Unlock()
		req.result <- res
		if closed {
			return
		}
	}
}
