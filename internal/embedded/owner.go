// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gofrs/flock"
	"google.golang.org/grpc"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator"
	"github.com/volley-batch/volley/internal/credential"
	"github.com/volley-batch/volley/worker"
)

// owner is the coordinator of this process.
type owner struct {
	srv  *coordinator.Server
	lock *flock.Flock
	done chan struct{}
	// listen is Config.Listen: others were invited.
	listen string
}

// own starts the coordinator and the worker. The lock is held.
func own(ctx context.Context, d directory, lock *flock.Flock, c Config) (in *Instance, err error) {
	if c.Token == "" {
		c.Token = credential.Generate()
	}
	ep := &endpoint{Token: c.Token, PID: os.Getpid(), Version: c.Version, Worker: c.Worker}
	socket, listen := d.path("socket"), c.Listen
	if len(socket) > maxSocketPath {
		socket = ""
		if listen == "" {
			listen = "127.0.0.1:0"
		}
	} else if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	srv, err := coordinator.Open(ctx, coordinator.Config{
		DataDir: d.path("coordinator"), Listen: listen, Socket: socket, Version: c.Version, Logger: c.Logger, Token: c.Token,
	})
	if err != nil {
		return nil, &Error{What: "the coordinator cannot start", Err: err}
	}
	ep.Addr = srv.Addr()
	if socket != "" {
		ep.Addr = "unix:" + socket
	}
	in = &Instance{
		dir: d, client: client.New(srv.Conn()), ep: ep, ended: newEnded(),
		owner: &owner{srv: srv, lock: lock, done: make(chan struct{}), listen: c.Listen},
	}
	go in.owner.watch(in.fail)
	// The agent first: what a killed owner's worker has left is recorded before
	// anybody plans. It does not work yet.
	var agent *worker.Agent
	if c.Worker {
		dial := func(context.Context) (grpc.ClientConnInterface, io.Closer, error) { return srv.Conn(), nil, nil }
		if agent, err = newAgent(ctx, workerConfig(d, c, dial)); err != nil {
			return nil, errors.Join(err, in.Close())
		}
	}
	if c.Before != nil {
		if err := c.Before(ctx, in.client); err != nil {
			if agent != nil {
				err = errors.Join(err, agent.Close())
			}
			return nil, errors.Join(err, in.Close())
		}
	}
	if agent != nil {
		in.worker = startWorker(agent, in.fail)
	}
	// Last: who reads it finds everything there.
	if err := d.writeEndpoint(ep); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// watch passes on the error that ends the server.
func (o *owner) watch(fail func(what string, err error)) {
	select {
	case err := <-o.srv.Err():
		if err != nil {
			fail("the coordinator has stopped", err)
		}
	case <-o.done:
	}
}

// close takes the endpoint away before the server goes: nobody must join what
// is about to end.
func (o *owner) close(d directory) error {
	close(o.done)
	err := os.Remove(d.path("endpoint.json"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	// The lock goes last: the next owner opens the same journal.
	return errors.Join(err, o.srv.Close(), o.lock.Close())
}

// runner is the worker of this process.
type runner struct {
	agent  *worker.Agent
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func workerConfig(d directory, c Config, dial func(context.Context) (grpc.ClientConnInterface, io.Closer, error)) worker.Config {
	return worker.Config{DataDir: d.path("worker"), Dial: dial, Capacity: c.Capacity, Version: c.Version, Logger: c.Logger}
}

func startWorker(a *worker.Agent, fail func(what string, err error)) *runner {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runner{agent: a, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = a.Run(ctx)
		if r.err != nil && ctx.Err() == nil {
			fail("the worker has stopped", r.err)
		}
	}()
	return r
}

func (r *runner) stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// dialer connects a worker to the coordinator of another process.
func dialer(o client.Options) func(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
	return func(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
		conn, err := client.Connect(o, worker.DialOptions()...)
		return conn, conn, err
	}
}
