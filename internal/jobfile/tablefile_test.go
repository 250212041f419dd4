// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/sharding"
)

// TestTable reads tables through a whole job and compares the points.
func TestTable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string
		want       []string
	}{
		"types": {
			"p.csv", "a,b,c,d\n1,1e-4,true,x y\n0x10,.5,False,\"q \"\"r\"\"\"\n",
			[]string{`{"a":1,"b":0.0001,"c":true,"d":"x y"}`, `{"a":16,"b":0.5,"c":false,"d":"q \"r\""}`},
		},
		"absent":           {"p.csv", "a,b\n1,\n,2\n", []string{`{"a":1}`, `{"b":2}`}},
		"spaces":           {"p.csv", "a, b\n 1, text \n", []string{`{"a":1,"b":" text "}`}},
		"mark and crlf":    {"p.csv", "\uFEFFa,b\r\n1,x\r\n", []string{`{"a":1,"b":"x"}`}},
		"no final newline": {"p.csv", "a\n1\n2", []string{`{"a":1}`, `{"a":2}`}},
		"lines in a field": {"p.csv", "a,b\n1,\"x\ny\"\n", []string{`{"a":1,"b":"x\ny"}`}},
		"tabs":             {"p.tsv", "a\tb\n1\tx,y\n", []string{`{"a":1,"b":"x,y"}`}},
		"json": {
			"p.jsonl", "{\"a\": 1, \"b\": \"x\"}\n\n  {\"b\": null, \"c\": true, \"a\": -1.5e3}\r\n",
			[]string{`{"a":1,"b":"x"}`, `{"a":-1500,"c":true}`},
		},
		"json numbers": {"p.ndjson", `{"a": 9223372036854775807, "b": 1.0}`, []string{`{"a":9223372036854775807,"b":1}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, map[string]string{c.file: c.text, "job.yaml": "command: [prog, '{a}']\nsweep: {sampler: file, file: " + c.file + "}"})
			l, err := Load(t.Context(), filepath.Join(dir, "job.yaml"), Options{})
			if err != nil {
				t.Fatal(err)
			}
			space, err := sharding.NewSpace(l.Spec.GetSpace().GetSweep())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range space.Len() {
				p, err := space.At(i)
				if err != nil {
					t.Fatal(err)
				}
				b, err := p.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(b))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestTableRefuses(t *testing.T) {
	t.Parallel()
	columns := make([]string, sharding.MaxParams+1)
	for i := range columns {
		columns[i] = fmt.Sprintf("c%d", i)
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"empty":           {"p.csv", "", "p.csv: the table is empty"},
		"quote":           {"p.csv", "a\nx\"y\n", "p.csv:2:2: bare \""},
		"open quote":      {"p.csv", "a,b\n1,\"x\n", "p.csv:2:5: extraneous or missing \""},
		"few fields":      {"p.csv", "a,b\n1,2\n\n3\n", "p.csv:4:1: this row has 1 fields, the header has 2"},
		"number":          {"p.csv", "a,é\n", `p.csv:1:3: "é" is not the name of a parameter`},
		"reserved":        {"p.csv", "a,index\n", "p.csv:1:3: {index} has a meaning of its own"},
		"large":           {"p.csv", "a,b\n1,99999999999999999999\n", "p.csv:2:3: b: 99999999999999999999 does not fit"},
		"infinite":        {"p.csv", "a,b\né,1e999\n", "p.csv:2:3: b: 1e999 is not a finite number"},
		"not text":        {"p.csv", "a\n\xff\n", "p.csv:2:1: a: this is not text"},
		"columns":         {"p.csv", strings.Join(columns, ",") + "\n", "more than 256 columns"},
		"json text":       {"p.jsonl", "{\"a\": 1}\n[1]\n", "p.jsonl:2:1: this is not a JSON object"},
		"json two":        {"p.jsonl", `{"a": 1} {"a": 2}`, "p.jsonl:1:10: this is not JSON"},
		"json key":        {"p.jsonl", `{"é": 1, "a b": 2}`, `p.jsonl:1:2: "é" is not`},
		"json twice":      {"p.jsonl", `{"a": 1, "a": 2}`, `p.jsonl:1:10: key "a" is there twice`},
		"json number":     {"p.jsonl", `{"a": 9223372036854775808}`, "p.jsonl:1:7: a: 9223372036854775808 does not fit"},
		"json float":      {"p.jsonl", `{"a": 1e999}`, "p.jsonl:1:7: a: 1e999 does not fit"},
		"json bad":        {"p.jsonl", `{"a": nope}`, "p.jsonl:1:8: this is not JSON"},
		"json comma":      {"p.jsonl", `{"a": 1,}`, "p.jsonl:1:9: this is not JSON"},
		"json not text":   {"p.jsonl", "{\"a\": \"\xff\"}", "p.jsonl:1:1: this is not text"},
		"json zero":       {"p.jsonl", `{"a": "\u0000"}`, "p.jsonl:1:7: a: text with a zero byte"},
		"json cut":        {"p.jsonl", `{"a": `, "p.jsonl:1:6: this is not JSON: unexpected end"},
		"json cut string": {"p.jsonl", `{"a": "x`, "p.jsonl:1:8: this is not JSON: unexpected end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, map[string]string{c.file: c.text, "job.yaml": "command: [prog, '{a}']\nsweep: {sampler: file, file: " + c.file + "}"})
			ds := loadErrors(t, filepath.Join(dir, "job.yaml"), Options{}, c.want)
			if len(ds) != 1 || ds[0].Path != "sweep.file" {
				t.Errorf("%v, want one error of sweep.file", ds)
			}
		})
	}
}

func TestTableLimits(t *testing.T) {
	t.Parallel()
	tf := newTableFile(t.Context(), "t.csv", []byte("a\n"+strings.Repeat("1\n", MaxTableRows)))
	if d := tf.csv(','); d != nil {
		t.Fatalf("%d rows: %v", MaxTableRows, d)
	}
	tf = newTableFile(t.Context(), "t.csv", []byte("a\n"+strings.Repeat("1\n", MaxTableRows+1)))
	if d := tf.csv(','); d == nil || d.Line != MaxTableRows+2 || d.Message != errRows {
		t.Errorf("%d rows: %v", MaxTableRows+1, d)
	}
	if msg, bad := tooManyCells(1_000_000, 100); !bad || !strings.Contains(msg, "1000000 rows of 100 columns") {
		t.Errorf("10^8 cells: %q, %v", msg, bad)
	}
}
