// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// confined is a package of others that only some of ours may import.
type confined struct {
	// Import paths, each with everything below it.
	paths []string
	// Ours that may import it directly.
	only []string
	// Ours that may not even reach it through others.
	unreachable []string
	reason      string
}

var confinements = []confined{
	{
		paths: []string{"github.com/NVIDIA/go-nvml"}, only: []string{"worker/gpu"},
		unreachable: []string{"coordinator", "client", "sharding", "proto"},
		reason:      "NVML needs cgo and Linux; devices stand behind worker/gpu's interface",
	},
	{
		paths:       []string{"github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb", "go.etcd.io/bbolt"},
		only:        []string{"coordinator/journal"},
		unreachable: []string{"coordinator/state", "coordinator/scheduler", "worker", "client", "sharding"},
		reason:      "consensus stands behind the journal's seam, so that it can be replaced and simulated",
	},
	{
		paths: []string{"github.com/hashicorp/memberlist"}, only: []string{"internal/gossip"},
		reason: "gossip only hints; it is wrapped so that nothing takes it for authority",
	},
	{
		paths: []string{"github.com/spf13"}, only: []string{"cmd"},
		reason: "flags belong to the CLI; components take an options struct",
	},
}

// forbidden is a list of imports that some packages of ours must not have.
type forbidden struct {
	// Ours, each with everything below it.
	to []string
	// Exact import paths of the standard library ("os" is not "os/user"), or
	// paths of others with everything below them.
	paths  []string
	reason string
}

var prohibitions = []forbidden{
	{
		to: purePackages,
		paths: []string{
			"os", "os/exec", "net", "net/http", "syscall", "log", "log/slog",
			"math/rand", "math/rand/v2", "crypto/rand", "google.golang.org/grpc",
		},
		reason: pureReason,
	},
	{
		to:     []string{"coordinator/engine", "coordinator/journal", "sharding", "worker/runner", "worker/output"},
		paths:  []string{"google.golang.org/grpc"},
		reason: "transport belongs to the edges: services, sessions, agent and client",
	},
}

// testOnly are packages that must not be in the binary. grpc's bufconn is not
// among them: despite its path it is the in-process transport of the embedded
// server.
var testOnly = []string{
	"testing", "net/http/httptest", "github.com/google/go-cmp", "pgregory.net/rapid", "github.com/cockroachdb/datadriven",
	"github.com/anishathalye/porcupine", "go.uber.org/goleak", "github.com/rogpeppe/go-internal/testscript",
	"github.com/stretchr/testify", "github.com/johannesboyne/gofakes3", "google.golang.org/protobuf/testing",
}

// isTestHelper says whether a package exists for tests: journaltest, enginefake.
func isTestHelper(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, "test") || strings.HasSuffix(base, "fake")
}

func checkConfined(rules []confined, graph []pkg) []string {
	var bad []string
	for _, p := range graph {
		for _, rule := range rules {
			if !underAny(p.name, rule.only) {
				for _, target := range union(p.imports, p.testImports) {
					if underAny(target, rule.paths) {
						bad = append(bad, fmt.Sprintf("%s imports %s: %s", p.name, target, rule.reason))
					}
				}
			}
			if underAny(p.name, rule.unreachable) {
				for _, target := range p.deps {
					if underAny(target, rule.paths) && !slices.Contains(p.imports, target) {
						bad = append(bad, fmt.Sprintf("%s reaches %s: %s", p.name, target, rule.reason))
					}
				}
			}
		}
	}
	return bad
}

func checkForbidden(rules []forbidden, graph []pkg) []string {
	var bad []string
	for _, p := range graph {
		for _, rule := range rules {
			if !underAny(p.name, rule.to) {
				continue
			}
			for _, target := range p.imports {
				others := strings.Contains(target, ".") && underAny(target, rule.paths)
				if others || slices.Contains(rule.paths, target) {
					bad = append(bad, fmt.Sprintf("%s imports %s: %s", p.name, target, rule.reason))
				}
			}
		}
	}
	return bad
}

func checkTestOnly(modules []string, graph []pkg) []string {
	var bad []string
	for _, p := range graph {
		if isTestHelper(p.name) {
			continue
		}
		for _, target := range p.imports {
			switch {
			case underAny(target, modules):
				bad = append(bad, fmt.Sprintf("%s imports %s outside tests", p.name, target))
			case isTestHelper(target) && inGraph(graph)(target):
				bad = append(bad, fmt.Sprintf("%s imports the test helper %s outside tests", p.name, target))
			}
		}
	}
	return bad
}

func TestConfinedImports(t *testing.T) {
	t.Parallel()
	g := treeGraph(t)
	for _, bad := range slices.Concat(checkConfined(confinements, g), checkForbidden(prohibitions, g), checkTestOnly(testOnly, g)) {
		t.Error(bad)
	}
}

func TestConfinedImportsFindViolations(t *testing.T) {
	t.Parallel()
	const nvml = "github.com/NVIDIA/go-nvml/pkg/nvml"
	tests := []struct {
		name  string
		graph []pkg
		want  []string
	}{
		{"allowed", []pkg{{name: "worker/gpu", imports: []string{nvml}, deps: []string{nvml}}}, nil},
		{
			"direct",
			[]pkg{{name: "cmd/volley", imports: []string{nvml}}},
			[]string{"cmd/volley imports " + nvml + ": " + confinements[0].reason},
		},
		{
			"reached",
			[]pkg{{name: "coordinator/api", imports: []string{"worker/gpu"}, deps: []string{"worker/gpu", nvml}}},
			[]string{"coordinator/api reaches " + nvml + ": " + confinements[0].reason},
		},
		{
			"clock and files in the state",
			[]pkg{{name: "coordinator/state", imports: []string{"os", "time", "os/user"}, testImports: []string{"math/rand/v2"}}},
			[]string{"coordinator/state imports os: " + pureReason},
		},
		{
			"transport in the engine",
			[]pkg{{name: "coordinator/engine", imports: []string{"google.golang.org/grpc/status"}}},
			[]string{"coordinator/engine imports google.golang.org/grpc/status: " + prohibitions[1].reason},
		},
		{
			"test library in the binary",
			[]pkg{{name: "client", imports: []string{"github.com/google/go-cmp/cmp"}}},
			[]string{"client imports github.com/google/go-cmp/cmp outside tests"},
		},
		{
			"test helper in the binary",
			[]pkg{
				{name: "coordinator", imports: []string{"coordinator/journal/journaltest"}},
				{name: "coordinator/journal/journaltest", imports: []string{"testing"}},
			},
			[]string{"coordinator imports the test helper coordinator/journal/journaltest outside tests"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := slices.Concat(checkConfined(confinements, tt.graph), checkForbidden(prohibitions, tt.graph), checkTestOnly(testOnly, tt.graph))
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}
