// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a new directory.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	return treeAt(t, t.TempDir(), files)
}

func treeAt(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	// Resolved, since a temporary directory may be behind a link.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindFiles(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"a.jpg": "", "b.jpg": "", "c.png": "", ".hidden.jpg": "",
		"x/d.jpg": "", "x/y/e.jpg": "", "x/y/x/f.jpg": "", ".git/g.jpg": "",
		"[odd]/h[1].txt": "", "sub.jpg/inner.txt": "",
		"q1.csv": "", "q2.csv": "", "qa.csv": "",
	})
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("../a.jpg", filepath.Join(dir, "x", "link.jpg")))
	must(os.Symlink(".", filepath.Join(dir, "x", "loop")))
	tests := []struct {
		over string
		want []string
	}{
		{"*.jpg", []string{"a.jpg", "b.jpg"}},
		{"./*.jpg", []string{"a.jpg", "b.jpg"}},
		{"?.png", []string{"c.png"}},
		{"q[0-9].csv", []string{"q1.csv", "q2.csv"}},
		{"q[^0-9].csv", []string{"qa.csv"}},
		{"x/*.jpg", []string{"x/d.jpg", "x/link.jpg"}},
		{"x/**", []string{"x/d.jpg", "x/link.jpg", "x/y/e.jpg", "x/y/x/f.jpg"}},
		{"**/*.jpg", []string{"a.jpg", "b.jpg", "x/d.jpg", "x/link.jpg", "x/y/e.jpg", "x/y/x/f.jpg"}},
		{"**/**/f.jpg", []string{"x/y/x/f.jpg"}},
		{"**/x/**/*.jpg", []string{"x/d.jpg", "x/link.jpg", "x/y/e.jpg", "x/y/x/f.jpg"}},
		{"*/*/*.jpg", []string{"x/loop/d.jpg", "x/loop/link.jpg", "x/y/e.jpg"}},
		{".hid*", []string{".hidden.jpg"}},
		{".git/*", []string{".git/g.jpg"}},
		{"[[]odd]/*", []string{"[odd]/h[1].txt"}},
		{"[odd]/h[1].txt", []string{"[odd]/h[1].txt"}}, // the name itself
		{"x/../c.p*", []string{"c.png"}},
		{filepath.Join(dir, "c.*"), []string{"c.png"}},
		{"c.png", []string{"c.png"}},
	}
	for _, tt := range tests {
		t.Run(tt.over, func(t *testing.T) {
			t.Parallel()
			files, _, err := findFiles(context.Background(), dir, tt.over)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range files {
				rel, err := filepath.Rel(dir, f.path)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, rel)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("directory named like a pattern", func(t *testing.T) {
		t.Parallel()
		files, _, err := findFiles(context.Background(), filepath.Join(dir, "[odd]"), "*.txt")
		if err != nil || len(files) != 1 {
			t.Errorf("%v, %v", files, err)
		}
	})
}

func TestFindFilesErrors(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"images/cat.jpg": "", "rows.jsonl": ""})
	if err := os.Symlink("nowhere", filepath.Join(dir, "images", "dead.png")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"":                            "no data set",
		"row.jsonl":                   "no such file in " + dir + " (did you mean rows.jsonl?)",
		"image/cat.jpg":               "does not exist (did you mean images?)",
		"image/*.jpg":                 "no such directory: " + dir + "/image (did you mean images?)",
		"images/*.gif":                "no file matches this pattern in " + dir,
		"images":                      `write "images/*" for its files`,
		"images/*.png":                "dead.png",
		"**.jpg":                      "whole path element",
		"[a":                          "unclosed",
		"s3://bucket/x/":              "object stores",
		"a\x00b":                      "not a path",
		"rows.jsonl/*":                "cannot be listed",
		"/dev/null":                   "not a regular file",
		strings.Repeat("x/", maxPath): "not a path",
	}
	for over, want := range tests {
		_, _, err := findFiles(context.Background(), dir, over)
		var e *Error
		if !errors.As(err, &e) || e.Path != "map.over" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an *Error with %q", clipText(over), err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := findFiles(ctx, dir, "**/*.jpg"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestParamName(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"a": "a", " a b ": "a_b", "größe": "gr__e", "2x": "_2x", "": "_7", "index": "index_", "a.b-c": "a_b_c", "Job": "Job",
	} {
		if got := paramName(raw, 7); got != want || !ValidName(got) {
			t.Errorf("paramName(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"kitten", "sitting", 3}, {"a", "abcdefgh", 6}} {
		if got := editDistance(tt.a, tt.b, 5); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
