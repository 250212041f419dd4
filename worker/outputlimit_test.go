// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"strings"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestOutputLimit stops tasks that write too much, also one that does not want
// to stop and has a long grace, and leaves the one beside them alone.
func TestOutputLimit(t *testing.T) {
	t.Parallel()
	x := &site{t: t, c: newCoordinator(t), dir: t.TempDir(), led: newLedger(t)}
	x.r = x.c.start(Config{DataDir: x.dir, Capacity: cpus(3), MaxOutputBytes: 1000})
	x.s = x.c.welcomed()
	rows := x.run(&volleyv1.JobSpec{
		GraceMs: 3_600_000,
		Run: `case $VOLLEY_INDEX in
0) head -c 1001 /dev/zero >&2; exec sleep 3600 ;;
1) trap '' TERM; head -c 1001 /dev/zero; while :; do sleep 0.05; done ;;
*) head -c 1000 /dev/zero; sleep 1.5 ;;
esac`,
	}, 3)
	for index, exit := range map[uint64]uint32{0: 143, 1: 137} {
		r := rows[index]
		if r.outcome != volleyv1.Outcome_OUTCOME_FAILED || r.exit != exit || !strings.HasPrefix(r.reason, "OutputLimitExceeded: the task wrote more than 1000 bytes") {
			t.Errorf("index %d: %+v, want a failure with exit code %d", index, r, exit)
		}
	}
	if r := rows[2]; r.outcome != 0 || r.reason != "" {
		t.Errorf("index 2: %+v, want a success", r)
	}
}
