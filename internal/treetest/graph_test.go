// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/volley-batch/volley"

// pkg is a package of ours as the import graph sees it. Names of our packages
// are relative to the module ("coordinator/state"), "." is the root.
type pkg struct {
	name    string
	command bool
	// Imports of the code that is linked, and of its tests.
	imports, testImports []string
	// Has Go files beside tests, on at least one platform.
	code bool
	// Everything the package reaches through imports of non-test code.
	deps []string
}

// platform is one view of the tree: build constraints hide files from others.
type platform struct{ goos, cgo string }

// platforms are views that together show every file of a supported build.
var platforms = []platform{{"linux", "0"}, {"linux", "1"}, {"darwin", "0"}}

// root is the top folder of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the top folder of the module: %v", err)
	}
	return dir
}

// goList runs go list for one platform and decodes its JSON stream into T.
func goList[T any](dir string, p platform, args ...string) ([]T, error) {
	// -e: a package that does not compile has imports all the same, and the
	// compiler reports it better than we would.
	cmd := exec.Command("go", append([]string{"list", "-e", "-buildvcs=false"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+p.goos, "CGO_ENABLED="+p.cgo, "GOWORK=off")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	var list []T
	for dec := json.NewDecoder(&out); ; {
		var v T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list output: %w", err)
		}
		list = append(list, v)
	}
}

// loadGraph reads the import graph of the module in dir, the union over all
// platforms, ordered by name.
func loadGraph(dir string) ([]pkg, error) {
	type listed struct {
		ImportPath, Name                   string
		GoFiles, CgoFiles                  []string
		Imports, TestImports, XTestImports []string
		Deps                               []string
	}
	byName := make(map[string]*pkg)
	for _, p := range platforms {
		list, err := goList[listed](dir, p, "-json=ImportPath,Name,GoFiles,CgoFiles,Imports,TestImports,XTestImports,Deps", "./...")
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			name := ours(l.ImportPath)
			if byName[name] == nil {
				byName[name] = &pkg{name: name}
			}
			v := byName[name]
			v.command = v.command || l.Name == "main"
			v.code = v.code || len(l.GoFiles)+len(l.CgoFiles) > 0
			v.imports = union(v.imports, l.Imports)
			v.testImports = union(v.testImports, l.TestImports, l.XTestImports)
			v.deps = union(v.deps, l.Deps)
		}
	}
	var graph []pkg
	for _, v := range byName {
		graph = append(graph, *v)
	}
	slices.SortFunc(graph, func(a, b pkg) int { return strings.Compare(a.name, b.name) })
	return graph, nil
}

// ours shortens the import path of a package of this module and leaves others
// as they are.
func ours(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// union is the sorted set of all names, ours shortened.
func union(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		for _, path := range l {
			all = append(all, ours(path))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// under says whether a path is the folder or lies below it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// underAny says whether a path is one of the folders or lies below one.
func underAny(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return under(path, f) })
}

var graph = sync.OnceValues(func() ([]pkg, error) { return loadGraph(filepath.Join("..", "..")) })

// treeGraph is the graph of the real tree, read once.
func treeGraph(t *testing.T) []pkg {
	t.Helper()
	g, err := graph()
	if err != nil {
		t.Fatal(err)
	}
	if len(g) == 0 {
		t.Fatal("go list found no package")
	}
	return g
}
