// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"path/filepath"
	"testing"
)

func TestLocate(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"job.yaml": `name: a
command: [/bin/true]
array: 4
resources: {cpu: 2}
retry: {attempts: 2, rules: [{onExitCode: "1", action: RETRY}]}
dependsOn:
  - {job: first, type: N_TO_N}
  - job: second
`})
	l, err := Load(t.Context(), filepath.Join(dir, "job.yaml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		message   string
		line, col int // 0: nowhere
		path      string
	}{
		{"dependsOn[0]: N_TO_N needs two arrays of the same size", 7, 5, "dependsOn[0]"},
		{`dependsOn[1]: there is no job "second"`, 8, 5, "dependsOn[1]"},
		{"depends_on[1].job: no", 8, 10, "dependsOn[1].job"},
		{"dependsOn[7]: no", 6, 1, "dependsOn"},
		{"resources.cpu_milli 2000 is too large", 4, 18, "resources.cpu"},
		{"resources.gpu -1 must not be negative", 4, 1, "resources"},
		{"retry.rules[0].on_exit_code \"1\" must be", 5, 43, "retry.rules[0].onExitCode"},
		{"name \"a\": no", 1, 7, "name"},
		{"timeout_ms 5 is too large", 0, 0, ""},
		{"the job has 0 tasks", 0, 0, ""},
		{"[3]: what", 0, 0, ""},
		{"", 0, 0, ""},
	} {
		e, ok := l.Locate(tt.message, "")
		if ok != (tt.line > 0) {
			t.Errorf("%q: located: %v", tt.message, ok)
			continue
		}
		if !ok {
			continue
		}
		if d := e.Diagnostics[0]; d.Line != tt.line || d.Column != tt.col || d.Path != tt.path || d.Message != tt.message {
			t.Errorf("%q is at %d:%d (%s), want %d:%d (%s)", d.Message, d.Line, d.Column, d.Path, tt.line, tt.col, tt.path)
		}
	}
	if _, ok := new(Loaded).Locate("name: x", ""); ok {
		t.Error("located without a file")
	}
}
