// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/credential"
)

// volley is the path of the binary under test.
var volley string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "volley-e2e-")
	if err != nil {
		panic(err)
	}
	volley = filepath.Join(dir, "volley")
	build := exec.Command("go", "build", "-o", volley, "github.com/volley-batch/volley/cmd/volley")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build volley: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// cluster is a coordinator and its workers, each a process.
type cluster struct {
	t    *testing.T
	dir  string
	addr string
	args []string // of the coordinator

	mu          sync.Mutex
	coordinator *process
	workers     map[string]*process
}

// process is a running volley. Its stderr is kept for the failure report.
type process struct {
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
}

// logBuffer is written by a process and read by the test meanwhile.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), args: args, workers: map[string]*process{}}
	c.addr = freeAddr(t)
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for name, p := range c.workers {
			p.kill()
			c.report(name, p)
		}
		if c.coordinator != nil {
			c.coordinator.kill()
			c.report("coordinator", c.coordinator)
		}
	})
	return c
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// report shows the end of a process's log when the test has failed.
func (c *cluster) report(name string, p *process) {
	if !c.t.Failed() {
		return
	}
	b := p.log.String()
	c.t.Logf("%s:\n%s", name, b[max(0, len(b)-4000):])
}

func (c *cluster) env() []string {
	return append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"), "VOLLEY_ADDR="+c.addr)
}

func (c *cluster) start(args ...string) *process {
	c.t.Helper()
	p := &process{cmd: exec.Command(volley, args...), log: new(logBuffer), done: make(chan struct{})}
	p.cmd.Env = c.env()
	p.cmd.Stderr = p.log
	p.cmd.Stdout = p.log
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// kill is kill -9, and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop is SIGTERM. It fails the test when the process does not end cleanly and
// soon.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("still there 20 s after SIGTERM:\n%s", p.log)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d after SIGTERM:\n%s", code, p.log)
	}
}

func (c *cluster) startCoordinator() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coordinator = c.start(append([]string{"coordinator", "--data", filepath.Join(c.dir, "coordinator"), "--listen", c.addr}, c.args...)...)
}

func (c *cluster) killCoordinator() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coordinator.kill()
}

func (c *cluster) startWorker(name string, args ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[name] = c.start(append([]string{"worker", "--coordinator", c.addr, "--data", filepath.Join(c.dir, name), "--name", name}, args...)...)
}

func (c *cluster) stopWorker(name string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[name].stop(c.t)
}

func (c *cluster) killWorker(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[name].kill()
}

// client connects as a program of the same user would, and waits until the
// coordinator answers.
func (c *cluster) client(ctx context.Context) *client.Client {
	c.t.Helper()
	store := credential.Store{Dir: filepath.Join(c.dir, "config", "volley", "credentials")}
	for {
		token, err := store.Load(c.addr)
		if err == nil {
			cl, err := client.Dial(ctx, client.Options{Addr: c.addr, Token: token})
			if err == nil {
				c.t.Cleanup(func() { _ = cl.Close() })
				return cl
			}
			if client.Kind(err) != client.Unreachable {
				c.t.Fatal(err)
			}
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("the coordinator does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// run runs a volley command to its end.
func (c *cluster) run(stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	return c.runAs(stdin, "config", args...)
}

// runAs is run with another configuration directory: as another user.
func (c *cluster) runAs(stdin io.Reader, config string, args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, volley, args...)
	cmd.Env = append(c.env(), "XDG_CONFIG_HOME="+filepath.Join(c.dir, config))
	cmd.Dir = c.dir
	cmd.Stdin = stdin
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (c *cluster) write(name, content string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}
