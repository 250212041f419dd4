// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/volley-batch/volley/sharding"
)

// FuzzParse holds that no text makes Parse panic, that its answer is a file
// or an *Error, and that every place lies in the text.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("job.yaml", src)
		var ds []Diagnostic
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Diagnostics) == 0 {
				t.Fatalf("%T: %v", err, err)
			}
			ds = e.Diagnostics
		} else {
			ds = file.Warnings
			if (len(file.Spec.Command) > 0) == (file.Spec.Run != "") {
				t.Errorf("command %q and run %q", file.Spec.Command, file.Spec.Run)
			}
			if sw := file.Spec.GetSpace().GetSweep(); sw != nil && file.doc.size > 0 {
				space, err := sharding.NewSpace(sw)
				if err != nil || space.Len() != file.doc.size {
					t.Errorf("size %d, space %v", file.doc.size, err)
				}
			}
		}
		lines := strings.Count(string(src), "\n") + strings.Count(string(src), "\r") + 1
		for _, d := range ds {
			if d.Message == "" || d.Line < 0 || d.Line > lines {
				t.Errorf("%+v in a text of %d lines", d, lines)
			}
			if n := utf8.RuneCountInString(d.Source); d.Line > 0 && (d.Column < 1 || d.Column > n+1 || d.Length < 1) {
				t.Errorf("%+v: column beyond the line", d)
			}
			if !utf8.ValidString(d.Format(false)) {
				t.Errorf("%q is not UTF-8", d.Format(false))
			}
		}
	})
}

// FuzzTable holds that no table makes the readers panic.
func FuzzTable(f *testing.F) {
	f.Add([]byte("lr,opt\n1,2\n"), false)
	f.Add([]byte("lr\n\"a\nb\"\n"), false)
	f.Add([]byte(`{"lr": 1, "opt": null}`), true)
	f.Add([]byte("{\"lr\": 1\n}"), true)
	f.Fuzz(func(t *testing.T, text []byte, jsonl bool) {
		tf := newTableFile(t.Context(), "t", text)
		var d *Diagnostic
		if jsonl {
			d = tf.jsonl()
		} else {
			d = tf.csv(',')
		}
		if d != nil {
			if d.Message == "" || !utf8.ValidString(d.Format(false)) {
				t.Errorf("%+v", d)
			}
			return
		}
		table := tf.build.table()
		if n := len(tf.build.rows) * len(table.Columns); len(table.Cells) != n {
			t.Errorf("%d cells in %d rows of %d columns", len(table.Cells), len(tf.build.rows), len(table.Columns))
		}
	})
}
