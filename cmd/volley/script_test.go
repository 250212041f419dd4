// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"volley": func() { os.Exit(mainExit()) }})
}

// TestScripts runs the real program against real coordinators and workers.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			// Under -race every process would sleep a second before it exits.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			for _, name := range []string{"PORT", "PORT2"} {
				p, err := freePort()
				if err != nil {
					return err
				}
				e.Setenv(name, p)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rc":        cmdRC,
			"waitfile":  cmdWaitFile,
			"waitline":  cmdWaitLine,
			"waitnodes": cmdWaitNodes,
			"lines":     cmdLines,
		},
	})
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// cmdRC is `rc STATUS COMMAND…`: exec that wants one exit status.
func cmdRC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// poll waits until a condition holds.
func poll(ts *testscript.TestScript, what string, done func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("no %s within a minute", what)
		}
	}
}

// cmdWaitFile is `waitfile FILE`.
func cmdWaitFile(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	poll(ts, args[0], func() bool { _, err := os.Stat(path); return err == nil })
}

// cmdWaitLine is `waitline FILE TEXT`: until the file has the text.
func cmdWaitLine(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	poll(ts, strconv.Quote(args[1])+" in "+args[0], func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), args[1])
	})
}

// cmdWaitNodes is `waitnodes N`: until so many nodes of VOLLEY_ADDR are ready.
func cmdWaitNodes(ts *testscript.TestScript, _ bool, args []string) {
	addr := ts.Getenv("VOLLEY_ADDR")
	store := credential.Store{Dir: filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), "volley", "credentials")}
	poll(ts, args[0]+" ready nodes", func() bool {
		token, err := store.Load(addr)
		if err != nil {
			return false
		}
		c, err := client.Dial(context.Background(), client.Options{Addr: addr, Token: token})
		if err != nil {
			return false
		}
		defer c.Close()
		nodes, err := c.Nodes(context.Background())
		ready := 0
		for _, n := range nodes {
			if n.State == volleyv1.NodeState_NODE_STATE_READY {
				ready++
			}
		}
		return err == nil && strconv.Itoa(ready) == args[0]
	})
}

// cmdLines is `lines N FILE`.
func cmdLines(ts *testscript.TestScript, _ bool, args []string) {
	if n := strings.Count(ts.ReadFile(args[1]), "\n"); strconv.Itoa(n) != args[0] {
		ts.Fatalf("%s has %d lines, want %s:\n%s", args[1], n, args[0], ts.ReadFile(args[1]))
	}
}
