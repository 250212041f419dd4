// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	formatLines = volleyv1.MapFormat_MAP_FORMAT_LINES
	formatCSV   = volleyv1.MapFormat_MAP_FORMAT_CSV
	formatJSONL = volleyv1.MapFormat_MAP_FORMAT_JSONL
	formatFiles = volleyv1.MapFormat_MAP_FORMAT_FILES
)

// scanAll scans with the given buffer size.
func scanAll(r io.Reader, format volleyv1.MapFormat, buffer int) (recs []string, line []uint64, err error) {
	s := newRecordScanner(format, ',', buffer)
	s.reset(r, 0)
	if err := s.skipBOM(); err != nil {
		return nil, nil, err
	}
	end := s.offset()
	for {
		rec, err := s.next()
		if errors.Is(err, io.EOF) {
			return recs, line, nil
		}
		if err != nil {
			return recs, line, err
		}
		if rec.off < end || rec.end <= rec.off {
			return recs, line, errors.New("offsets do not ascend")
		}
		end = rec.end
		recs, line = append(recs, string(rec.raw)), append(line, rec.line)
	}
}

func TestRecordScanner(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		format volleyv1.MapFormat
		in     string
		want   []string
		line   []uint64
		err    string
	}{
		{"empty", formatLines, "", nil, nil, ""},
		{"one", formatLines, "a\n", []string{"a"}, []uint64{1}, ""},
		{"no final newline", formatLines, "a\nb", []string{"a", "b"}, []uint64{1, 2}, ""},
		{"crlf", formatLines, "a\r\nb\r\n\r\nc\r", []string{"a", "b", "c"}, []uint64{1, 2, 4}, ""},
		{"empty lines", formatLines, "\n\na\n\n\nb\n\n", []string{"a", "b"}, []uint64{3, 6}, ""},
		{"blanks are content", formatLines, " \na\n", []string{" ", "a"}, []uint64{1, 2}, ""},
		{"bom", formatLines, "\xef\xbb\xbfa\n", []string{"a"}, []uint64{1}, ""},
		{"bom only", formatLines, "\xef\xbb\xbf", nil, nil, ""},
		{"utf-16", formatLines, "\xff\xfea\x00", nil, nil, "UTF-16"},
		{"nul", formatLines, "abc\nd\x00e\n", []string{"abc"}, []uint64{1}, "NUL byte at offset 5"},
		{"blank json", formatJSONL, "{}\n  \t\r\n{}\n", []string{"{}", "{}"}, []uint64{1, 3}, ""},
		{"quoted newline", formatCSV, "a,\"b\nc\"\nd,e\n", []string{"a,\"b\nc\"", "d,e"}, []uint64{1, 3}, ""},
		{"quoted crlf", formatCSV, "\"b\r\nc\"\r\nd\r\n", []string{"\"b\r\nc\"", "d"}, []uint64{1, 3}, ""},
		{"escaped quote before newline", formatCSV, "\"b\"\"\nc\"\nd", []string{"\"b\"\"\nc\"", "d"}, []uint64{1, 3}, ""},
		{"stray quote", formatCSV, "x\na,b\"c\nd,e\n", []string{"x"}, []uint64{1}, "line 2, column 4: a quote inside"},
		{"open quote", formatCSV, "x\na,\"b\nc\nd\n", []string{"x"}, []uint64{1}, "line 2: a quoted field begins here and never ends"},
	}
	for _, tt := range tests {
		for _, buffer := range []int{4, 7, 4096} {
			got, line, err := scanAll(iotest.OneByteReader(strings.NewReader(tt.in)), tt.format, buffer)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s, buffer %d (-want +got):\n%s", tt.name, buffer, diff)
			}
			if diff := cmp.Diff(tt.line, line); diff != "" {
				t.Errorf("%s, buffer %d: lines (-want +got):\n%s", tt.name, buffer, diff)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%s, buffer %d: error %v, want %q", tt.name, buffer, err, tt.err)
			}
		}
	}
}

// endless repeats one line.
type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

func TestRecordScannerBounds(t *testing.T) {
	t.Parallel()
	_, _, err := scanAll(endless("xxxxxxxxxxxxxxxx"), formatLines, streamBuffer)
	if err == nil || !strings.Contains(err.Error(), "line 1: a record of more than 16 MiB") {
		t.Errorf("endless line: %v", err)
	}
	_, _, err = scanAll(io.MultiReader(strings.NewReader("a\n\""), endless(strings.Repeat("z", 99)+"\n")), formatCSV, streamBuffer)
	if err == nil || !strings.Contains(err.Error(), "line 2: a record of more than 16 MiB: a quoted field") {
		t.Errorf("endless quoted field: %v", err)
	}
	exact := strings.Repeat("x", maxRecord)
	if got, _, err := scanAll(strings.NewReader(exact+"\r\n"+exact), formatLines, streamBuffer); err != nil || len(got) != 2 {
		t.Errorf("records of 16 MiB: %d, %v", len(got), err)
	}
	if _, _, err := scanAll(strings.NewReader("ab\n"+exact+"x\n"), formatLines, streamBuffer); err == nil {
		t.Error("16 MiB and a byte: no error")
	}
	boom := errors.New("disk on fire")
	if _, _, err := scanAll(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(boom)), formatLines, 64); !errors.Is(err, boom) {
		t.Errorf("read error: %v", err)
	}
}

// FuzzCSV compares with encoding/csv, which is the reference but cannot say
// where a record ends.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "\"a\"\"b\",\"c\nd\"\r\n\r\nx,y", "a\"b\n", "\"a\"b\n", "\"open\n", ",\n,,", "\r\r\n", "a\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.IndexByte(data, 0) >= 0 || bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) ||
			bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
			return
		}
		ref := csv.NewReader(bytes.NewReader(data))
		ref.FieldsPerRecord = -1
		want, wantErr := ref.ReadAll()
		raw, _, gotErr := scanAll(bytes.NewReader(data), formatCSV, 16)
		var got [][]string
		for _, rec := range raw {
			fields, err := csvFields(nil, []byte(rec), ',')
			if err != nil {
				gotErr = err
				break
			}
			row := make([]string, len(fields))
			for i, f := range fields {
				// The reference turns \r\n inside of quotes into \n.
				row[i] = strings.ReplaceAll(string(f), "\r\n", "\n")
			}
			got = append(got, row)
			if n, _, err := csvCount(nil, []byte(rec), ','); err != nil || n != len(row) {
				t.Fatalf("csvCount(%q) = %d, %v; %d fields", rec, n, err, len(row))
			}
		}
		if (wantErr != nil) != (gotErr != nil) {
			t.Fatalf("%q: error %v, reference %v", data, gotErr, wantErr)
		}
		if wantErr == nil && !cmp.Equal(want, got) {
			t.Fatalf("%q: %q, reference %q", data, got, want)
		}
	})
}

// FuzzJSON compares the members found with encoding/json's.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":[1,{"x":"}"}],"c":"\"\\"}`, ` { "a" : null , "b":true } `, `[1]`, `"x"`, `{"a":1e400}`, `{"a":-0.5e+3}`, `{"a":01}`, `{"a":1.}`, `{"a":tru}`, `{"\u00e9\x":1}`, `{"a":1,}`, `{"a" 1}`, "{\"\t\":1}", `[[[[1]]]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			if _, valid := jsonMembers(data, func(k, v []byte) { jsonString(k); jsonValue(v) }); valid {
				t.Fatalf("%q is said to be valid", data)
			}
			return
		}
		var want map[string]json.RawMessage
		isObject := json.Unmarshal(data, &want) == nil && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
		got := map[string]string{}
		if object, valid := jsonMembers(data, func(k, v []byte) {
			var key string
			if err := json.Unmarshal(k, &key); err != nil {
				t.Fatalf("%q: key %q: %v", data, k, err)
			}
			got[key] = string(v)
			jsonString(k)
			if v := jsonValue(v); !json.Valid(v.AppendJSON(nil)) {
				t.Fatalf("%q: value %v", data, v)
			}
		}); object != isObject || !valid {
			t.Fatalf("%q: object %v, valid %v; reference %v", data, object, valid, isObject)
		}
		if len(got) != len(want) && isObject {
			t.Fatalf("%q: %d members, reference %d", data, len(got), len(want))
		}
		for k, v := range want {
			if got[k] != string(v) {
				t.Fatalf("%q: member %q is %q, reference %q", data, k, got[k], v)
			}
		}
	})
}

func TestJSONDepth(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{9_999, 10_000, 10_001, 1_000_000} {
		text := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		if _, valid := jsonMembers(text, nil); valid != json.Valid(text) {
			t.Errorf("depth %d: valid %v, reference %v", depth, valid, !valid)
		}
	}
}

func TestJSONValue(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Value{
		`1`: IntValue(1), `-7`: IntValue(-7), `1.50`: FloatValue(1.5), `1e3`: FloatValue(1000),
		`12345678901234567890`: StringValue("12345678901234567890"), `1e999`: StringValue("1e999"),
		`true`: BoolValue(true), `false`: BoolValue(false), `null`: {},
		`"a\u00e9\n"`: StringValue("aé\n"), `{"x": [1, 2]}`: StringValue(`{"x":[1,2]}`), `[ ]`: StringValue("[]"),
	} {
		if got := jsonValue([]byte(raw)); got != want {
			t.Errorf("jsonValue(%s) = %v, want %v", raw, got, want)
		}
	}
}
