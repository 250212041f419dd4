// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/embedded"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// session is the way to a coordinator: a connection, or an embedded instance.
type session struct {
	*client.Client
	in *embedded.Instance // nil when connected by address
	// temporary is a state directory that goes with the session; may be empty.
	temporary string
}

// need says what a command needs of an embedded instance.
type need struct {
	// create makes the directory when there is none.
	create bool
	// scratch takes an empty directory that close removes when there is none:
	// to plan a job, a new project needs the coordinator's checks, and must not
	// be left with its state.
	scratch bool
	// worker runs tasks.
	worker   bool
	capacity *volleyv1.Resources
	// before is called in the owner of the directory before anything runs.
	before func(context.Context, *client.Client) error
}

// open connects to the coordinator that the flags name, or opens the embedded
// one.
func (a *app) open(ctx context.Context, n need) (*session, error) {
	if addr := a.addr(); addr != "" {
		c, err := client.Dial(ctx, client.Options{Addr: addr})
		if err != nil {
			return nil, err
		}
		return &session{Client: c}, nil
	}
	dir, err := a.stateDir(n.create)
	var temporary string
	if n.scratch && client.Kind(err) == client.Unreachable {
		temporary, err = os.MkdirTemp("", "volley-")
		dir = temporary
	}
	if err != nil {
		return nil, err
	}
	in, err := embedded.Open(ctx, embedded.Config{Dir: dir, Worker: n.worker, Capacity: n.capacity, Before: n.before, Waiting: a.waiting(dir), Version: version(), Logger: a.logger()})
	if err != nil {
		if temporary != "" {
			_ = os.RemoveAll(temporary)
		}
		return nil, err
	}
	if in.RunsTasks() {
		a.working.Store(in)
	}
	return &session{Client: in.Client(), in: in, temporary: temporary}, nil
}

// waiting says why nothing happens while the owner of the directory is stopped.
func (a *app) waiting(dir string) func(pid int) {
	return func(pid int) {
		process := "the volley process"
		if pid > 0 {
			process += " " + strconv.Itoa(pid)
		}
		fmt.Fprintf(a.err, "%s that works in %s does not answer; waiting (Ctrl-C to stop)\n", process, dir)
	}
}

// stateDir is --dir, else the nearest .volley, else a new one here.
func (a *app) stateDir(create bool) (string, error) {
	dir := a.dir
	if dir == "" {
		found, err := embedded.Find(".")
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		dir = embedded.DirName
	}
	if !create {
		if _, err := os.Stat(dir); err != nil {
			return "", &client.Error{Kind: client.Unreachable, Err: err, Msg: fmt.Sprintf(
				"there is no %s here or above, and neither --coordinator nor VOLLEY_ADDR names a coordinator; `volley run FILE` makes one", dir)}
		}
	}
	return filepath.Abs(dir)
}

// end closes the session of a command that ends with an error, or with none.
func (s *session) end(err *error) {
	if s.in != nil {
		*err = s.in.Reason(*err)
	}
	if cerr := s.close(); *err == nil {
		*err = cerr
	}
}

func (s *session) close() error {
	if s.in == nil {
		return s.Client.Close()
	}
	err := s.in.Close()
	if s.temporary != "" {
		err = errors.Join(err, os.RemoveAll(s.temporary))
	}
	return err
}

// logs reads output from wherever it can be had.
func (s *session) logs(ctx context.Context, ref client.Ref, req *volleyv1.ReadLogsRequest) iter.Seq2[*volleyv1.ReadLogsResponse, error] {
	if s.in != nil {
		return s.in.Logs(ctx, ref, req)
	}
	req.JobId = ref.String()
	return s.Client.Logs(ctx, req)
}

// with opens a session for a command that only asks.
func (a *app) with(ctx context.Context, do func(*session) error) (err error) {
	s, err := a.open(ctx, need{})
	if err != nil {
		return err
	}
	defer s.end(&err)
	return do(s)
}
