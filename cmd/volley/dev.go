// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/credential"
	"github.com/volley-batch/volley/internal/embedded"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func (a *app) devCommand() *cobra.Command {
	var listen string
	var jobs int
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a coordinator and a worker for this directory",
		Long: `Run coordinator and worker in one process until SIGINT, SIGTERM or SIGHUP, with the
state in .volley. Commands in this directory and below find it by themselves;
others by its address.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), listen, jobs) },
	}
	c.Flags().StringVar(&listen, "listen", defaultListen, "loopback `address` of the API; port 0 picks a free one")
	c.Flags().IntVarP(&jobs, "jobs", "j", 0, "CPUs of the worker: so many one-CPU tasks at once (default: all)")
	return c
}

func (a *app) dev(ctx context.Context, listen string, jobs int) (err error) {
	if jobs < 0 {
		return usagef("--jobs %d: want a number from 1, or 0 for all CPUs", jobs)
	}
	if listen, err = loopback(listen); err != nil {
		return err
	}
	dir, err := a.stateDir(true)
	if err != nil {
		return err
	}
	token, fresh, err := tokenFor(listen)
	if err != nil {
		return err
	}
	serves := false
	defer func() {
		if fresh && !serves {
			_ = credential.Remove(listen) // nothing listens there: it opens nothing
		}
	}()
	in, err := embedded.Open(ctx, embedded.Config{
		Dir: dir, Worker: true, Listen: listen, Token: token, Version: version(), Logger: a.logger(),
		Capacity: &volleyv1.Resources{CpuMilli: int64(jobs) * 1000},
	})
	if err != nil {
		return conflict(listen, err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if !in.Owner() {
		return &client.Error{Kind: client.Refused, Msg: "another process works in " + dir + " already; stop it first"}
	}
	a.working.Store(in)
	serves = true
	if err := credential.Save(in.Listen(), token); err != nil {
		return err
	}
	a.printf("volley %s serves %s\n", version(), filepath.Dir(dir))
	a.printf("  here and below   volley submit FILE\n")
	a.printf("  elsewhere        VOLLEY_ADDR=%s volley submit FILE\n", in.Listen())
	a.printf("Ctrl-C stops it; what has not ended goes on at the next start\n")
	select {
	case <-ctx.Done():
		return nil
	case err := <-in.Err():
		return err
	}
}
