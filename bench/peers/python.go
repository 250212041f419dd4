// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed agents/*.py
var agents embed.FS

// agent is a peer that is a Python library, driven by a process that uses it.
type agent struct {
	d   *daemon
	in  io.WriteCloser
	out *bufio.Scanner
	a   *arena
}

// answer is a line from the agent.
type answer struct {
	Ready     string    `json:"ready"`
	Seconds   float64   `json:"seconds"`
	Latencies []float64 `json:"latencies"`
	Error     string    `json:"error"`
}

// library makes the find and open of a Python library.
func library(c contestant, module, script string, args ...string) contestant {
	c.find = func(ctx context.Context, a *arena) (string, error) {
		if a.python == "" {
			return "", errors.New("there is no virtual environment for Python (see above)")
		}
		out, _, err := a.timed(ctx, nil, a.python, "-c",
			"import "+module+"; from importlib.metadata import version; print(version('"+strings.Split(module, ".")[0]+"'))")
		if err != nil {
			return "", fmt.Errorf("import %s: %w", module, err)
		}
		return strings.TrimSpace(out), nil
	}
	c.open = func(ctx context.Context, a *arena) (instance, error) { return openAgent(ctx, a, script, args...) }
	return c
}

func openAgent(ctx context.Context, a *arena, script string, args ...string) (instance, error) {
	names, err := agents.ReadDir("agents")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		text, err := agents.ReadFile("agents/" + n.Name())
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(a.dir, n.Name()), text, 0o600); err != nil {
			return nil, err
		}
	}
	cmd := a.command(ctx, a.python, append([]string{script, strconv.Itoa(a.slots)}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", a.python, err)
	}
	g := &agent{d: &daemon{cmd: cmd, done: make(chan struct{})}, in: in, out: bufio.NewScanner(r), a: a}
	go func() {
		g.d.err = cmd.Wait()
		close(g.d.done)
	}()
	// Killing the agent when time is up closes the pipe, which ends the read;
	// daemons of the library may hold no end of it.
	context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	first, err := g.read()
	if err == nil && first.Ready == "" {
		err = errors.New("the agent did not say that it is ready")
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *agent) read() (answer, error) {
	if !g.out.Scan() {
		err := g.out.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
			// It is about to end; what it says last is why.
			select {
			case <-g.d.done:
			case <-time.After(5 * time.Second):
			}
		}
		return answer{}, fmt.Errorf("read from the agent: %w%s", err, g.a.said())
	}
	var r answer
	if err := json.Unmarshal(g.out.Bytes(), &r); err != nil {
		return answer{}, fmt.Errorf("read from the agent: %w", err)
	}
	if r.Error != "" {
		return answer{}, errors.New(r.Error)
	}
	return r, nil
}

func (g *agent) run(_ context.Context, r row, tasks int) (sample, error) {
	line, err := json.Marshal(map[string]any{"row": r, "tasks": tasks})
	if err != nil {
		return sample{}, err
	}
	if _, err := g.in.Write(append(line, '\n')); err != nil {
		return sample{}, fmt.Errorf("write to the agent: %w%s", err, g.a.said())
	}
	ans, err := g.read()
	return sample{seconds: ans.Seconds, latencies: ans.Latencies}, err
}

// close ends standard input, upon which the agent shuts its library down.
func (g *agent) close() error {
	_ = g.in.Close() // it has ended: stop says so
	select {
	case <-g.d.done:
		return nil
	case <-time.After(15 * time.Second):
		return g.d.stop(syscall.SIGTERM)
	}
}
