// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestMaxOutput: the flag reaches the tasks. One that writes without end is
// stopped, its neighbour is not.
func TestMaxOutput(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := newCluster(t)
	c.startCoordinator()
	c.startWorker("w", "--cpus", "2", "--max-output", "64KiB")
	c.client(ctx)
	id := c.submit(c.write("loud.yaml", "name: loud\narray: 2\nrun: test {index} -eq 0 && exec yes; head -c 60000 /dev/zero\n"))
	job := c.waitFor(ctx, id, terminal)
	if n := job.GetCounts(); job.GetState() != volleyv1.JobState_JOB_STATE_FAILED || n.GetFailed() != 1 || n.GetSucceeded() != 1 {
		t.Fatalf("%v", job)
	}
	out, errs, code := c.run(nil, "show", id+":0")
	if code != 0 || !strings.Contains(out, "OutputLimitExceeded") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if out, errs, code = c.run(nil, "logs", id+":1"); code != 0 || len(out) != 60000 {
		t.Errorf("exit %d, %d bytes of the quiet task\n%s", code, len(out), errs)
	}
}
