// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker"
)

// noop runs tasks that cost nothing: what is left is the way to them and back.
type noop struct {
	r *run
	// known is the spec that was found to be ours.
	known atomic.Pointer[volleyv1.JobSpec]
}

// Execute implements worker.Executor.
func (n *noop) Execute(t *worker.Task, res *worker.Result) {
	if n.known.Load() != t.Spec {
		if !n.r.ours(t.Spec) {
			// The worker leaves, which stops the task and hands it back.
			n.r.foreign(t.JobID)
			<-t.Stopped()
			return
		}
		n.known.Store(t.Spec)
	}
	now := time.Now()
	t.MarkStarted()
	*res = worker.Result{StartedAt: now, Duration: time.Since(now)}
}

// agents starts real workers in this process and waits until all of them are
// connected. stop blocks until they have left.
func (r *run) agents(ctx context.Context, cpus int, exec worker.Executor) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, r.c.Workers)
	started := 0
	stop = func() error {
		cancel()
		var errs []error
		for range started {
			errs = append(errs, <-done)
		}
		return errors.Join(errs...)
	}
	for n := range r.c.Workers {
		a, err := worker.New(worker.Config{
			DataDir: filepath.Join(r.t.dir, fmt.Sprintf("worker-%d", n)), Name: fmt.Sprintf("bench-%s-%d", host(), n),
			Version: r.c.Version, Logger: r.c.Logger, Executor: exec, Dial: r.dial,
			Capacity: &volleyv1.Resources{CpuMilli: int64(cpus) * 1000},
		})
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		started++
		go func() {
			err := a.Run(ctx)
			if err != nil {
				r.fail(fmt.Errorf("worker %d: %w", n, err))
			}
			done <- err
		}()
	}
	err = sample(ctx, 2*time.Millisecond, func() (bool, error) {
		info, err := r.t.client.ServerInfo(ctx)
		return info.GetNodes() >= uint64(r.c.Workers), err
	})
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

func (r *run) dial(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
	conn, err := client.Connect(client.Options{Addr: r.t.addr, Token: r.t.token}, worker.DialOptions()...)
	if err != nil {
		return nil, nil, err
	}
	return conn, conn, nil
}

// dispatch runs tasks that do nothing through real workers.
func (r *run) dispatch(ctx context.Context) (err error) {
	s := &r.report.Setup
	s.Workers, s.Slots, s.Tasks = r.c.Workers, r.c.Slots, r.c.Tasks
	r.selfRole, r.perTask = "workers, client", true
	stop, err := r.agents(ctx, r.c.Slots, &noop{r: r})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	spec := r.spec("dispatch")
	spec.Command = []string{"noop"}
	spec.Space = &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: r.c.Tasks}}
	return r.rounds(ctx, spec, nil)
}
