// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// purePackages decide without looking at the world.
var purePackages = []string{"coordinator/state", "coordinator/scheduler"}

const pureReason = "state and scheduler are deterministic: no clock, goroutine, randomness, I/O or log; time and ids arrive in the entry"

// clockNames are the functions of package time that read or wait for a clock.
var clockNames = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// importName is the name under which a file uses a package, empty when it does not.
func importName(f *ast.File, importPath string) string {
	for _, spec := range f.Imports {
		got, err := strconv.Unquote(spec.Path.Value)
		if err != nil || got != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// selects says whether a node is one of the names of a package: time.Sleep.
func selects(n ast.Node, pkgName string, names ...string) bool {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok || pkgName == "" || !slices.Contains(names, sel.Sel.Name) {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkgName
}

// checkSleep finds tests that sleep: they are slow on a fast machine and wrong
// on a slow one.
func checkSleep(files []source, allowed map[string]string) []string {
	var bad []string
	sleeps := make(map[string]bool)
	for _, f := range files {
		if !f.test() {
			continue
		}
		clock, bubble := importName(f.file, "time"), importName(f.file, "testing/synctest")
		ast.Inspect(f.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && selects(call.Fun, bubble, "Test") {
				return false
			}
			if !selects(n, clock, "Sleep") {
				return true
			}
			sleeps[f.name] = true
			if allowed[f.name] == "" {
				bad = append(bad, f.at(n)+": time.Sleep in a test: wait for the event, use a synctest bubble, or give a reason in sleepers")
			}
			return true
		})
	}
	for name := range allowed {
		if !sleeps[name] {
			bad = append(bad, name+" is in sleepers and does not sleep: remove it")
		}
	}
	slices.Sort(bad)
	return bad
}

// checkPure finds what imports do not show: a clock that is read and
// concurrency, in packages that must have neither.
func checkPure(files []source) []string {
	var bad []string
	for _, f := range files {
		if f.test() || isTestHelper(f.dir()) || !underAny(f.dir(), purePackages) {
			continue
		}
		clock := importName(f.file, "time")
		ast.Inspect(f.file, func(n ast.Node) bool {
			what := ""
			switch n.(type) {
			case *ast.GoStmt:
				what = "a goroutine"
			case *ast.ChanType:
				what = "a channel"
			case *ast.SelectStmt:
				what = "select"
			case *ast.SelectorExpr:
				if selects(n, clock, clockNames...) {
					what = "a clock"
				}
			}
			if what != "" {
				bad = append(bad, fmt.Sprintf("%s: %s: %s", f.at(n), what, pureReason))
			}
			return true
		})
	}
	return bad
}

func TestPureFindsViolations(t *testing.T) {
	t.Parallel()
	const head = "package state\n\nimport \"time\"\n\nvar second = time.Second\n\n"
	tests := []struct{ name, dir, body, want string }{
		{"arithmetic", "coordinator/state", "func f(t time.Time) time.Time { return t.Add(second) }", ""},
		{"clock", "coordinator/state", "func f() time.Time { return time.Now() }", ":7: a clock"},
		{"timer as a value", "coordinator/scheduler", "var f = time.AfterFunc", ":7: a clock"},
		{"goroutine", "coordinator/state", "func f() { go f() }", ":7: a goroutine"},
		{"channel", "coordinator/state", "type t struct{ c chan int }", ":7: a channel"},
		{"select", "coordinator/state", "func f() { select {} }", ":7: select"},
		{"elsewhere", "coordinator/engine", "func f() { go f() }", ""},
		{"helper", "coordinator/state/statetest", "func f() { go f() }", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files, err := loadSources(fstest.MapFS{tt.dir + "/a.go": {Data: []byte(head + tt.body + "\n")}})
			if err != nil {
				t.Fatal(err)
			}
			bad := checkPure(files)
			if (tt.want == "" && len(bad) > 0) || (tt.want != "" && (len(bad) != 1 || !strings.Contains(bad[0], tt.want))) {
				t.Errorf("found %q, want %q", bad, tt.want)
			}
		})
	}
}
