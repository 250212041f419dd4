// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// layer says what the packages in one folder may import of ours. The table
// runs from the bottom to the top: a row names only earlier rows, so that no
// arrow can run up.
type layer struct {
	// A package belongs to the row with the longest folder that contains it,
	// so a new package counts to the top of its parent, and nothing below may
	// use it before somebody places it.
	folder string
	// Folders of rows that its packages may import, beside each other.
	allow []string
	// What its tests may import as well.
	tests []string
	// Siblings may not import each other: each stands alone.
	apart bool
	// Printed when the rule is broken.
	reason string
}

var layers = []layer{
	{folder: "proto", reason: "the contract; generated code depends on nothing of ours"},
	{folder: "internal", allow: []string{"proto"}, reason: "plumbing that every layer may use cannot know a layer"},
	{folder: "sharding", allow: []string{"proto"}, reason: "pure arithmetic, used by worker, coordinator and CLI alike"},
	{
		folder: "internal/jobfile", allow: []string{"proto", "sharding", "internal"},
		reason: "the job file becomes a JobSpec; what happens to it then is the coordinator's business",
	},
	{
		folder: "coordinator/journal",
		reason: "the journal knows bytes only; knowing entries would tie consensus to the state's format",
	},
	{
		folder: "coordinator/blob", allow: []string{"proto", "internal"},
		reason: "snapshotted files by digest; it knows no job",
	},
	{
		folder: "coordinator/state", allow: []string{"proto", "sharding", "internal"},
		reason: "state is a pure function of the journal's entries",
	},
	{
		folder: "coordinator/scheduler", allow: []string{"proto", "sharding", "internal", "coordinator/state"},
		reason: "Plan(view, now) is pure: it reads the state and decides",
	},
	{
		folder: "coordinator/permit", allow: []string{"proto", "internal", "coordinator/state"},
		reason: "the authority for limits is driven by the state, not by a session",
	},
	{
		folder: "coordinator/engine",
		allow: []string{
			"proto", "sharding", "internal",
			"coordinator/journal", "coordinator/state", "coordinator/scheduler", "coordinator/permit",
		},
		reason: "the loop knows what it drives, and nothing of who asks",
	},
	{
		folder: "coordinator/dispatch",
		allow: []string{
			"proto", "sharding", "internal",
			"coordinator/state", "coordinator/scheduler", "coordinator/permit", "coordinator/engine",
		},
		tests:  []string{"coordinator/journal"},
		reason: "worker sessions turn messages into commands for the engine; durability is the engine's business",
	},
	{folder: "client", allow: []string{"proto", "internal"}, reason: "others import the client; it must not bring a server"},
	{
		folder: "internal/progress", allow: []string{"proto", "internal", "client"},
		reason: "the live view watches a job through the client, as any other program would",
	},
	{
		folder: "coordinator/awsbatch",
		allow: []string{
			"proto", "sharding", "internal", "coordinator/blob",
			"coordinator/state", "coordinator/scheduler", "coordinator/permit", "coordinator/engine", "coordinator/dispatch",
		},
		tests:  []string{"coordinator/journal"},
		reason: "a second face on the same commands, never a second engine",
	},
	{
		folder: "coordinator/api",
		allow: []string{
			"proto", "sharding", "internal", "coordinator/blob",
			"coordinator/state", "coordinator/scheduler", "coordinator/permit", "coordinator/engine", "coordinator/dispatch",
		},
		tests:  []string{"coordinator/journal", "client"},
		reason: "services turn requests into commands; they do not reach around the engine to the journal",
	},
	{folder: "worker/runner", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/output", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/spool", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/stage", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/gpu", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/checkpoint", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/spot", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{folder: "worker/limit", allow: []string{"proto", "internal"}, apart: true, reason: "one concern each: the agent wires them"},
	{
		folder: "worker",
		allow: []string{
			"proto", "sharding", "internal",
			"worker/runner", "worker/output", "worker/spool", "worker/stage", "worker/gpu", "worker/checkpoint", "worker/spot", "worker/limit",
		},
		reason: "a worker speaks the protocol; code shared with the coordinator would hide what is not in it",
	},
	{
		folder: "coordinator", allow: []string{
			"proto", "sharding", "internal",
			"coordinator/blob", "coordinator/journal", "coordinator/state", "coordinator/scheduler", "coordinator/permit",
			"coordinator/engine", "coordinator/dispatch", "coordinator/api", "coordinator/awsbatch",
		},
		tests:  []string{"client", "worker"},
		reason: "the server wires the coordinator; workers and clients reach it through the wire only",
	},
	{
		folder: "internal/agree", tests: []string{"proto", "client", "worker", "coordinator", "coordinator/state", "coordinator/engine", "coordinator/dispatch"},
		reason: "it holds coordinator and worker against each other from outside, as they are",
	},
	{
		folder: "internal/e2e", allow: []string{"proto", "internal", "client"},
		reason: "end-to-end tests see what a user sees: the binary and the client",
	},
	{
		folder: "internal/embedded",
		allow:  []string{"proto", "sharding", "internal", "client", "coordinator", "worker", "worker/output"},
		reason: "coordinator and worker in one process are wired from their tops, as in two",
	},
	{
		folder: "internal/load",
		allow:  []string{"proto", "sharding", "internal", "client", "coordinator", "worker"},
		reason: "the load driver meets coordinator and worker at their tops and over the wire: what it measures is what users run",
	},
	{
		folder: "cmd", allow: []string{"proto", "sharding", "internal/...", "client", "coordinator/...", "worker/..."},
		reason: "commands sit on top; benchmarks and examples are not part of the binary",
	},
	{
		folder: "bench", allow: []string{"proto", "sharding", "internal/...", "client", "coordinator/...", "worker/...", "cmd"},
		reason: "benchmarks may measure anything",
	},
	{
		folder: "examples", tests: []string{"internal/jobfile"},
		reason: "a user's program runs under volley and knows nothing of it",
	},
}

// layerOf is the position of the row of a package, -1 without one.
func layerOf(rows []layer, name string) int {
	best := -1
	for i, row := range rows {
		if under(name, row.folder) && (best < 0 || len(row.folder) > len(rows[best].folder)) {
			best = i
		}
	}
	return best
}

// checkLayers names every import of ours that runs against the table.
func checkLayers(rows []layer, graph []pkg, known func(string) bool) []string {
	var bad []string
	for _, p := range graph {
		at := layerOf(rows, p.name)
		if at < 0 {
			bad = append(bad, fmt.Sprintf("%s has no row in the table of layers: place it", p.name))
			continue
		}
		row := rows[at]
		check := func(imports, allow []string, what string) {
			for _, target := range imports {
				if !known(target) || target == p.name {
					continue
				}
				to := layerOf(rows, target)
				same := to == at && !row.apart
				sub := row.apart && under(target, row.folder)
				if same || sub || (to >= 0 && allows(rows, allow, to)) {
					continue
				}
				bad = append(bad, fmt.Sprintf("%s%s imports %s: %s", p.name, what, target, row.reason))
			}
		}
		check(p.imports, row.allow, "")
		check(p.testImports, slices.Concat(row.allow, row.tests), " (test)")
	}
	return bad
}

// allows says whether a list of folders names the row at position to. A name
// means that row alone ("internal" is not "internal/jobfile"); with /... it
// means the rows below as well.
func allows(rows []layer, allow []string, to int) bool {
	return slices.ContainsFunc(allow, func(name string) bool {
		folder, all := strings.CutSuffix(name, "/...")
		return rows[to].folder == folder || all && under(rows[to].folder, folder)
	})
}

func TestLayers(t *testing.T) {
	t.Parallel()
	g := treeGraph(t)
	for _, bad := range checkLayers(layers, g, inGraph(g)) {
		t.Error(bad)
	}
}

// TestLayerTable holds the table itself to its order.
func TestLayerTable(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for at, row := range layers {
		if row.reason == "" {
			t.Errorf("%s: no reason", row.folder)
		}
		if seen[row.folder] {
			t.Errorf("%s: two rows", row.folder)
		}
		for _, name := range slices.Concat(row.allow, row.tests) {
			if !seen[strings.TrimSuffix(name, "/...")] {
				t.Errorf("%s may import %s, which is not an earlier row", row.folder, name)
			}
			for to := at + 1; to < len(layers); to++ {
				if allows(layers, []string{name}, to) {
					t.Errorf("%s may import %s through %s: an arrow up", row.folder, layers[to].folder, name)
				}
			}
		}
		seen[row.folder] = true
	}
}

func inGraph(graph []pkg) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(graph, func(p pkg) bool { return p.name == name })
	}
}

func TestLayersFindViolations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		pkg  pkg
		want bool
	}{
		{"state down", pkg{name: "coordinator/state", imports: []string{"proto/volley/v1", "sharding", "internal/id", "fmt"}}, false},
		{"state up", pkg{name: "coordinator/state", imports: []string{"coordinator/scheduler"}}, true},
		{"state to an unplaced package", pkg{name: "coordinator/state", imports: []string{"coordinator/new"}}, true},
		{"state's test up", pkg{name: "coordinator/state", testImports: []string{"coordinator/engine"}}, true},
		{"journal alone", pkg{name: "coordinator/journal", imports: []string{"proto/volley/v1"}}, true},
		{"journal and its suite", pkg{name: "coordinator/journal/raft", testImports: []string{"coordinator/journal/journaltest"}}, false},
		{"state to a special plumbing", pkg{name: "coordinator/state", imports: []string{"internal/jobfile"}}, true},
		{"command to a special plumbing", pkg{name: "cmd/volley", imports: []string{"internal/jobfile", "internal/progress"}}, false},
		{"engine down", pkg{name: "coordinator/engine", imports: []string{"coordinator/state", "coordinator/journal"}}, false},
		{"engine up", pkg{name: "coordinator/engine", imports: []string{"coordinator/dispatch"}}, true},
		{"server down", pkg{name: "coordinator", imports: []string{"coordinator/api", "coordinator/new"}}, false},
		{"server to worker", pkg{name: "coordinator", imports: []string{"worker"}}, true},
		{"server's test to worker", pkg{name: "coordinator", testImports: []string{"worker"}}, false},
		{"worker to coordinator", pkg{name: "worker", imports: []string{"coordinator/state"}}, true},
		{"worker's test to coordinator", pkg{name: "worker", testImports: []string{"coordinator"}}, true},
		{"worker down", pkg{name: "worker", imports: []string{"worker/runner", "worker/output"}}, false},
		{"runner beside", pkg{name: "worker/runner", imports: []string{"worker/output"}}, true},
		{"runner within", pkg{name: "worker/runner", imports: []string{"worker/runner/cgroup"}}, false},
		{"client to server", pkg{name: "client", imports: []string{"coordinator/api"}}, true},
		{"sharding to plumbing", pkg{name: "sharding", imports: []string{"internal/id"}}, true},
		{"command", pkg{name: "cmd/volley", imports: []string{"client", "coordinator", "worker", "sharding"}}, false},
		{"command to benchmark", pkg{name: "cmd/volley", imports: []string{"bench"}}, true},
		{"example", pkg{name: "examples/digits", imports: []string{"client"}}, true},
		{"no row", pkg{name: "util"}, true},
	}
	known := func(name string) bool { return name != "fmt" }
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := checkLayers(layers, []pkg{tt.pkg}, known)
			if got := len(bad) > 0; got != tt.want {
				t.Errorf("violation found: %v, want %v (%q)", got, tt.want, bad)
			}
		})
	}
}
