// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestKills is the promise of the README: while an array runs, the coordinator
// is killed three times with SIGKILL and a worker once. Every index is recorded
// once; every execution beyond one per index is the killed worker's; and what
// runs while only the coordinator dies is not run again.
func TestKills(t *testing.T) {
	t.Parallel()
	const size = 20_000
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c := newCluster(t, "--worker-lease", "4s")
	c.startCoordinator()
	// Eight slots each on whatever machine this is: the tasks are short, and
	// what is to be shown is many at once.
	c.startWorker("w1", "--cpus", "8")
	c.startWorker("w2", "--cpus", "8")
	cl := c.client(ctx)

	// The long tasks hold on from before the first kill until after the last.
	gate := filepath.Join(c.dir, "gate")
	long := c.write("long.yaml", fmt.Sprintf(`name: long
array: 4
resources: {cpu: 0.1}
run: echo "$VOLLEY_INDEX" >> %s/long.txt; while [ ! -e %s ]; do sleep 0.05; done
`, c.dir, gate))
	short := c.write("short.yaml", fmt.Sprintf(`name: short
array: %d
run: echo "$VOLLEY_INDEX $VOLLEY_NODE" >> %s/short.txt
`, size, c.dir))
	longID, shortID := c.submit(long), c.submit(short)
	c.waitFor(ctx, longID, func(j *volleyv1.Job) bool { return j.GetCounts().GetRunning() == 4 })

	recorded := func(share float64) func(*volleyv1.Job) bool {
		return func(j *volleyv1.Job) bool { return float64(j.GetCounts().GetSucceeded()) >= share*size }
	}
	for kill, share := range []float64{0.15, 0.3, 0.45} {
		c.waitFor(ctx, shortID, recorded(share))
		c.killCoordinator()
		c.startCoordinator()
		t.Logf("coordinator killed and restarted: %d", kill+1)
	}
	c.waitFor(ctx, shortID, recorded(0.5))
	if before := c.lines("long.txt"); len(before) != 4 {
		t.Fatalf("the long tasks were started %d times before the worker was killed: %v", len(before), before)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	longJob := c.waitFor(ctx, longID, terminal)
	if longJob.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED || longJob.GetLostAttempts() != 0 {
		t.Errorf("long job: %v", longJob)
	}
	if after := c.lines("long.txt"); len(after) != 4 {
		t.Errorf("the long tasks were started %d times: %v", len(after), after)
	}
	c.killWorker("w1")
	job := c.waitFor(ctx, shortID, terminal)

	if job.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED || job.GetCounts().GetSucceeded() != size {
		t.Fatalf("short job: %v", job)
	}
	seen := map[uint64]uint64{}
	for row, err := range cl.Results(ctx, &volleyv1.ListResultsRequest{JobId: shortID}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[row.GetIndex()]++
	}
	for i := range uint64(size) {
		if seen[i] != 1 {
			t.Errorf("index %d is recorded %d times", i, seen[i])
		}
	}
	c.checkExecutions(size)
}

// checkExecutions reads what the tasks wrote themselves.
func (c *cluster) checkExecutions(size uint64) {
	c.t.Helper()
	ran := map[uint64][]string{}
	for _, line := range c.lines("short.txt") {
		var i uint64
		var node string
		if _, err := fmt.Sscan(line, &i, &node); err != nil {
			c.t.Fatalf("line %q: %v", line, err)
		}
		ran[i] = append(ran[i], node)
	}
	again := 0
	for i := range size {
		switch nodes := ran[i]; len(nodes) {
		case 0:
			c.t.Errorf("index %d was never executed", i)
		case 1:
		case 2:
			// Killed between the task's line and the report: it has to run again,
			// elsewhere.
			if nodes[0] != "w1" || nodes[1] != "w2" {
				c.t.Errorf("index %d was executed on %v", i, nodes)
			}
			again++
		default:
			c.t.Errorf("index %d was executed on %v", i, nodes)
		}
	}
	c.t.Logf("%d of %d were executed again because their worker was killed", again, size)
}

func terminal(j *volleyv1.Job) bool {
	return j.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED || j.GetState() == volleyv1.JobState_JOB_STATE_FAILED
}

func (c *cluster) submit(file string) string {
	c.t.Helper()
	out, errs, code := c.run(nil, "submit", "-o", "name", file)
	if code != 0 {
		c.t.Fatalf("submit %s: exit %d\n%s", file, code, errs)
	}
	return strings.TrimSpace(out)
}

// waitFor watches the job until it is as wanted, across restarts of the
// coordinator.
func (c *cluster) waitFor(ctx context.Context, id string, want func(*volleyv1.Job) bool) *volleyv1.Job {
	c.t.Helper()
	cl := c.client(ctx)
	var last *volleyv1.Job
	for job, err := range cl.Watch(ctx, id, 20*time.Millisecond) {
		if err != nil {
			c.t.Fatalf("watch job %s: %v (last: %v)", id, err, last)
		}
		if last = job; want(job) {
			return job
		}
	}
	c.t.Fatalf("job %s ended and was never as wanted: %v", id, last)
	return nil
}

func (c *cluster) lines(name string) []string {
	c.t.Helper()
	f, err := os.Open(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		out = append(out, s.Text())
	}
	return out
}
