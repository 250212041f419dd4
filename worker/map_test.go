// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// dataSet makes a map over n lines.
func dataSet(t *testing.T, n int, shard *volleyv1.Shard) (*volleyv1.Space, string) {
	t.Helper()
	dir := t.TempDir()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "line-%d\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.txt"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &volleyv1.Map{Over: "rows.txt", Format: volleyv1.MapFormat_MAP_FORMAT_LINES, Shard: shard}
	manifest, err := sharding.BuildManifest(context.Background(), dir, m)
	if err != nil {
		t.Fatal(err)
	}
	m.Manifest = manifest.Encode()
	return &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: m}}, dir
}

func TestMapOfRecords(t *testing.T) {
	t.Parallel()
	x := newSite(t, 2)
	space, dir := dataSet(t, 3, nil)
	rows := x.run(&volleyv1.JobSpec{Command: []string{"echo", "{line}", "{first}", "{count}"}, Space: space, SubmitDir: dir}, 3)
	if rows[2].outcome != 0 {
		t.Fatalf("%+v", rows[2])
	}
	if out, _ := x.log(&volleyv1.LogRequest{Index: 2}); out != "line-2 2 1\n" {
		t.Errorf("output %q", out)
	}
}

func TestMapOfShards(t *testing.T) {
	t.Parallel()
	x := newSite(t, 2)
	space, dir := dataSet(t, 10, &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: 4}})
	rows := x.run(&volleyv1.JobSpec{Run: `cat {records}; echo {first} {count}; test "$VOLLEY_RECORDS" = {records}`, Space: space, SubmitDir: dir}, 3)
	for i, row := range rows {
		if row.outcome != 0 {
			t.Fatalf("index %d: %+v", i, row)
		}
	}
	if out, _ := x.log(&volleyv1.LogRequest{Index: 2}); out != "line-8\nline-9\n8 2\n" {
		t.Errorf("output %q", out)
	}
	if dirs := x.workDirs(); len(dirs) != 0 {
		t.Errorf("work directories stay: %v", dirs)
	}
}

func TestFusedProcesses(t *testing.T) {
	t.Parallel()
	const n = 200
	for _, tc := range []struct {
		name  string
		retry *volleyv1.Retry
		grep  string // a process fails when it has one of these lines
		want  func(t *testing.T, rows map[uint64]rowResult)
	}{
		{"all well", nil, "none", func(t *testing.T, rows map[uint64]rowResult) {
			for i, r := range rows {
				if r.outcome != 0 {
					t.Errorf("index %d: %+v", i, r)
				}
			}
		}},
		{"one bad record is isolated", nil, "line-77|line-150", func(t *testing.T, rows map[uint64]rowResult) {
			for i, r := range rows {
				if bad := i == 77 || i == 150; bad != (r.outcome == volleyv1.Outcome_OUTCOME_FAILED) {
					t.Errorf("index %d: %+v", i, r)
				}
			}
		}},
		{"left to the coordinator", &volleyv1.Retry{Attempts: 3}, "line-77", func(t *testing.T, rows map[uint64]rowResult) {
			failed := 0
			for _, r := range rows {
				if r.outcome != 0 {
					failed++
				}
			}
			if rows[77].outcome == 0 || failed < 2 {
				t.Errorf("%d indexes failed, want those of one process", failed)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			x := newSite(t, 1)
			space, dir := dataSet(t, n, &volleyv1.Shard{By: &volleyv1.Shard_TargetMs{TargetMs: 5000}})
			log := filepath.Join(t.TempDir(), "runs")
			rows := x.run(&volleyv1.JobSpec{
				Run:       `echo {first} {count} >> ` + log + `; ! grep -qxE '` + tc.grep + `' {records}`,
				Space:     space,
				SubmitDir: dir,
				Retry:     tc.retry,
			}, n)
			tc.want(t, rows)
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if runs := strings.Count(string(b), "\n"); runs >= n/2 {
				t.Errorf("%d processes for %d records: not fused", runs, n)
			}
			// The output of an index in the middle of a process is that
			// process's.
			if _, problem := x.log(&volleyv1.LogRequest{Index: 120}); problem != "" {
				t.Errorf("log of a fused index: %s", problem)
			}
		})
	}
}
