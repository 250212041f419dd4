// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func children() []*volleyv1.Child {
	m := 0.25
	code := int32(137)
	return []*volleyv1.Child{
		{Index: 3, State: volleyv1.JobState_JOB_STATE_SUCCEEDED, Params: `{"z":0.10,"a":"x && <y>"}`, Metric: &m},
		{Index: 12, State: volleyv1.JobState_JOB_STATE_FAILED, StatusReason: "a\x1b[31mb\nc", Params: "{broken", Attempts: []*volleyv1.Attempt{{Attempt: 1, StartedAt: 1 << 53, ExitCode: &code}}},
	}
}

var listing = Listing[*volleyv1.Child]{
	Columns: []Column[*volleyv1.Child]{
		{Name: "INDEX", Right: true, Cell: func(c *volleyv1.Child) string { return Count(c.Index) }},
		{Name: "STATE", Cell: func(c *volleyv1.Child) string { return Enum(c.State) }, Paint: func(s Style, c *volleyv1.Child, _ string) string { return s.State(c.State) }},
		{Name: "NODE", Wide: true, Cell: func(*volleyv1.Child) string { return "n" }},
		{Name: "NOTHING", Sparse: true, Cell: func(*volleyv1.Child) string { return "-" }},
		{Name: "REASON", Sparse: true, Cell: func(c *volleyv1.Child) string { return c.StatusReason }},
	},
	Name: func(c *volleyv1.Child) string { return "7:" + Count(c.Index) },
}

func TestListing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		format Format
		style  Style
		width  int
		want   string
	}{
		{format: FormatTable, want: "" +
			"INDEX  STATE      REASON\n" +
			"    3  SUCCEEDED\n" +
			"   12  FAILED     a\ufffd[31mb c\n"},
		{format: FormatTable, width: 20, want: "" +
			"INDEX  STATE      R…\n" +
			"    3  SUCCEEDED\n" +
			"   12  FAILED     a…\n"},
		{format: FormatTable, style: Style{Color: true}, want: "" +
			"\x1b[2mINDEX\x1b[0m  \x1b[2mSTATE\x1b[0m      \x1b[2mREASON\x1b[0m\n" +
			"    3  \x1b[32mSUCCEEDED\x1b[0m\n" +
			"   12  \x1b[31mFAILED\x1b[0m     a\ufffd[31mb c\n"},
		{format: FormatWide, want: "" +
			"INDEX  STATE      NODE  REASON\n" +
			"    3  SUCCEEDED  n\n" +
			"   12  FAILED     n     a\ufffd[31mb c\n"},
		{format: FormatName, want: "7:3\n7:12\n"},
	}
	for _, tt := range tests {
		t.Run(string(tt.format), func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := listing.Write(&b, tt.format, tt.style, tt.width, Slice(children())); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestListingJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := listing.Write(&b, FormatJSON, Style{}, 0, Slice(children())); err != nil {
		t.Fatal(err)
	}
	// Order, spelling of numbers, numbers beyond 2^53 and the document of
	// params are part of what is promised, so the text is compared.
	want := `[
  {
    "index": 3,
    "state": "SUCCEEDED",
    "attempts": [],
    "params": {
      "z": 0.10,
      "a": "x && <y>"
    },
    "output": null,
    "metric": 0.25,
    "reusedFrom": "",
    "statusReason": "",
    "workdir": ""
  },
  {
    "index": 12,
    "state": "FAILED",
    "attempts": [
      {
        "attempt": 1,
        "startedAt": 9007199254740992,
        "durationUs": 0,
        "exitCode": 137,
        "statusReason": "",
        "reason": "",
        "node": "",
        "peakMemoryBytes": 0,
        "cpuMs": 0
      }
    ],
    "params": "{broken",
    "output": null,
    "reusedFrom": "",
    "statusReason": "a\u001b[31mb\nc",
    "workdir": ""
  }
]
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	if err := listing.Write(&b, FormatJSON, Style{}, 0, Slice[*volleyv1.Child](nil)); err != nil || b.String() != "[]\n" {
		t.Errorf("empty list: %q, %v", b.String(), err)
	}
}

func TestListingYAML(t *testing.T) {
	t.Parallel()
	var y, j bytes.Buffer
	if err := errors.Join(listing.Write(&y, FormatYAML, Style{}, 0, Slice(children())), listing.Write(&j, FormatJSON, Style{}, 0, Slice(children()))); err != nil {
		t.Fatal(err)
	}
	var fromYAML, fromJSON []map[string]any
	if err := yaml.Unmarshal(y.Bytes(), &fromYAML); err != nil {
		t.Fatalf("%v\n%s", err, y.String())
	}
	if err := json.Unmarshal(j.Bytes(), &fromJSON); err != nil {
		t.Fatal(err)
	}
	norm := func(v any) any { // numbers of both decoders as float64
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var out any
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if diff := cmp.Diff(norm(fromJSON), norm(fromYAML)); diff != "" {
		t.Errorf("%s\n%s", diff, y.String())
	}
	if !strings.HasPrefix(y.String(), "- index: 3\n") && !strings.HasPrefix(y.String(), "  - index: 3\n") {
		t.Errorf("order is lost:\n%s", y.String())
	}
}

func TestListingStopsAtError(t *testing.T) {
	t.Parallel()
	broken := errors.New("gone")
	for _, f := range Formats {
		err := listing.Write(&bytes.Buffer{}, f, Style{}, 0, func(yield func(*volleyv1.Child, error) bool) {
			_ = yield(children()[0], nil) && yield(nil, broken)
		})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v, want the error", f, err)
		}
	}
}

func TestNonFinite(t *testing.T) {
	t.Parallel()
	b, err := Object{{"a", math.NaN()}, {"b", math.Inf(-1)}, {"c", []any{math.Inf(1)}}}.Compact()
	if err != nil || string(b) != `{"a":"NaN","b":"-Infinity","c":["Infinity"]}` {
		t.Errorf("%s, %v", b, err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	d := func(s string) time.Duration { v, _ := time.ParseDuration(s); return v }
	now := time.UnixMilli(100_000)
	tests := [][2]string{
		{Duration(0), "0s"},
		{Duration(d("12us")), "12µs"},
		{Duration(d("1.5ms")), "1.5ms"},
		{Duration(d("350ms")), "350ms"},
		{Duration(d("999.9ms")), "1s"},
		{Duration(d("4.24s")), "4.2s"},
		{Duration(d("9.97s")), "10s"},
		{Duration(d("59.7s")), "1m00s"},
		{Duration(d("192s")), "3m12s"},
		{Duration(d("2h5m")), "2h05m"},
		{Duration(d("76h")), "3d4h"},
		{Duration(-time.Second), "-1s"},
		{Bytes(0), "0 B"},
		{Bytes(1023), "1023 B"},
		{Bytes(1536), "1.5 KiB"},
		{Bytes(1024*1024 - 1), "1 MiB"},
		{Bytes(512 << 20), "512 MiB"},
		{Bytes(math.MaxInt64), "8 EiB"},
		{Count(0), "0"},
		{Count(999), "999"},
		{Count(1000), "1,000"},
		{Count(uint64(math.MaxUint64)), "18,446,744,073,709,551,615"},
		{Count(-1234), "-1,234"},
		{Plural(1, "task"), "1 task"},
		{Plural(uint64(1000), "task"), "1,000 tasks"},
		{Number(0.1), "0.1"},
		{Number(0.123456789), "0.123457"},
		{Time(0), "-"},
		{Ago(0, now), "-"},
		{Ago(58_500, now), "41s ago"},
		{Ago(200_000, now), "0s ago"},
		{Clean("a\x00\x9b\u202eb\xff\tc\n"), "a\ufffd\ufffd\ufffdb\ufffd c "},
		{Truncate("学習率", 5), "学習…"},
		{Truncate("学習率", 4), "学…"},
		{Truncate("学習率", 6), "学習率"},
		{Truncate("abc", 0), ""},
		{Params(`{"lr":1e-05,"opt":"a b","t":true,"s":""}`), `lr=1e-05 opt="a b" t=true s=""`},
		{Params(`[1]`), "[1]"},
		{Short(json.Number("0.003162277660168")), "0.00316228"},
		{Short(json.Number("12345678901")), "12345678901"},
		{Short("a b"), `"a b"`},
		{Params("\x1b"), "\ufffd"},
		{Params(""), ""},
	}
	for _, tt := range tests {
		if tt[0] != tt[1] {
			t.Errorf("got %q, want %q", tt[0], tt[1])
		}
	}
}

func TestParseFormat(t *testing.T) {
	t.Parallel()
	for _, f := range Formats {
		if got, err := ParseFormat(string(f)); err != nil || got != f {
			t.Errorf("%s: %v, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || !strings.Contains(err.Error(), `"xml"`) || !strings.Contains(err.Error(), "yaml") {
		t.Errorf("xml: %v", err)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,{"b":null}]}`, `[[[`, `1 2`, strings.Repeat("[", 5000), `{"a"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := ParseJSON(in)
		if err != nil {
			return
		}
		b, err := appendJSON(nil, v)
		if err != nil || !json.Valid(b) {
			t.Fatalf("%q became %q, %v", in, b, err)
		}
		if s := Params(string(in)); strings.ContainsAny(s, "\x1b\n") {
			t.Fatalf("%q prints control characters", in)
		}
	})
}

// No line of a table may be wider than it is told, however cells are aligned.
func TestTableWidth(t *testing.T) {
	t.Parallel()
	for _, right := range [][]bool{nil, {true, true, true}, {false, true, true}} {
		table := Table{Header: []string{"NAME", "LEARNING", "OPTIMIZER"}, Right: right}
		table.Add("a", "0.1", "adam")
		table.Add("学学学", "0.00026827", "sgd with momentum")
		for table.MaxWidth = 1; table.MaxWidth < 50; table.MaxWidth++ {
			var b strings.Builder
			if err := table.Write(&b); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				if w := Width(strings.TrimSuffix(line, "\n")); w > table.MaxWidth {
					t.Errorf("%d cells of %d: %q", w, table.MaxWidth, line)
				}
			}
		}
	}
}

// Numbers of YAML are numbers for readers of YAML 1.1, too.
func TestYAMLNumbers(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := One(&b, FormatYAML, Object{
		{"a", 1e-05}, {"b", -2.5e300}, {"c", 2.0}, {"d", json.Number("1E-7")}, {"e", json.Number("123456789012345678901")}, {"f", json.Number("7")},
	})
	want := "a: 1.0e-05\nb: -2.5e+300\nc: 2.0\nd: 1.0e-07\ne: 123456789012345678901\nf: 7\n"
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}
