// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	tests := map[string]explainCase{}
	submit := func(c *cluster, s *journalv1.Submit) uint64 {
		s.Spec.Name = "j"
		return c.must(&journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: s}}).Job
	}
	for _, tt := range []struct {
		name  string
		setUp func(c *cluster) (job uint64, child *uint64)
		tier  string
	}{
		{"no worker", func(c *cluster) (uint64, *uint64) { return c.job(3, nil), nil }, "NO_WORKERS"},
		{"too large", func(c *cluster) (uint64, *uint64) {
			c.node("a", 2)
			c.node("b", 4)
			return c.job(1, cpus2(16)), nil
		}, "MISCONFIGURED"},
		{"concurrency", func(c *cluster) (uint64, *uint64) {
			c.node("a", 4)
			id := c.job(3, &volleyv1.JobSpec{Concurrency: 1})
			c.plan(false)
			return id, new(uint64(2))
		}, "LIMIT"},
		{"priority", func(c *cluster) (uint64, *uint64) {
			c.node("a", 1)
			c.job(5, &volleyv1.JobSpec{Priority: 7})
			id := c.job(1, nil)
			c.plan(false)
			return id, nil
		}, "PRIORITY"},
		{"another queue", func(c *cluster) (uint64, *uint64) {
			c.node("a", 1)
			c.job(5, &volleyv1.JobSpec{Queue: "theirs"})
			id := c.job(1, &volleyv1.JobSpec{Queue: "ours"})
			c.plan(false)
			return id, nil
		}, "PRIORITY"},
		{"capacity", func(c *cluster) (uint64, *uint64) {
			c.node("a", 4)
			c.job(3, nil)
			id := c.job(1, cpus2(2))
			c.plan(false)
			return id, nil
		}, "CAPACITY"},
		{"whole dependency", func(c *cluster) (uint64, *uint64) {
			dep := c.job(3, nil)
			return submit(c, &journalv1.Submit{Size: 1, Spec: &volleyv1.JobSpec{}, DependsOn: []*journalv1.Depend{{Job: dep, Type: volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE}}}), nil
		}, "DEPENDENCY"},
		{"child dependency", func(c *cluster) (uint64, *uint64) {
			dep := c.job(3, nil)
			return submit(c, &journalv1.Submit{Size: 1, Spec: &volleyv1.JobSpec{}, DependsOn: []*journalv1.Depend{{Job: dep, Index: new(uint64(1)), Type: volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE}}}), nil
		}, "DEPENDENCY"},
		{"n to n", func(c *cluster) (uint64, *uint64) {
			dep := c.job(3, nil)
			return submit(c, &journalv1.Submit{Size: 3, Array: true, Spec: &volleyv1.JobSpec{}, DependsOn: []*journalv1.Depend{{Job: dep, Type: volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N}}}), new(uint64(2))
		}, "DEPENDENCY"},
		{"sequential", func(c *cluster) (uint64, *uint64) {
			return submit(c, &journalv1.Submit{Size: 3, Array: true, Spec: &volleyv1.JobSpec{}, DependsOn: []*journalv1.Depend{{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL}}}), new(uint64(2))
		}, "DEPENDENCY"},
		{"starting", func(c *cluster) (uint64, *uint64) {
			c.node("a", 4)
			id := c.job(1, nil)
			c.plan(false)
			return id, new(uint64(0))
		}, "DISPATCHING"},
		{"under way", func(c *cluster) (uint64, *uint64) {
			c.node("a", 1)
			id := c.job(5, nil)
			c.plan(false)
			c.finish("a", 1, 0, 1, 1)
			c.report("a", &volleyv1.LeaseReport{LeaseId: 1, Started: []uint64{1, 1}})
			return id, nil
		}, "CAPACITY"},
		{"one left", func(c *cluster) (uint64, *uint64) {
			c.node("a", 1)
			id := c.job(2, nil)
			c.plan(false)
			c.report("a", &volleyv1.LeaseReport{LeaseId: 1, Started: []uint64{0, 1}})
			return id, nil
		}, "CAPACITY"},
		{"failed", func(c *cluster) (uint64, *uint64) {
			c.node("a", 4)
			id := c.job(3, nil)
			c.plan(false)
			c.report("a", &volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{0, 3}, Outcome: []uint32{1, 0, 1}, ExitCode: []uint32{3, 0, 3}})
			return id, nil
		}, "NONE"},
		{"failed child", func(c *cluster) (uint64, *uint64) {
			c.node("a", 4)
			id := c.job(1, nil)
			c.plan(false)
			c.report("a", &volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{0, 1}, Outcome: []uint32{4}, ExitCode: []uint32{137}, Reason: []uint32{1}, Reasons: []string{"OutOfMemoryError"}})
			return id, new(uint64(0))
		}, "NONE"},
		{"succeeded", func(c *cluster) (uint64, *uint64) {
			c.node("a", 4)
			id := c.job(1, nil)
			c.plan(false)
			c.finish("a", 1, 0, 1, 1)
			return id, nil
		}, "NONE"},
	} {
		tests[strings.ReplaceAll(tt.name, " ", "-")] = explainCase{tt.setUp, tt.tier}
	}
	// The sentences are in testdata/explain; -rewrite writes them. The tier is
	// here, so that it does not change with them.
	seen := 0
	datadriven.RunTest(t, "testdata/explain", func(t *testing.T, d *datadriven.TestData) string {
		tt, ok := tests[d.Cmd]
		if !ok {
			d.Fatalf(t, "there is no case %q", d.Cmd)
		}
		seen++
		c := newCluster(t, Options{})
		id, child := tt.setUp(c)
		r := Explain(c.st, c.st.Job(id), child)
		if got := strings.TrimPrefix(r.GetTier().String(), "WAIT_TIER_"); got != tt.tier {
			t.Errorf("%s: tier %s, want %s", d.Cmd, got, tt.tier)
		}
		return fmt.Sprintf("%s\nremedy: %s\n", r.GetReason(), r.GetRemedy())
	})
	if seen != len(tests) {
		t.Errorf("testdata/explain has %d of %d cases", seen, len(tests))
	}
}

type explainCase struct {
	setUp func(c *cluster) (job uint64, child *uint64)
	tier  string
}
