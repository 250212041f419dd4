// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator"
	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/internal/credential"
)

// defaultListen is the port of the API.
const defaultListen = "127.0.0.1:7480"

type coordinatorOptions struct {
	data     string
	listen   string
	lease    time.Duration
	keepAge  time.Duration
	keepJobs int
}

func (a *app) coordinatorCommand() *cobra.Command {
	var o coordinatorOptions
	c := &cobra.Command{
		Use:   "coordinator --data DIR",
		Short: "Run a coordinator",
		Long: `Run a coordinator until SIGINT or SIGTERM.

It listens on loopback only and writes a credential for its address into the
user's configuration directory: commands and workers of the same user find it
there, other users are refused.`,
		Example: "  volley coordinator --data /var/lib/volley\n  volley worker --coordinator 127.0.0.1:7480",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "state `directory` (required)")
	f.StringVar(&o.listen, "listen", defaultListen, "loopback `address` of the API; port 0 picks a free one")
	durationFlag(f, &o.lease, "worker-lease", 30*time.Second, "a worker that was not heard of for so long is lost")
	durationFlag(f, &o.keepAge, "keep-age", 30*24*time.Hour, "forget ended jobs after so long, as in 12h or 90d")
	f.IntVar(&o.keepJobs, "keep-jobs", 10_000, "keep at most so many ended jobs")
	return c
}

func (a *app) serve(ctx context.Context, o coordinatorOptions) (err error) {
	switch {
	case o.data == "":
		return usagef("--data is missing: name the directory of the coordinator's state")
	case o.lease < time.Second:
		return usagef("--worker-lease %v: want at least 1s", o.lease)
	case o.keepAge <= 0:
		return usagef("--keep-age 0: want a duration above 0")
	case o.keepJobs < 1:
		return usagef("--keep-jobs %d: want a number from 1", o.keepJobs)
	}
	if o.listen, err = loopback(o.listen); err != nil {
		return err
	}
	token, fresh, err := tokenFor(o.listen)
	if err != nil {
		return err
	}
	log := a.serverLogger()
	s, err := coordinator.Open(ctx, coordinator.Config{
		DataDir: o.data, Listen: o.listen, Version: version(), Logger: log, Token: token,
		WorkerLease: o.lease, KeepAge: o.keepAge, KeepJobs: o.keepJobs,
	})
	if err != nil {
		if fresh {
			_ = credential.Remove(o.listen) // nothing listens there: it opens nothing
		}
		return conflict(o.listen, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	// With port 0 the address is known only now.
	if err := credential.Save(s.Addr(), token); err != nil {
		return err
	}
	log.Info("coordinator serves", "address", s.Addr(), "data", o.data, "version", version())
	select {
	case <-ctx.Done():
		log.Info("coordinator stops", "reason", "signal")
		return nil
	case err := <-s.Err():
		return err
	}
}

// loopback checks a listen address.
func loopback(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", usagef("--listen %q: want host:port, as in %s", addr, defaultListen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", usagef("--listen %q: this version serves loopback only (127.0.0.1 or [::1]), since it has no TLS; reach it from elsewhere through an SSH tunnel", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", usagef("--listen %q: want a port from 0 to 65535", addr)
	}
	return net.JoinHostPort(host, port), nil
}

// conflict words an error about what another process has: the directory, the
// port.
func conflict(listen string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &client.Error{Kind: client.Refused, Err: syscall.EADDRINUSE, Msg: listen + " is taken: another process listens there; stop it, or choose another address with --listen"}
	case errors.Is(err, journal.ErrLocked):
		// Not err: what cannot start because of its machine has another status.
		return &client.Error{Kind: client.Refused, Err: journal.ErrLocked, Msg: err.Error()}
	}
	return err
}

// tokenFor keeps the token of an address over restarts: workers and watching
// clients of before come back with it. It is saved before anything listens, so
// that nobody finds the address without it. fresh: there was none.
func tokenFor(addr string) (token string, fresh bool, err error) {
	if _, port, _ := net.SplitHostPort(addr); port == "0" {
		return credential.Generate(), false, nil
	}
	if token, err = credential.Load(addr); err == nil {
		return token, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	token = credential.Generate()
	return token, true, credential.Save(addr, token)
}

// serverLogger logs text to stderr.
func (a *app) serverLogger() *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}

// logger is that of embedded instances: silent unless asked for.
func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.err, nil))
}

// servers print what they are called by, for people.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }
