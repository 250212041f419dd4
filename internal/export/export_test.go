// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func children() []*volleyv1.Child {
	zero, code := int32(0), int32(137)
	ok, failed := volleyv1.JobState_JOB_STATE_SUCCEEDED, volleyv1.JobState_JOB_STATE_FAILED
	return []*volleyv1.Child{
		{
			Index: 0, State: ok, Params: `{"lr":1e-05,"depth":4,"opt":"adam","node":"p"}`, Output: `{"val_loss":0.5,"metrics":{"acc":1,"all":[1,2]},"lr":7,"big":9007199254740993}`,
			Attempts: []*volleyv1.Attempt{{Attempt: 1, StartedAt: 1700000000123, DurationUs: 1500, ExitCode: &zero, Node: "n1", PeakMemoryBytes: 1 << 20}},
		},
		{
			Index: 1, State: failed, Params: `{"lr":1,"depth":8}`, StatusReason: "Essential container in task exited",
			Attempts: []*volleyv1.Attempt{{Attempt: 1}, {Attempt: 2, StartedAt: 1700000001000, DurationUs: 2_000_000, ExitCode: &code, Node: "n2", Reason: "OutOfMemoryError: killed, \"hard\""}},
		},
		{Index: 2, State: ok, Params: `{"lr":0.1,"depth":2,"late":true}`, Output: `{"val_loss":1,"metrics":{"acc":0.25},"big":0.5}`, ReusedFrom: "1:7"},
		{Index: 3, State: failed, StatusReason: "Cancelled by user", Params: `{"lr":2,"depth":"auto"}`},
	}
}

func rows(list []*volleyv1.Child) iter.Seq2[*volleyv1.Child, error] {
	return func(yield func(*volleyv1.Child, error) bool) {
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
	}
}

var header = []string{
	"index", "lr", "depth", "opt", "param.node", "late", "val_loss", "metrics.acc", "metrics.all", "output.lr", "big",
	"state", "exitCode", "attempts", "durationMs", "peakMemory", "startedAt", "node", "reason", "reusedFrom",
}

func write(t *testing.T, f Format, list []*volleyv1.Child, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	info, err := Write(&b, f, rows(list), o)
	if err != nil {
		t.Fatal(err)
	}
	if info.Rows != uint64(len(list)) {
		t.Errorf("%d rows, want %d", info.Rows, len(list))
	}
	return b.Bytes()
}

func TestCSV(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1} { // in memory, and through a file
		got, err := csv.NewReader(bytes.NewReader(write(t, CSV, children(), Options{spool: limit}))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		want := [][]string{
			header,
			{"0", "1e-05", "4", "adam", "p", "", "0.5", "1", "[1,2]", "7", "9007199254740993", "SUCCEEDED", "0", "1", "1.5", "1048576", "2023-11-14T22:13:20.123Z", "n1", "", ""},
			{"1", "1", "8", "", "", "", "", "", "", "", "", "FAILED", "137", "2", "2000", "", "2023-11-14T22:13:21.000Z", "n2", `OutOfMemoryError: killed, "hard"`, ""},
			{"2", "0.1", "2", "", "", "true", "1", "0.25", "", "", "0.5", "SUCCEEDED", "", "0", "", "", "", "", "", "1:7"},
			{"3", "2", "auto", "", "", "", "", "", "", "", "", "FAILED", "", "0", "", "", "", "", "Cancelled by user", ""},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("spool %d: %s", limit, diff)
		}
	}
}

func TestJSONL(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSuffix(string(write(t, JSONL, children(), Options{})), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	want := `{"index":0,"lr":0.00001,"depth":4,"opt":"adam","param.node":"p","late":null,"val_loss":0.5,"metrics.acc":1.0,"metrics.all":[1,2],"output.lr":7,"big":9007199254740993,"state":"SUCCEEDED","exitCode":0,"attempts":1,"durationMs":1.5,"peakMemory":1048576,"startedAt":"2023-11-14T22:13:20.123Z","node":"n1","reason":null,"reusedFrom":null}`
	if diff := cmp.Diff(want, lines[0]); diff != "" {
		t.Error(diff)
	}
	for _, l := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil || len(m) != len(header) {
			t.Errorf("%s: %d keys, %v", l, len(m), err)
		}
	}
}

// In JSON a value is what the task reported, whatever others in its column are.
func TestOwnTypes(t *testing.T) {
	t.Parallel()
	list := []*volleyv1.Child{
		{Output: `{"v":1,"n":[1,{"a":null}],"e":{}}`},
		{Output: `{"v":"1","n":[]}`},
		{Output: `{"v":true,"n":"[1]"}`},
		{Output: `{"v":2.0,"n":{"deep":1}}`},
		{Output: `{"v":123456789012345678901}`},
		{Output: `{"v":[1.50]}`},
	}
	var got []string
	for l := range strings.SplitSeq(string(write(t, JSONL, list, Options{})), "\n") {
		before, _, _ := strings.Cut(l, `,"state"`)
		got = append(got, before)
	}
	want := []string{
		`{"index":0,"v":1,"n":[1,{"a":null}],"e":{},"n.deep":null`, `{"index":0,"v":"1","n":[],"e":null,"n.deep":null`,
		`{"index":0,"v":true,"n":"[1]","e":null,"n.deep":null`, `{"index":0,"v":2.0,"n":null,"e":null,"n.deep":1`,
		`{"index":0,"v":123456789012345678901,"n":null,"e":null,"n.deep":null`, `{"index":0,"v":[1.50],"n":null,"e":null,"n.deep":null`, "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	records, err := csv.NewReader(bytes.NewReader(write(t, CSV, list, Options{}))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	cells := [][]string{}
	for _, r := range records {
		cells = append(cells, r[1:5])
	}
	if diff := cmp.Diff([][]string{
		{"v", "n", "e", "n.deep"},
		{"1", `[1,{"a":null}]`, "{}", ""},
		{"1", "[]", "", ""},
		{"true", "[1]", "", ""},
		{"2", "", "", "1"},
		{"123456789012345678901", "", "", ""},
		{"[1.50]", "", "", ""},
	}, cells); diff != "" {
		t.Error(diff)
	}
}

// JSON and YAML are one array of what the lines are.
func TestArrays(t *testing.T) {
	t.Parallel()
	for _, list := range [][]*volleyv1.Child{nil, children()[:1], children()} {
		want := []any{}
		for l := range strings.Lines(string(write(t, JSONL, list, Options{}))) {
			var v any
			if err := json.Unmarshal([]byte(l), &v); err != nil {
				t.Fatal(err)
			}
			want = append(want, v)
		}
		for f, b := range map[Format][]byte{JSON: write(t, JSON, list, Options{}), YAML: write(t, YAML, list, Options{})} {
			if f == YAML {
				var err error
				if b, err = yaml.YAMLToJSON(b); err != nil {
					t.Fatal(err)
				}
			}
			var got any
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if diff := cmp.Diff(any(want), got); diff != "" {
				t.Errorf("%s of %d: %s", f, len(list), diff)
			}
		}
	}
}

func TestParquet(t *testing.T) {
	t.Parallel()
	b := write(t, Parquet, children(), Options{spool: 1})
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names, types []string
	for _, c := range f.Root().Columns() {
		names = append(names, c.Name())
		types = append(types, c.Type().String())
	}
	if diff := cmp.Diff(header, names); diff != "" {
		t.Fatal(diff)
	}
	i, d, s := "INT(64,true)", "DOUBLE", "STRING"
	wantTypes := []string{i, d, s, s, s, "BOOLEAN", d, d, s, i, s, s, i, i, d, i, "TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS)", s, s, s}
	if diff := cmp.Diff(wantTypes, types); diff != "" {
		t.Error(diff)
	}
	var got [][]string
	r := parquet.NewReader(f)
	defer r.Close()
	buf := make([]parquet.Row, 3)
	for {
		n, err := r.ReadRows(buf)
		for _, row := range buf[:n] {
			var cells []string
			for _, v := range row {
				if v.IsNull() {
					cells = append(cells, "null")
				} else {
					cells = append(cells, v.String())
				}
			}
			got = append(got, cells)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const n = "null"
	want := [][]string{
		{"0", "1e-05", "4", "adam", "p", n, "0.5", "1", "[1,2]", "7", "9007199254740993", "SUCCEEDED", "0", "1", "1.5", "1048576", "1700000000123", "n1", n, n},
		{"1", "1", "8", n, n, n, n, n, n, n, n, "FAILED", "137", "2", "2000", n, "1700000001000", "n2", `OutOfMemoryError: killed, "hard"`, n},
		{"2", "0.1", "2", n, n, "true", "1", "0.25", n, n, "0.5", "SUCCEEDED", n, "0", n, n, n, n, n, "1:7"},
		{"3", "2", "auto", n, n, n, n, n, n, n, n, "FAILED", n, "0", n, n, n, n, "Cancelled by user", n},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Column names come from users: they need not be Go identifiers, nor differ
// by more than case.
func TestParquetNames(t *testing.T) {
	t.Parallel()
	doc := `{"a b":1,"A b":2,"学":3,"a,b":4,"":5,"x.y":6,"x":{"y":7},"0":8}`
	b := write(t, Parquet, []*volleyv1.Child{{Params: doc, Output: doc}}, Options{})
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.Root().Columns()); n != 1+7+7+9 || f.NumRows() != 1 {
		t.Errorf("%d columns, %d rows", n, f.NumRows())
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	list := children()[:2]
	list[0].Attempts[0].StartedAt, list[1].Attempts[1].StartedAt = 0, 0 // local time zones differ
	list[0].Output = `{"val_loss":0.5}`
	want := "" +
		"index     lr  depth  opt   param.node  val_loss  state      exit  attempts  duration  memory  node  reason\n" +
		"    0  1e-05      4  adam  p                0.5  SUCCEEDED     0         1     1.5ms   1 MiB  n1    -\n" +
		"    1      1      8  -     -                  -  FAILED      137         2        2s       -  n2    OutOfMemoryError: killed, \"hard\"\n"
	if diff := cmp.Diff(want, string(write(t, Table, list, Options{}))); diff != "" {
		t.Error(diff)
	}
	empty := string(write(t, Table, nil, Options{}))
	if !strings.HasPrefix(empty, "index  state") || strings.Count(empty, "\n") != 1 {
		t.Errorf("no rows: %q", empty)
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	if got := string(write(t, CSV, nil, Options{})); got != "index,state,exitCode,attempts,durationMs,peakMemory,startedAt,node,reason,reusedFrom\n" {
		t.Errorf("CSV: %q", got)
	}
	if got := write(t, JSONL, nil, Options{}); len(got) != 0 {
		t.Errorf("JSONL: %q", got)
	}
	b := write(t, Parquet, nil, Options{})
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil || f.NumRows() != 0 {
		t.Errorf("Parquet: %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	_, err := Write(io.Discard, CSV, func(yield func(*volleyv1.Child, error) bool) {
		_ = yield(children()[0], nil) && yield(nil, gone)
	}, Options{})
	if !errors.Is(err, gone) {
		t.Errorf("stream: %v", err)
	}
	for _, f := range []Format{Table, JSON, YAML, CSV, JSONL, Parquet} {
		if _, err := Write(full{}, f, rows(children()), Options{}); !errors.Is(err, errFull) {
			t.Errorf("%s on a full disk: %v", f, err)
		}
	}
	_, err = Write(io.Discard, CSV, func(yield func(*volleyv1.Child, error) bool) {
		for i := range 20_000 {
			if !yield(&volleyv1.Child{Output: fmt.Sprintf(`{"k%d":1}`, i)}, nil) {
				return
			}
		}
	}, Options{})
	if err == nil || !strings.Contains(err.Error(), "10000 different names") {
		t.Errorf("too many columns: %v", err)
	}
	if _, err := ParseFormat("xml"); err == nil {
		t.Error("xml is a format")
	}
}

var errFull = errors.New("no space left on device")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// Memory does not grow with the rows.
func TestMemoryIsBounded(t *testing.T) {
	const n = 40_000
	gen := func(yield func(*volleyv1.Child, error) bool) {
		for i := range uint64(n) {
			c := &volleyv1.Child{Index: i, State: volleyv1.JobState_JOB_STATE_SUCCEEDED, Params: fmt.Sprintf(`{"path":"%0600d"}`, i)}
			if !yield(c, nil) {
				return
			}
		}
	}
	var peak uint64
	w := writerFunc(func(p []byte) (int, error) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
		return len(p), nil
	})
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	info, err := Write(w, CSV, gen, Options{spool: 1 << 20})
	if err != nil || info.Rows != n {
		t.Fatal(info, err)
	}
	// The rows are 24 MiB of text, and more as messages.
	if grown := int64(peak) - int64(before.HeapInuse); grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func FuzzFlatten(f *testing.F) {
	f.Add(`{"a":1,"b":{"c":[1,{"d":null}]}}`, `{"a":"x"}`)
	f.Add(`nope`, `[1e999]`)
	f.Add("{\"\xff\":\"\xff\"}", `{"index":1,"param.index":2}`)
	f.Fuzz(func(t *testing.T, params, output string) {
		list := []*volleyv1.Child{{Params: params, Output: output}, {Params: output, Output: params}}
		for _, c := range list {
			c.Params, c.Output = strings.ToValidUTF8(c.Params, "?"), strings.ToValidUTF8(c.Output, "?")
		}
		for _, format := range []Format{JSON, YAML, CSV, JSONL, Parquet} {
			var b bytes.Buffer
			if _, err := Write(&b, format, rows(list), Options{}); err != nil {
				t.Fatalf("%s: %v", format, err)
			}
		}
	})
}
