// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func build(t testing.TB, dir string, m *volleyv1.Map) *Manifest {
	t.Helper()
	got, err := BuildManifest(context.Background(), dir, m)
	if err != nil {
		t.Fatal(err)
	}
	// What is read back from the encoding is what tests look at.
	data := got.Encode()
	again, err := ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Encode(), data) {
		t.Fatal("Encode and ParseManifest do not round-trip")
	}
	if diff := cmp.Diff(got, again, cmp.AllowUnexported(Manifest{}, manifestFile{}, fileRecords{}, offsetIndex{}, cutList{}, names{}), cmpEmpty); diff != "" {
		t.Fatalf("manifest (-built +parsed):\n%s", diff)
	}
	return again
}

// cmpEmpty makes nil and empty slices equal.
var cmpEmpty = cmp.FilterValues(func(a, b []string) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())

func open(t testing.TB, m *Manifest, dir string) *Reader {
	t.Helper()
	r, err := m.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// points are the parameters of all records, backwards and forwards.
func points(t testing.TB, m *Manifest, dir string) []string {
	t.Helper()
	r := open(t, m, dir)
	out := make([]string, m.Records())
	for k := range 2 * len(out) {
		i := k
		if k < len(out) {
			i = len(out) - 1 - k
		} else {
			i -= len(out)
		}
		rec, err := r.Record(uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		s := strings.ReplaceAll(rec.Point.String(), dir, "DIR")
		if k >= len(out) && out[i] != s {
			t.Fatalf("record %d is %s and then %s", i, out[i], s)
		}
		out[i] = s
	}
	return out
}

func TestManifestBuild(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		files  map[string]string
		m      *volleyv1.Map
		format volleyv1.MapFormat
		params []string
		want   []string
	}{
		{
			"lines",
			map[string]string{"a.txt": "x\n\ny z\r\nlast"},
			&volleyv1.Map{Over: "a.txt"}, formatLines,
			[]string{"line"},
			[]string{`{"line":"x"}`, `{"line":"y z"}`, `{"line":"last"}`},
		},
		{
			"csv",
			map[string]string{"t.csv": "\xef\xbb\xbfid,full name,index,\r\n1,\"a, \"\"b\"\"\",,z\r\n\r\n2,\"l1\nl2\",9,\r\n"},
			&volleyv1.Map{Over: "t.csv"}, formatCSV,
			[]string{"id", "full_name", "index_", "_4"},
			[]string{`{"id":"1","full_name":"a, \"b\"","index_":"","_4":"z"}`, `{"id":"2","full_name":"l1\nl2","index_":"9","_4":""}`},
		},
		{
			"tsv",
			map[string]string{"t.TSV": "a,b\tc\n1,5\t2\n"},
			&volleyv1.Map{Over: "t.TSV"}, formatCSV,
			[]string{"a_b", "c"},
			[]string{`{"a_b":"1,5","c":"2"}`},
		},
		{
			"semicolons",
			map[string]string{"t.csv": "a;b\n1,5;2\n"},
			&volleyv1.Map{Over: "t.csv"}, formatCSV,
			[]string{"a", "b"},
			[]string{`{"a":"1,5","b":"2"}`},
		},
		{
			"jsonl",
			map[string]string{"r.jsonl": "{\"a\":1,\"b\":\"x\"}\n\n  \n{\"b\":null,\"c d\":[1, 2]}\n{}"},
			&volleyv1.Map{Over: "r.jsonl"}, formatJSONL,
			[]string{"a", "b", "c_d"},
			[]string{`{"a":1,"b":"x"}`, `{"c_d":"[1,2]"}`, `{}`},
		},
		{
			"one match of a pattern is a file",
			map[string]string{"d/a.csv": "x"},
			&volleyv1.Map{Over: "d/*.csv"}, formatFiles,
			[]string{"path", "file", "stem"},
			[]string{`{"path":"DIR/d/a.csv","file":"d/a.csv","stem":"a"}`},
		},
		{
			"files",
			map[string]string{"b.tar.gz": "x", "a": "", ".c": ""},
			&volleyv1.Map{Over: "[.a-b]*"}, formatFiles,
			[]string{"path", "file", "stem"},
			[]string{`{"path":"DIR/a","file":"a","stem":"a"}`, `{"path":"DIR/b.tar.gz","file":"b.tar.gz","stem":"b.tar"}`},
		},
		{
			"records of several files",
			map[string]string{"p1.csv": "a,b\n1,2\n3,4", "p2.csv": "", "p3.csv": "a,\"b\"\r\n", "p4.csv": "a,b\n5,6\n"},
			&volleyv1.Map{Over: "p*.csv", Format: formatCSV}, formatCSV,
			[]string{"a", "b"},
			[]string{`{"a":"1","b":"2"}`, `{"a":"3","b":"4"}`, `{"a":"5","b":"6"}`},
		},
		{
			"first file empty",
			map[string]string{"p1": "", "p2": "x\n", "p3": "", "p4": "y"},
			&volleyv1.Map{Over: "p?", Format: formatLines}, formatLines,
			[]string{"line"},
			[]string{`{"line":"x"}`, `{"line":"y"}`},
		},
		{
			"format given",
			map[string]string{"r.csv": "a,b\n"},
			&volleyv1.Map{Over: "r.csv", Format: formatLines}, formatLines,
			[]string{"line"},
			[]string{`{"line":"a,b"}`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, tt.files)
			m := build(t, dir, tt.m)
			if m.Format() != tt.format {
				t.Errorf("format %v, want %v", m.Format(), tt.format)
			}
			params, ok := m.Params()
			if diff := cmp.Diff(tt.params, params); diff != "" || !ok {
				t.Errorf("parameters, %v (-want +got):\n%s", ok, diff)
			}
			if diff := cmp.Diff(tt.want, points(t, m, dir)); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManifestErrors(t *testing.T) {
	t.Parallel()
	rows := func(n uint64) *volleyv1.Shard { return &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: n}} }
	size := func(n uint64) *volleyv1.Shard { return &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: n}} }
	target := func(n int64) *volleyv1.Shard { return &volleyv1.Shard{By: &volleyv1.Shard_TargetMs{TargetMs: n}} }
	tests := []struct {
		content string
		m       *volleyv1.Map
		path    string
		want    string
	}{
		{"", &volleyv1.Map{Over: "f.txt"}, "map.over", "no records: the file is empty"},
		{"\n\n", &volleyv1.Map{Over: "f.txt"}, "map.over", "no records"},
		{"", &volleyv1.Map{Over: "f.csv"}, "map.over", "no records: the file is empty"},
		{"a,b\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "a header and no rows"},
		{"a,b\n1,2\n\n1,2,3\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "f.csv, line 4: 3 fields, the header has 2"},
		{"a,b\n\"1\n\",2\n1\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "f.csv, line 4: 1 fields"},
		{"a,b,a\n", &volleyv1.Map{Over: "f.csv"}, "map.over", `f.csv, line 1: header: columns 1 and 3 have the same name "a"`},
		{"a,b,A\n", &volleyv1.Map{Over: "f.csv"}, "map.over", `f.csv, line 1: header: the columns "a" and "A" differ only in case: tasks would find both as VOLLEY_PARAM_A; rename one`},
		{"a b,a_b\n", &volleyv1.Map{Over: "f.csv"}, "map.over", `columns "a b" and "a_b" both give the parameter name "a_b"`},
		{"a,b\n1,\"x\"y\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "f.csv, line 2, column 6: text after a closing quote"},
		{"a,b\n1,\"l\nm\"y\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "f.csv, line 3, column 3: text after"},
		{"a,b\n1,\"x\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "f.csv, line 2: a quoted field begins here and never ends"},
		{strings.Repeat(",", maxColumns) + "\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "4097 columns; at most 4096"},
		{strings.Repeat("x", 129) + "\n", &volleyv1.Map{Over: "f.csv"}, "map.over", "column 1 has a name of 129 bytes"},
		{"{}\n{\"a\":1,}\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", "f.jsonl, line 2, column 8: invalid JSON"},
		{"{}\n{\"a\":1\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", "f.jsonl, line 2, column 7: invalid JSON: unexpected end"},
		{"{}\n[1]\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", "f.jsonl, line 2, column 1: not a JSON object"},
		{"[\n{}\n]\n", &volleyv1.Map{Over: "f.json"}, "map.over", "f.json, line 1, column 2: invalid JSON"},
		{"{\"a\":1,\"a\":2}\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", `line 1: keys 1 and 2 have the same name "a"`},
		{"{\"a\":1}\n{\"A\":1}\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", `line 2: the keys "a" and "A" differ only in case`},
		{"{\"a\":1,\"A\":1}\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", `line 1: the keys "a" and "A" differ only in case`},
		{"{\"a.b\":1,\"a_b\":2}\n", &volleyv1.Map{Over: "f.jsonl"}, "map.over", `keys "a.b" and "a_b" both give`},
		{"a\x00b\n", &volleyv1.Map{Over: "f.txt"}, "map.over", "NUL byte at offset 1"},
		{"\xff\xfea\x00", &volleyv1.Map{Over: "f.csv"}, "map.over", "UTF-16"},
		{strings.Repeat("x", maxRecord+1), &volleyv1.Map{Over: "f.txt"}, "map.over", "f.txt, line 1: a record of more than 16 MiB"},
		{"x", &volleyv1.Map{Over: "f.txt", Shard: rows(0)}, "map.shard.rows", "at least one row"},
		{"x", &volleyv1.Map{Over: "f.txt", Shard: rows(1 << 63)}, "map.shard.rows", "fewer than 2^63"},
		{"x", &volleyv1.Map{Over: "f.txt", Shard: size(0)}, "map.shard.bytes", "at least one byte"},
		{"x", &volleyv1.Map{Over: "f.txt", Shard: target(-5)}, "map.shard.target", "positive"},
		{"x", &volleyv1.Map{Over: "f.txt", Shard: target(1 << 60)}, "map.shard.target", "positive"},
		{"x", &volleyv1.Map{Over: "f.txt", Format: 77}, "map.format", "unknown format"},
		{"x", &volleyv1.Map{Over: "g.txt"}, "map.over", "did you mean f.txt?"},
		{"x", &volleyv1.Map{}, "map.over", "no data set"},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			name := tt.m.Over
			if name == "" || name == "g.txt" {
				name = "f.txt"
			}
			dir := tree(t, map[string]string{name: tt.content})
			_, err := BuildManifest(context.Background(), dir, tt.m)
			var e *Error
			if !errors.As(err, &e) || e.Path != tt.path || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want path %s and %q", err, tt.path, tt.want)
			}
		})
	}
	t.Run("headers differ", func(t *testing.T) {
		t.Parallel()
		dir := tree(t, map[string]string{"p1.csv": "a,b\n1,2\n", "p2.csv": "a,c\n1,2\n", "q1.csv": "a\n1\n", "q2.csv": "a,b\n1,2\n"})
		for over, want := range map[string]string{
			"p*.csv": `p2.csv, line 1: column 2 is "c", in p1.csv it is "b"`,
			"q*.csv": "q2.csv, line 1: 2 columns, q1.csv has 1",
		} {
			_, err := BuildManifest(context.Background(), dir, &volleyv1.Map{Over: over, Format: formatCSV})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	})
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.Symlink("f.txt", filepath.Join(dir, "f.txt")); err != nil {
			t.Fatal(err)
		}
		_, err := BuildManifest(context.Background(), dir, &volleyv1.Map{Over: "f.txt"})
		if err == nil || !strings.Contains(err.Error(), "cannot be read: stat") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		dir := tree(t, map[string]string{"f.txt": "x"})
		if _, err := BuildManifest(ctx, dir, &volleyv1.Map{Over: "f.txt"}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	})
}

// TestManifestOpenKeys holds that keys which are data (ids as keys) do not fill
// the manifest.
func TestManifestOpenKeys(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range maxColumns + 10 {
		fmt.Fprintf(&b, "{\"k%d\":%d}\n", i, i)
	}
	dir := tree(t, map[string]string{"r.jsonl": b.String()})
	m := build(t, dir, &volleyv1.Map{Over: "r.jsonl"})
	if _, ok := m.Params(); ok {
		t.Error("the parameters are said to be known")
	}
	rec, err := open(t, m, dir).Record(maxColumns + 5)
	if err != nil || rec.Point.String() != `{"k4101":4101}` {
		t.Errorf("%v, %v", rec.Point, err)
	}
}

// TestManifestSize holds the promise on the size of the offset index, and reads
// through it after it was thinned.
func TestManifestSize(t *testing.T) {
	t.Parallel()
	const n = 60_000
	var a, b strings.Builder
	for i := range n {
		fmt.Fprintf(&a, "line %d\n", i)
		if i%3 == 0 {
			fmt.Fprintf(&b, "other %d with more text in it\n", i)
		}
	}
	dir := tree(t, map[string]string{"a.txt": a.String(), "b.txt": b.String()})
	m := build(t, dir, &volleyv1.Map{Over: "?.txt", Format: formatLines})
	if m.Records() != n+n/3 || m.index.every != 8 || len(m.index.marks) > freeMarks {
		t.Errorf("%d records, a mark every %d, %d marks", m.Records(), m.index.every, len(m.index.marks))
	}
	if size := len(m.Encode()); size > 4*freeMarks {
		t.Errorf("%d bytes", size)
	}
	r := open(t, m, dir)
	for _, i := range []uint64{0, 7, 8, 9, 59_999, 60_000, 60_001, 79_999, 12_345, 12_340, 12_346} {
		want := fmt.Sprintf("line %d", i)
		if i >= n {
			want = fmt.Sprintf("other %d with more text in it", (i-n)*3)
		}
		rec, err := r.Record(i)
		if err != nil || string(rec.Raw) != want || rec.Index != i {
			t.Errorf("record %d: %q, %v; want %q", i, rec.Raw, err, want)
		}
	}
}

// TestOffsetBuilder holds the bound at a size that no test writes to disk: 10^8
// records in 1 MiB.
func TestOffsetBuilder(t *testing.T) {
	t.Parallel()
	const n = 10_000_000
	var b offsetBuilder
	off := uint64(0)
	for f := range 4 {
		b.file()
		for i := range n / 4 {
			b.add(off)
			off += 90 + uint64(i*7%21)
		}
		if f == 3 {
			b.file() // an empty one
		}
	}
	x := b.finish()
	if x.every != maxEvery {
		t.Fatalf("a mark every %d records", x.every)
	}
	m := &Manifest{format: formatLines, index: x, params: newNames(paramsOf(formatLines)), files: make([]manifestFile, 5), data: make([]fileRecords, 5)}
	for f := range 4 {
		m.data[f].n = n / 4
		if got := len(x.ofFile(f)); got != (n/4-1)/maxEvery {
			t.Errorf("file %d has %d marks", f, got)
		}
	}
	// Ten times as many records may take 1 MiB.
	if size := len(m.Encode()); size > 1<<20/10 {
		t.Errorf("%d bytes for %d records", size, n)
	}
}

func TestParseManifestErrors(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"p1.csv": "a,b\n1,2\n3,4\n5,6\n", "p2.csv": "a,b\n7,8\n"})
	shard := &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: 6}}
	good := build(t, dir, &volleyv1.Map{Over: "p*.csv", Format: formatCSV, Shard: shard}).Encode()
	for i := range good {
		if _, err := ParseManifest(good[:i]); !errors.Is(err, ErrManifest) {
			t.Errorf("first %d bytes: %v", i, err)
		}
	}
	for name, data := range map[string][]byte{
		"version":   append([]byte{99}, good[1:]...),
		"format":    append([]byte{1, 9}, good[2:]...),
		"too long":  append(bytes.Clone(good), 0),
		"delimiter": append([]byte{1, 2, 'x'}, good[3:]...),
		"many":      {1, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"escape":    {1, 4, 0, 0, 0, 1, 0, 4, '.', '.', '/', 'x', 1, 1, 0},
	} {
		if _, err := ParseManifest(data); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	dir := tree(f, map[string]string{
		"p1.csv": "a,b\n1,2\n3,4\n5,6\n", "p2.csv": "a,b\n7,8\n", "r.jsonl": "{\"x\":1}\n{\"y\":2}\n", "l.txt": strings.Repeat("abc\n", 50),
	})
	for _, m := range []*volleyv1.Map{
		{Over: "p*.csv", Format: formatCSV, Shard: &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: 6}}},
		{Over: "*"},
		{Over: "r.jsonl"},
		{Over: "l.txt"},
	} {
		f.Add(build(f, dir, m).Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		again, err := ParseManifest(m.Encode())
		if err != nil || !bytes.Equal(again.Encode(), m.Encode()) {
			t.Fatalf("does not round-trip: %v", err)
		}
		shard := &volleyv1.Shard{}
		if m.cuts.bytes > 0 && m.cuts.bytes < 1<<63 {
			shard.By = &volleyv1.Shard_Bytes{Bytes: m.cuts.bytes}
		}
		s, err := Split(m, shard)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []uint64{0, s.Len() / 2, s.Len() - 1} {
			run := s.At(k)
			if run.Count == 0 || run.End() > m.Records() {
				t.Fatalf("shard %d of %d is %v of %d records", k, s.Len(), run, m.Records())
			}
		}
		// The files are not there, or are others: an error, whatever it says.
		r := open(t, m, dir)
		for _, i := range []uint64{0, m.Records() / 2, m.Records() - 1, m.Records()} {
			if rec, err := r.Record(i); err == nil {
				if _, err := json.Marshal(rec.Point); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
