// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"bin1/tool": 0o644, "bin2/tool": 0o755, "bin1/data": 0o644, "work/run.sh": 0o755, "bin2/sub/x": 0o755,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	bin1, bin2, work := dir+"/bin1", dir+"/bin2", dir+"/work"
	path := strings.Join([]string{"", ".", bin1, dir + "/none", work + "/run.sh", bin2}, ":")
	tests := []struct {
		name, command, path string
		want, wantErr       string
	}{
		{"on the path, past one that is not executable", "tool", path, bin2 + "/tool", ""},
		{"absolute", bin2 + "/tool", "", bin2 + "/tool", ""},
		{"relative to the directory", "./run.sh", path, work + "/run.sh", ""},
		{"relative, up", "../bin2/tool", path, bin2 + "/tool", ""},
		{"the directory is not on the path", "run.sh", path, "", `command "run.sh" not found in PATH`},
		{"missing", "trian.py", path, "", `command "trian.py" not found in PATH`},
		{"empty path", "tool", "", "", `command "tool" not found: PATH is empty`},
		{"missing, with a slash", "./trian.py", path, "", `command "./trian.py" not found`},
		{"only one that is not executable", "data", path, "", `command "` + bin1 + `/data" is not executable; set the permission with chmod +x`},
		{"a directory on the path", "sub", path, "", `command "` + bin2 + `/sub" is a directory`},
		{"not executable, with a slash", bin1 + "/tool", path, "", `command "` + bin1 + `/tool" is not executable; set the permission with chmod +x`},
		{"below a file", "./run.sh/x", path, "", `command "./run.sh/x": not a directory`},
		{"empty", "", path, "", "command is empty"},
		{"zero byte", "a\x00", path, "", `command "a\x00" has a zero byte`},
	}
	var l Lookup
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time from memory
				got, err := l.LookPath(tt.command, work, tt.path)
				if tt.wantErr != "" {
					if err == nil || err.Error() != tt.wantErr {
						t.Fatalf("error %v; want %s", err, tt.wantErr)
					}
					continue
				}
				if err != nil || got != tt.want {
					t.Fatalf("%q, %v; want %q", got, err, tt.want)
				}
			}
		})
	}
	t.Run("what was found and is gone is looked for again", func(t *testing.T) {
		if err := os.Remove(bin2 + "/tool"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(bin1+"/tool", 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := l.LookPath("tool", work, path); err != nil || got != bin1+"/tool" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestEnvBuilder is not parallel: it counts allocations.
func TestEnvBuilder(t *testing.T) {
	b := NewEnvBuilder([]string{"PATH=/bin", "A=1", "garbage", "=x", "A=2"})
	base := []string{"PATH=/bin", "A=2"}
	for range 3 {
		if diff := cmp.Diff(base, b.Env()); diff != "" {
			t.Fatalf("base (-want +got):\n%s", diff)
		}
		b.Set("VOLLEY_INDEX", "7")
		b.Set("A", "task's")
		b.Add("B=a=b")
		b.Add("garbage")
		want := []string{"PATH=/bin", "A=task's", "VOLLEY_INDEX=7", "B=a=b"}
		if diff := cmp.Diff(want, b.Env()); diff != "" {
			t.Fatalf("task (-want +got):\n%s", diff)
		}
		b.Reset()
	}
	// The environment of a task costs the strings that are its own.
	if n := testing.AllocsPerRun(100, func() {
		b.Reset()
		b.Add("VOLLEY_INDEX=7")
		b.Add("A=3")
	}); n > 0 {
		t.Errorf("%v allocations per task", n)
	}
}
