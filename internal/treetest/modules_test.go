// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"flag"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite modules.txt")

const (
	modulesFile = "modules.txt"
	modulesHead = `# Modules linked into cmd/volley, on any platform. A new line is a decision:
# it costs size, start-up time and trust. Rewrite with
#   go test ./internal/treetest -run TestLinkedModules -update
`
)

// linkedModules lists the modules that a command links, the union over all
// platforms, ours left out.
func linkedModules(dir, pattern string) ([]string, error) {
	type listed struct {
		Module *struct{ Path string }
	}
	var all []string
	for _, p := range platforms {
		list, err := goList[listed](dir, p, "-deps", "-json=Module", pattern)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			if l.Module != nil && l.Module.Path != module {
				all = append(all, l.Module.Path)
			}
		}
	}
	return union(all), nil
}

// parseModules reads the committed list.
func parseModules(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

// compareModules names what is linked and not listed, and the reverse.
func compareModules(linked, listed []string) []string {
	var bad []string
	for _, m := range linked {
		if !slices.Contains(listed, m) {
			bad = append(bad, m+" is linked and not in "+modulesFile+": if it is worth it, run with -update")
		}
	}
	for _, m := range listed {
		if !slices.Contains(linked, m) {
			bad = append(bad, m+" is in "+modulesFile+" and not linked: run with -update")
		}
	}
	return bad
}

func TestLinkedModules(t *testing.T) {
	t.Parallel()
	linked, err := linkedModules(root(t), "./cmd/...")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		text := modulesHead + strings.Join(append(linked, ""), "\n")
		if err := os.WriteFile(modulesFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(modulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range compareModules(linked, parseModules(string(text))) {
		t.Error(bad)
	}
}

func TestLinkedModulesFindsDifferences(t *testing.T) {
	t.Parallel()
	// The generated code links grpc and protobuf: the reader must see them.
	linked, err := linkedModules(root(t), "./proto/...")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"google.golang.org/grpc", "google.golang.org/protobuf"} {
		if !slices.Contains(linked, want) {
			t.Errorf("%s is linked by proto and was not found in %q", want, linked)
		}
	}
	listed := parseModules("# comment\n\na.example/same\na.example/gone\n")
	bad := compareModules([]string{"a.example/new", "a.example/same"}, listed)
	if len(bad) != 2 || path.Base(strings.Fields(bad[0])[0]) != "new" || path.Base(strings.Fields(bad[1])[0]) != "gone" {
		t.Errorf("found %q, want a.example/new and a.example/gone", bad)
	}
}
