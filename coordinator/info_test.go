// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"os"
	"testing"

	"github.com/volley-batch/volley/client"
)

// TestInfoCounts: what the answer says of process and journal is real, and
// grows with work.
func TestInfoCounts(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: t.TempDir()})
	cl, ctx := client.New(s.Conn()), limit(t)
	before, err := cl.ServerInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	submit(t, s, 8)
	after, err := cl.ServerInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if p := after.GetProcess(); p.GetPid() != int64(os.Getpid()) || p.GetPeakRssBytes() == 0 || p.GetCpuUserUs() == 0 {
		t.Errorf("process is %v", p)
	}
	a, b := after.GetJournal(), before.GetJournal()
	if a.GetBatches() <= b.GetBatches() || a.GetBytes() <= b.GetBytes() || a.GetSyncs() <= b.GetSyncs() || a.GetLogBytes() == 0 || a.GetFileSystem() == "" {
		t.Errorf("journal is %v after a submit, was %v", a, b)
	}
}
