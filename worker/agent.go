// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker/spool"
)

// Config of an Agent.
type Config struct {
	// DataDir keeps the spool, task output, work directories and the node's
	// identity. One process at a time. Required.
	DataDir string
	// Name of the node, for people. Default: the host name.
	Name string
	// Dial makes a fresh connection to the coordinator, which the agent closes
	// with the Closer (which may be nil). It is called again after every loss.
	// Messages must be serialised on the way, as gRPC does over any transport:
	// the agent uses the memory of an acknowledged report again. Keepalive
	// belongs to the connection: give DialOptions to grpc.NewClient. Required.
	Dial func(ctx context.Context) (grpc.ClientConnInterface, io.Closer, error)
	// Capacity is what the coordinator may use of this machine. Default, for
	// each field that is 0: all CPUs and memory that the process may use, and
	// no GPU.
	Capacity *volleyv1.Resources
	Labels   []*volleyv1.Label
	// Version of the program, as the coordinator shows it.
	Version string
	// Logger gets what the operator should know. Default: discarded.
	Logger *slog.Logger
	// SocketDir is where the sockets of the tasks lie (VOLLEY_SOCKET).
	// Default: below DataDir, or in a directory of its own in the system's
	// place for temporary files when that path is too long for a socket.
	SocketDir string
	// Executor replaces processes: for benchmarks and simulations. Default:
	// tasks are processes of this machine.
	Executor Executor
	// MaxSlots bounds how many tasks run at once, whatever the capacity says.
	// Default: 1024.
	MaxSlots int
	// Retention is how long the output and the kept work directories of a job
	// stay after the coordinator forgot the job. Default: 7 days; below 0: for
	// ever.
	Retention time.Duration
	// MaxOutputBytes is how much of one stream of an attempt (standard output,
	// standard error) is kept. A task that is found to have written more is
	// stopped and fails with the reason OutputLimitExceeded. Default: 1 GiB; at
	// most 2 GiB.
	MaxOutputBytes int64
}

const (
	defaultMaxSlots  = 1024
	defaultMaxOutput = 1 << 30
	defaultRetention = 7 * 24 * time.Hour
	// defaultTTL is taken when a Welcome names no lease time.
	defaultTTL = 30 * time.Second
	// byeTimeout bounds how long a leaving worker waits for the coordinator to
	// acknowledge what it has reported.
	byeTimeout = 5 * time.Second
)

// Validate says which field is wrong.
func (c *Config) Validate() error {
	switch {
	case c.DataDir == "":
		return errors.New("worker: data directory is empty; name one")
	case c.Dial == nil:
		return errors.New("worker: dial function is missing")
	case c.MaxSlots < 0:
		return fmt.Errorf("worker: max slots %d is negative; use 0 for the default", c.MaxSlots)
	case c.MaxOutputBytes < 0 || c.MaxOutputBytes > 2<<30:
		return fmt.Errorf("worker: max output of %d bytes is not between 1 and %d; use 0 for the default", c.MaxOutputBytes, int64(2<<30))
	}
	if r := c.Capacity; r != nil && (r.GetCpuMilli() < 0 || r.GetMemoryBytes() < 0 || r.GetGpu() < 0) {
		return fmt.Errorf("worker: capacity %v has a negative number; use 0 to detect it", r)
	}
	return nil
}

// Agent is one worker.
type Agent struct {
	cfg   Config
	log   *slog.Logger
	home  *home
	exec  slotMaker
	procs *processes // nil with an Executor of the caller
	total resources

	poke        chan struct{} // wakes the flusher
	startedNews atomic.Bool   // a process has started since the last report
	rate        rateMeter     // flusher only

	// flushMu is held while a report is cut, so that reports are numbered and
	// spooled in one order. Taken before mu.
	flushMu sync.Mutex
	spool   *spool.Spool
	codec   []byte // buffer of the encoder
	ackTo   uint64 // spool number to acknowledge, guarded by mu

	mu       sync.Mutex
	jobs     map[uint64]*job
	leases   map[uint64]*lease
	ready    []*lease // unstarted > 0; by priority, then id
	free     resources
	slots    []*slot
	idle     []*slot
	slotsWG  sync.WaitGroup
	unstart  uint64 // unstarted indexes of all leases
	busy     int    // slots that run a task
	lowWater uint64
	dirty    []*account // open accounts
	finished uint64     // indexes finished since the process began
	urgent   bool
	seq      uint64
	entries  []*entry // reports not acknowledged, ascending
	spare    []*account
	session  *session // welcomed
	drain    bool     // no new work wanted
	stopping bool     // nothing starts any more
	closing  bool     // slots end
	gone     bool     // bye was said
	changed  chan struct{}
	waiting  int // goroutines in await

	closeOnce sync.Once
	closeErr  error
}

// New prepares a worker: takes the data directory, kills what the tasks of a
// killed process left running (up to two seconds), reads what it left in the
// spool. It fails when another process has the directory.
// It does not connect; Run does. An agent that is never run must be closed.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxSlots == 0 {
		cfg.MaxSlots = defaultMaxSlots
	}
	if cfg.MaxOutputBytes == 0 {
		cfg.MaxOutputBytes = defaultMaxOutput
	}
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	if cfg.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("worker: host name: %w; give the worker a name", err)
		}
		cfg.Name = name
	}
	h, err := openHome(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg:     cfg,
		log:     cfg.Logger.With("node", h.nodeID),
		home:    h,
		total:   detectCapacity(cfg.Capacity),
		poke:    make(chan struct{}, 1),
		jobs:    make(map[uint64]*job),
		leases:  make(map[uint64]*lease),
		changed: make(chan struct{}),
	}
	a.free = a.total
	if err := a.openSpool(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	if cfg.Executor != nil {
		a.exec = custom{cfg.Executor}
		return a, nil
	}
	p, err := newProcesses(a)
	if err != nil {
		return nil, errors.Join(err, a.spool.Close(), h.close())
	}
	a.procs, a.exec = p, p
	return a, nil
}

// NodeID is the identity of the node, stable over restarts.
func (a *Agent) NodeID() string { return a.home.nodeID }

// Run works until ctx ends, then hands back what has not started, stops what
// runs (SIGTERM, the job's grace, SIGKILL) and reports it as preempted, says
// bye and returns nil. While the coordinator cannot be reached it goes on with
// what it holds and keeps trying. It returns an error when the coordinator
// refuses the worker: then trying again would not help. Run is called once and
// closes the agent.
func (a *Agent) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	refused := make(chan error, 1)
	wg.Go(func() { a.flushLoop(inner) })
	connector := make(chan struct{})
	wg.Go(func() {
		defer close(connector)
		if err := a.connectLoop(inner); err != nil {
			refused <- err
		}
	})
	if a.procs != nil {
		wg.Go(func() { a.procs.retainLoop(inner) })
		wg.Go(func() { a.procs.limitLoop(inner) })
	}
	a.log.Info("worker started", "name", a.cfg.Name, "epoch", a.home.epoch,
		"cpu_milli", a.total.cpu, "memory_bytes", a.total.memory, "gpu", a.total.gpu,
		"platform", runtime.GOOS+"/"+runtime.GOARCH)
	var err error
	select {
	case <-ctx.Done():
	case err = <-refused:
		a.log.Error("coordinator refuses this worker", "error", reason(err))
	}
	a.windDown(err == nil)
	cancel()
	wg.Wait()
	return errors.Join(err, a.Close())
}

// Drain asks the coordinator for no more work and blocks until nothing is
// held, or ctx ends. Work goes on meanwhile; so does the agent afterwards,
// without work.
func (a *Agent) Drain(ctx context.Context) error {
	a.mu.Lock()
	a.drain = true
	if s := a.session; s != nil {
		s.nudge()
	}
	a.mu.Unlock()
	return a.await(ctx, func() bool { return len(a.leases) == 0 && a.busy == 0 })
}

// await blocks until cond, which is called under mu, holds.
func (a *Agent) await(ctx context.Context, cond func() bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting++
	defer func() { a.waiting-- }()
	for !cond() {
		changed := a.changed
		a.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		a.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// notify wakes all who await. Called under mu.
func (a *Agent) notify() {
	if a.waiting > 0 {
		close(a.changed)
		a.changed = make(chan struct{})
	}
}

// windDown ends the work. With tell the coordinator hears of it.
func (a *Agent) windDown(tell bool) {
	a.mu.Lock()
	a.stopping = true
	for _, l := range a.leases {
		a.handBack(l, nil)
	}
	for _, s := range a.slots {
		if s.lease != nil {
			a.stopSlot(s, verdictPreempt, "worker is leaving")
		}
	}
	a.mu.Unlock()
	a.wake()
	// The runner bounds this: SIGKILL follows SIGTERM after the grace.
	_ = a.await(context.Background(), func() bool { return a.busy == 0 })
	if tell {
		ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
		defer cancel()
		a.flush()
		if err := a.await(ctx, func() bool { return len(a.entries) == 0 || a.session == nil }); err != nil {
			a.log.Warn("coordinator did not acknowledge the last reports; they stay in the spool")
		}
		a.mu.Lock()
		s := a.session
		a.gone = s != nil
		a.mu.Unlock()
		if s != nil {
			s.sayBye(ctx)
		}
	}
}

// Close frees what New took. Run does it; a second call does nothing.
func (a *Agent) Close() error {
	a.closeOnce.Do(func() {
		a.mu.Lock()
		a.stopping, a.closing = true, true
		for _, s := range a.idle {
			close(s.wake)
		}
		a.idle = nil
		a.mu.Unlock()
		a.slotsWG.Wait()
		a.flush() // what the last task left, for the next process
		a.trimSpool()
		var errs []error
		if a.procs != nil {
			errs = append(errs, a.procs.close())
		}
		errs = append(errs, a.spool.Close(), a.home.close())
		a.closeErr = errors.Join(errs...)
	})
	return a.closeErr
}
