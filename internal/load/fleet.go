// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// fleet is many simulated workers.
type fleet struct {
	r     *run
	ctx   context.Context
	conns []*grpc.ClientConn

	mu      sync.Mutex
	workers []*simulated
	tallies map[uint64]*tally
	random  *rand.Rand
	running sync.WaitGroup

	// columns are what results say of their start and duration, shared by all.
	columns atomic.Pointer[columns]
}

// columns of a report with as many results as a lease can have. They are read
// only: a fleet that made its own for every report would measure its own
// memory.
type columns struct {
	starts    []int64
	durations []uint64
}

// maxLease is how many results one simulated report may have; more than the
// coordinator puts into a lease.
const maxLease = 1 << 17

func newColumns(each time.Duration) *columns {
	c := &columns{starts: make([]int64, maxLease), durations: make([]uint64, maxLease)}
	c.starts[0] = time.Now().UnixMilli() // the others are differences
	for n := range c.durations {
		c.durations[n] = uint64(max(each.Microseconds(), 1))
	}
	return c
}

func newFleet(ctx context.Context, r *run) (*fleet, error) {
	f := &fleet{r: r, ctx: ctx, tallies: map[uint64]*tally{}, random: rand.New(rand.NewPCG(r.c.Seed, 1))}
	f.columns.Store(newColumns(r.c.TaskTime))
	for range r.c.Connections {
		conn, err := f.connect()
		if err != nil {
			return nil, errors.Join(err, f.hangUp())
		}
		f.conns = append(f.conns, conn)
	}
	f.running.Go(f.beat)
	return f, nil
}

func (f *fleet) connect() (*grpc.ClientConn, error) {
	conn, _, err := f.r.dial(f.ctx)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*grpc.ClientConn)
	if !ok {
		return nil, fmt.Errorf("a connection is a %T", conn)
	}
	return c, nil
}

func (f *fleet) hangUp() error {
	var errs []error
	for _, c := range f.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// tally of a job, made at its first sight.
func (f *fleet) tally(job, size uint64) *tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tallies[job]
	if t == nil {
		t = newTally(size)
		f.tallies[job] = t
	}
	return t
}

// add makes a worker that is not connected.
func (f *fleet) add(conn *grpc.ClientConn) *simulated {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.workers)
	w := &simulated{
		f: f, conn: conn, jobs: map[uint64]*tally{},
		welcomed: make(chan struct{}), ended: make(chan struct{}), leased: make(chan time.Time, 1),
		hello: &volleyv1.Hello{
			NodeId: fmt.Sprintf("bench-%016x-%d", f.random.Uint64(), n), Name: fmt.Sprintf("bench-%s-%d", host(), n),
			Epoch: 1, Version: f.r.c.Version, Platform: f.r.report.Machine.System,
			Capacity: &volleyv1.Resources{CpuMilli: int64(f.r.c.Slots) * 1000, MemoryBytes: 1 << 40},
		},
	}
	f.workers = append(f.workers, w)
	return w
}

// joining is how many workers connect at once: a herd that knocks all at once
// would measure its own queue.
const joining = 32

// join connects n workers and blocks until the coordinator has welcomed all.
func (f *fleet) join(n int, h *histogram) error {
	next := make(chan *simulated)
	var wg sync.WaitGroup
	for range min(joining, n) {
		wg.Go(func() {
			for w := range next {
				begin := time.Now()
				f.running.Go(w.run)
				select {
				case <-w.welcomed:
					h.add(time.Since(begin))
				case <-f.ctx.Done():
				}
			}
		})
	}
	for i := range n {
		w := f.add(f.conns[i%len(f.conns)])
		select {
		case next <- w:
		case <-f.ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return f.ctx.Err()
}

// probe lets further workers join one after the other while a job runs, each
// over a connection of its own, and measures until the first lease. They stay.
func (f *fleet) probe(ctx context.Context, most int, h *histogram) {
	for range most {
		conn, err := f.connect()
		if err != nil {
			f.r.fail(err)
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, conn)
		wait := time.Duration(f.random.Int64N(int64(20 * time.Millisecond)))
		f.mu.Unlock()
		if pause(ctx, wait); ctx.Err() != nil {
			return
		}
		w := f.add(conn)
		begin := time.Now()
		f.running.Go(w.run)
		select {
		case at := <-w.leased:
			h.add(at.Sub(begin))
		case <-ctx.Done():
			return // the job has ended: there was nothing left to lease
		}
	}
}

// beat keeps idle workers alive, and the clock of the columns going.
func (f *fleet) beat() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			return
		}
		f.columns.Store(newColumns(f.r.c.TaskTime))
		f.mu.Lock()
		workers := slices.Clip(f.workers)
		f.mu.Unlock()
		for _, w := range workers {
			w.beat()
		}
	}
}

// leave has every worker say good-bye, and blocks until all are gone. cancel
// ends the fleet's context.
func (f *fleet) leave(cancel context.CancelFunc) error {
	f.mu.Lock()
	workers := f.workers
	f.mu.Unlock()
	for _, w := range workers {
		w.bye()
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for _, w := range workers {
			<-w.ended
		}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-gone:
	case <-f.ctx.Done(): // interrupted: the coordinator finds out by itself
	case <-timer.C:
	}
	cancel()
	f.running.Wait()
	return f.hangUp()
}
