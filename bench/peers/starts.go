// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// starts measures from a submission until the first process of it has said so
// through a named pipe. Every contestant starts the same shell line.
type starts struct {
	path string
	pipe *os.File
}

func (a *arena) starts() (*starts, error) {
	s := &starts{path: filepath.Join(a.dir, "started")}
	if err := syscall.Mkfifo(s.path, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make a named pipe: %w", err)
	}
	var err error
	// Read and write: a reader alone would see the end of the pipe whenever a
	// process has closed it. Non-blocking, so that a deadline ends the read.
	if s.pipe, err = os.OpenFile(s.path, os.O_RDWR|syscall.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	return s, nil
}

// script is what the process runs.
func (s *starts) script() string { return "echo >" + s.path }

// measure calls submit, waits for the process, and calls settle, which returns
// when the system is idle again.
func (s *starts) measure(ctx context.Context, samples int, submit, settle func(context.Context) error) (sample, error) {
	var out sample
	stop := context.AfterFunc(ctx, func() { _ = s.pipe.SetReadDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, 1)
	for range samples {
		begin := time.Now()
		if err := submit(ctx); err != nil {
			return out, err
		}
		if _, err := s.pipe.Read(buf); err != nil {
			return out, fmt.Errorf("wait for the first process: %w", errors.Join(ctx.Err(), err))
		}
		took := time.Since(begin)
		if err := settle(ctx); err != nil {
			return out, err
		}
		out.latencies = append(out.latencies, took.Seconds()*1e3)
		out.seconds += took.Seconds()
	}
	return out, nil
}

func (s *starts) close() { _ = s.pipe.Close() } // nothing was written
