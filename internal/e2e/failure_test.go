// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// until polls what processes do that the test has no other way to hear of.
func until(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s: %v", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// gated is a job of four tasks that run until the file "gate" is there. Each
// writes its process id to "pids" at the start and its index to "ended" at the
// end.
func (c *cluster) gated(ctx context.Context) (id string, open func()) {
	c.t.Helper()
	file := c.write("gated.yaml", fmt.Sprintf(`name: gated
array: 4
run: |
  cd %s
  echo $$ >> pids
  while [ ! -e gate ]; do sleep 0.05; done
  echo $VOLLEY_INDEX >> ended
`, c.dir))
	c.client(ctx) // it answers
	id = c.submit(file)
	c.waitFor(ctx, id, func(j *volleyv1.Job) bool { return j.GetCounts().GetRunning() == 4 })
	until(ctx, c.t, "four processes", func() bool {
		b, err := os.ReadFile(filepath.Join(c.dir, "pids"))
		return err == nil && strings.Count(string(b), "\n") == 4
	})
	return id, func() { c.write("gate", "") }
}

// gone waits until the processes of the gated job were reaped by their worker.
func (c *cluster) gone(ctx context.Context) {
	c.t.Helper()
	for _, line := range c.lines("pids") {
		pid, err := strconv.Atoi(line)
		if err != nil {
			c.t.Fatal(err)
		}
		until(ctx, c.t, "the end of process "+line, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
}

// TestOutage: tasks end while no coordinator is there. Their results wait with
// the worker, also when that is restarted meanwhile, and count afterwards.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(*cluster){
		"worker stays":      func(*cluster) {},
		"worker restarts":   func(c *cluster) { c.stopWorker("w"); c.startWorker("w", "--cpus", "4") },
		"coordinator moves": func(c *cluster) { c.stopWorker("w"); c.addr = freeAddr(c.t); c.startWorker("w", "--cpus", "4") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c := newCluster(t)
			c.startCoordinator()
			c.startWorker("w", "--cpus", "4")
			id, open := c.gated(ctx)
			c.killCoordinator()
			open()
			c.gone(ctx)
			between(c)
			c.startCoordinator()
			job := c.waitFor(ctx, id, terminal)
			if job.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED || job.GetCounts().GetSucceeded() != 4 || job.GetLostAttempts() != 0 {
				t.Errorf("job: %v", job)
			}
			if ended := c.lines("ended"); len(ended) != 4 {
				t.Errorf("the tasks ran to their end %d times: %v", len(ended), ended)
			}
		})
	}
}

// TestWorkerKilledWithSpool: as TestOutage, with kill -9 of the worker. What it
// had not yet spooled may run again; nothing is lost and nothing counts twice.
func TestWorkerKilledWithSpool(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := newCluster(t, "--worker-lease", "2s")
	c.startCoordinator()
	c.startWorker("w", "--cpus", "4")
	id, open := c.gated(ctx)
	c.killCoordinator()
	open()
	c.gone(ctx)
	c.killWorker("w")
	c.startCoordinator()
	c.startWorker("w", "--cpus", "4")
	job := c.waitFor(ctx, id, terminal)
	if job.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED || job.GetCounts().GetSucceeded() != 4 {
		t.Errorf("job: %v", job)
	}
	if ended := c.lines("ended"); len(ended) < 4 || uint64(len(ended)) > 4+job.GetLostAttempts() {
		t.Errorf("the tasks ran to their end %d times with %d attempts lost: %v", len(ended), job.GetLostAttempts(), ended)
	}
}

// TestWorkerStops: SIGTERM to a worker hands its tasks back. Another one runs
// them, and the attempt is not charged to a job that has one only.
func TestWorkerStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := newCluster(t)
	c.startCoordinator()
	c.startWorker("first", "--cpus", "4")
	id, open := c.gated(ctx)
	c.stopWorker("first")
	c.gone(ctx)
	open()
	c.startWorker("second", "--cpus", "4")
	job := c.waitFor(ctx, id, terminal)
	if job.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED || job.GetCounts().GetSucceeded() != 4 {
		t.Errorf("job: %v", job)
	}
	if ended := c.lines("ended"); len(ended) != 4 {
		t.Errorf("the tasks ran to their end %d times: %v", len(ended), ended)
	}
	out, _, _ := c.run(nil, "results", id, "-o", "csv")
	if strings.Count(out, ",second,") != 4 {
		t.Errorf("results are not those of the second worker:\n%s", out)
	}
}

// TestWorkerBeforeCoordinator: a worker that nobody answers says so once and
// goes on trying.
func TestWorkerBeforeCoordinator(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := newCluster(t)
	c.startWorker("w")
	w := c.workers["w"]
	until(ctx, t, "a word about the connection", func() bool { return strings.Contains(w.log.String(), "trying again") })
	if log := w.log.String(); !strings.Contains(log, "connection refused") || strings.Contains(log, "rpc error") {
		t.Errorf("log:\n%s", log)
	}
	c.startCoordinator()
	c.client(ctx) // there
	out, errs, code := c.run(nil, "run", c.write("job.yaml", "command: [/bin/true]\n"))
	if code != 0 {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if n := strings.Count(w.log.String(), "trying again"); n != 1 {
		t.Errorf("said %d times that nobody answers", n)
	}
}

// TestConflicts: who is not let in, and what two processes cannot share.
func TestConflicts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := newCluster(t)
	c.startCoordinator()
	c.client(ctx)
	store := func(dir string) credential.Store {
		return credential.Store{Dir: filepath.Join(c.dir, dir, "volley", "credentials")}
	}
	if err := store("stranger").Save(c.addr, credential.Generate()); err != nil {
		t.Fatal(err)
	}
	free := freeAddr(t)
	for _, tt := range []struct {
		name, config string
		args         []string
		text         string
	}{
		{"no credential", "nobody", []string{"ls"}, "does not let you in"},
		{"another user's credential", "stranger", []string{"ls"}, "does not let you in"},
		{"another user's worker", "stranger", []string{"worker", "--data", filepath.Join(c.dir, "w")}, "may bring workers"},
		{"directory in use", "config", []string{"coordinator", "--data", filepath.Join(c.dir, "coordinator"), "--listen", free}, "directory is in use"},
		{"port taken", "config", []string{"coordinator", "--data", filepath.Join(c.dir, "other"), "--listen", c.addr}, c.addr + " is taken"},
		{"port taken by dev", "config", []string{"dev", "--dir", filepath.Join(c.dir, "dev"), "--listen", c.addr}, c.addr + " is taken"},
	} {
		_, errs, code := c.runAs(nil, tt.config, tt.args...)
		if code != 5 || !strings.Contains(errs, tt.text) || strings.Contains(errs, "rpc error") {
			t.Errorf("%s: exit %d, want 5 and %q in:\n%s", tt.name, code, tt.text, errs)
		}
	}
	// What could not serve leaves no credential, and takes none away.
	if _, err := store("config").Load(free); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("credential of an address that nobody serves: %v", err)
	}
	if _, errs, code := c.run(nil, "ls"); code != 0 {
		t.Errorf("the owner is not let in any more: exit %d\n%s", code, errs)
	}
}
