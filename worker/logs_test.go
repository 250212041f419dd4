// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"strings"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestLogsKeepToTheirCredit: never more is on its way than was allowed, and
// all of it arrives.
func TestLogsKeepToTheirCredit(t *testing.T) {
	x := newSite(t, 1)
	x.run(&volleyv1.JobSpec{Name: "talks", Run: "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done"}, 1)
	out, problem := x.log(&volleyv1.LogRequest{Credit: 100})
	if problem != "" || strings.Count(out, "\n") != 500 || !strings.HasSuffix(out, "line 499\n") {
		t.Errorf("%d lines, problem %q", strings.Count(out, "\n"), problem)
	}
	// Credit for a request that has ended starts nothing.
	x.s.send(&volleyv1.ConnectResponse{LogRequests: []*volleyv1.LogRequest{{RequestId: 99, Credit: 5}}})
	if out, _ := x.log(&volleyv1.LogRequest{TailBytes: 9}); out != "line 499\n" {
		t.Errorf("tail: %q", out)
	}
}
