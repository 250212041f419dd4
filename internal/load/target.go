// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator"
	"github.com/volley-batch/volley/internal/credential"
)

// target is the coordinator that is measured.
type target struct {
	client *client.Client
	addr   string
	token  string // empty: the user's credential
	// dir is the run's own directory.
	dir string
	// own: it was started for this run; here: in this process.
	own, here bool
	// failed receives an error when an own coordinator ends by itself.
	failed <-chan error
	stop   func() error
}

// openTarget starts or finds the coordinator. Close it whatever happens.
func openTarget(ctx context.Context, c *Config) (_ *target, err error) {
	dir, err := os.MkdirTemp(c.Dir, "volley-bench-")
	if err != nil {
		return nil, fmt.Errorf("directory of the run: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("directory of the run: %w", err)
	}
	t := &target{dir: dir, stop: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	switch {
	case c.Coordinator != "":
		t.addr = c.Coordinator
	case c.Separate:
		err = t.spawn(ctx, c)
	default:
		err = t.embed(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	t.client, err = client.Dial(ctx, client.Options{Addr: t.addr, Token: t.token})
	return t, err
}

func (t *target) data() string { return filepath.Join(t.dir, "coordinator") }

// embed starts a coordinator in this process. It is reached over TCP all the
// same: that is what is measured.
func (t *target) embed(ctx context.Context, c *Config) error {
	t.own, t.here, t.token = true, true, credential.Generate()
	s, err := coordinator.Open(ctx, coordinator.Config{
		DataDir: t.data(), Listen: "127.0.0.1:0", Token: t.token, Version: c.Version, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	t.addr, t.stop, t.failed = s.Addr(), s.Close, s.Err()
	return nil
}

// stopTimeout is how long a coordinator's process may take to stop.
const stopTimeout = 30 * time.Second

// spawn starts a coordinator in a process of its own.
func (t *target) spawn(ctx context.Context, c *Config) error {
	t.own, t.token = true, credential.Generate()
	line, err := json.Marshal(order{Dir: t.data(), Token: t.token})
	if err != nil {
		return fmt.Errorf("start a coordinator: %w", err)
	}
	// Not with the context: it is stopped by the end of its input, after the
	// last question was put to it.
	cmd := exec.Command(c.Program, c.Arguments...)
	// An interrupt from the terminal goes to the whole group; the coordinator
	// must outlive it, or there would be nothing left to read.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start a coordinator: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a coordinator: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a coordinator: %w", err)
	}
	ended := make(chan struct{})
	failed := make(chan error, 1)
	said := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		said <- strings.TrimSpace(text)
		_, _ = io.Copy(io.Discard, out) // Wait wants all of it read
		err := cmd.Wait()
		failed <- fmt.Errorf("the coordinator's process has ended: %w", errors.Join(err, errors.New(strings.TrimSpace(complaint.String()))))
		close(ended)
	}()
	t.stop = func() error {
		_ = in.Close()
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-ended:
			return nil
		case <-timer.C:
			_ = cmd.Process.Kill()
			<-ended
			return fmt.Errorf("the coordinator's process did not stop within %v and was killed", stopTimeout)
		}
	}
	t.failed = failed
	if _, err := in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("start a coordinator: %w", err)
	}
	select {
	case t.addr = <-said:
		if t.addr == "" {
			return <-failed
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close stops what was started, and removes its directory.
func (t *target) close() error {
	var errs []error
	if t.client != nil {
		errs = append(errs, t.client.Close())
	}
	errs = append(errs, t.stop())
	errs = append(errs, os.RemoveAll(t.dir))
	return errors.Join(errs...)
}
