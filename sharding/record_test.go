// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestReaderRandomAccess compares access in random order with the whole file.
func TestReaderRandomAccess(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	const n = 40_000
	var b strings.Builder
	b.WriteString("id,text\r\n")
	want := make([]string, n)
	for i := range want {
		text := strings.Repeat("z", rnd.IntN(30))
		switch rnd.IntN(10) {
		case 0:
			text = "a \"\"quote\"\"\nand a line"
		case 1:
			text = "comma,"
		}
		want[i] = fmt.Sprintf(`%d,"%s"`, i, text)
		b.WriteString(want[i] + "\n")
	}
	dir := tree(t, map[string]string{"t.csv": b.String()})
	m := build(t, dir, &volleyv1.Map{Over: "t.csv"})
	if m.index.every < 2 {
		t.Fatalf("a mark every %d records: the test needs a thinned index", m.index.every)
	}
	r := open(t, m, dir)
	at := uint64(0)
	for range 5000 {
		switch rnd.IntN(4) {
		case 0:
			at = rnd.Uint64N(n)
		case 1:
			at = min(at+rnd.Uint64N(10), n-1)
		case 2:
			at = (at + 1) % n
		}
		rec, err := r.Record(at)
		if err != nil || string(rec.Raw) != want[at] || rec.Index != at || rec.File != filepath.Join(dir, "t.csv") {
			t.Fatalf("record %d: %q of %s, %v; want %q", at, rec.Raw, rec.File, err, want[at])
		}
		if id, _ := rec.Point.Get("id"); id.String() != fmt.Sprint(at) {
			t.Fatalf("record %d has id %v", at, id)
		}
	}
	if _, err := r.Record(n); err == nil {
		t.Error("record beyond the last: no error")
	}
}

func TestReaderChanged(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("some line\n", 20_000) // more than one read
	name := func(dir string) string { return filepath.Join(dir, "a.txt") }
	write := func(t *testing.T, dir, s string) {
		t.Helper()
		if err := os.WriteFile(name(dir), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"size": {func(t *testing.T, dir string) { write(t, dir, content+"x\n") }, "size 200002, was 200000"},
		"time": {func(t *testing.T, dir string) {
			when := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
			if err := os.Chtimes(name(dir), when, when); err != nil {
				t.Fatal(err)
			}
		}, "modified 2001-02-03T04:05:06.000007Z, was 2"},
		"gone": {func(t *testing.T, dir string) {
			if err := os.Remove(name(dir)); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		"pipe": {func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(name(dir)), syscall.Mkfifo(name(dir), 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "no regular file any more"},
	}
	for what, tt := range tests {
		for _, format := range []volleyv1.MapFormat{formatLines, formatFiles} {
			t.Run(what+"/"+format.String(), func(t *testing.T) {
				t.Parallel()
				dir := tree(t, map[string]string{"a.txt": content})
				m := build(t, dir, &volleyv1.Map{Over: "a.txt", Format: format})
				tt.change(t, dir)
				_, err := open(t, m, dir).Record(0)
				var e *Error
				if !errors.As(err, &e) || e.Path != "map.over" || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
			})
		}
	}
	t.Run("while it is open", func(t *testing.T) {
		t.Parallel()
		dir := tree(t, map[string]string{"a.txt": content})
		r := open(t, build(t, dir, &volleyv1.Map{Over: "a.txt"}), dir)
		if _, err := r.Record(0); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "short\n")
		if _, err := r.Record(19_999); err == nil || !strings.Contains(err.Error(), "size 6, was 200000") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("manifest of other content", func(t *testing.T) {
		t.Parallel()
		// The same size and time, other lines: what a hostile manifest does.
		dir := tree(t, map[string]string{"a.txt": "1\n2\n3\n"})
		m := build(t, dir, &volleyv1.Map{Over: "a.txt"})
		info, err := os.Stat(name(dir))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "\n\n\n\n\n\n")
		if err := os.Chtimes(name(dir), info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, m, dir).Record(1); err == nil || !strings.Contains(err.Error(), "the file ends after 1 records") {
			t.Errorf("error %v", err)
		}
	})
}

func TestWriteRecords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		m             *volleyv1.Map
		run           Run
		want          string
	}{
		{"t.csv", "\xef\xbb\xbfa;\"b;c\"\r\n1;2\r\n\"x\ny\";3\r\n5;6", &volleyv1.Map{Over: "t.csv"}, Run{1, 2}, "a;\"b;c\"\n\"x\ny\";3\n5;6\n"},
		{"t.csv", "a,b\n1,2\n", &volleyv1.Map{Over: "t.csv"}, Run{1, 0}, "a,b\n"},
		{"r.jsonl", "{\"a\":1}\n\n{\"a\":2}\n", &volleyv1.Map{Over: "r.jsonl"}, Run{0, 2}, "{\"a\":1}\n{\"a\":2}\n"},
		{"l.txt", "a\r\nb", &volleyv1.Map{Over: "l.txt"}, Run{0, 2}, "a\nb\n"},
		{"x.png", "a", &volleyv1.Map{Over: "*.png"}, Run{0, 1}, "DIR/x.png\n"},
	}
	for _, tt := range tests {
		dir := tree(t, map[string]string{tt.name: tt.content})
		m := build(t, dir, tt.m)
		var b bytes.Buffer
		r := open(t, m, dir)
		if err := WriteRecords(&b, r, tt.run); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, strings.ReplaceAll(b.String(), dir, "DIR")); diff != "" {
			t.Errorf("%s %v (-want +got):\n%s", tt.name, tt.run, diff)
		}
		if err := WriteRecords(&b, r, Run{1, m.Records()}); err == nil {
			t.Errorf("%s: no error beyond the last record", tt.name)
		}
		full := failingWriter{}
		if err := WriteRecords(full, r, Run{0, 1}); !errors.Is(err, errFull) {
			t.Errorf("%s: error %v of a full disk", tt.name, err)
		}
	}
	dir := tree(t, map[string]string{"a\nb.png": ""})
	err := WriteRecords(&bytes.Buffer{}, open(t, build(t, dir, &volleyv1.Map{Over: "*.png"}), dir), Run{0, 1})
	if err == nil || !strings.Contains(err.Error(), "has a line end") {
		t.Errorf("file name with a line end: %v", err)
	}
}

var errFull = errors.New("disk full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestAppendIdentity(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"one.txt": "a\nb\nc\n", "p/1.txt": "a\r\nb", "p/2.txt": "\nc\n", "ab.txt": "ab\nc\n",
		"x.csv": "k\n1\n", "y.csv": "j\n1\n", "f/1.bin": "x", "f/2.bin": "x",
	})
	id := func(m *volleyv1.Map, run Run) string {
		t.Helper()
		b, err := open(t, build(t, dir, m), dir).AppendIdentity([]byte("p"), run)
		if err != nil || len(b) != 34 || b[0] != 'p' {
			t.Fatalf("%x, %v", b, err)
		}
		return string(b)
	}
	one := &volleyv1.Map{Over: "one.txt"}
	parts := &volleyv1.Map{Over: "p/*.txt", Format: formatLines}
	if id(one, Run{0, 3}) != id(parts, Run{0, 3}) || id(one, Run{2, 1}) != id(parts, Run{2, 1}) {
		t.Error("the identity of records depends on their file")
	}
	differ := map[string]string{}
	for name, got := range map[string]string{
		"a b": id(one, Run{0, 2}), "b c": id(one, Run{1, 2}), "a": id(one, Run{0, 1}), "c": id(one, Run{2, 1}), "none": id(one, Run{0, 0}),
		"ab":    id(&volleyv1.Map{Over: "ab.txt"}, Run{0, 1}),
		"ab c":  id(&volleyv1.Map{Over: "ab.txt"}, Run{0, 2}),
		"csv k": id(&volleyv1.Map{Over: "x.csv"}, Run{0, 1}), "csv j": id(&volleyv1.Map{Over: "y.csv"}, Run{0, 1}),
		"1.bin": id(&volleyv1.Map{Over: "f/*"}, Run{0, 1}), "2.bin": id(&volleyv1.Map{Over: "f/*"}, Run{1, 1}),
	} {
		if other, ok := differ[got]; ok {
			t.Errorf("%s and %s have the same identity", name, other)
		}
		differ[got] = name
	}
	before := id(&volleyv1.Map{Over: "f/*"}, Run{0, 1})
	when := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "f/1.bin"), when, when); err != nil {
		t.Fatal(err)
	}
	if id(&volleyv1.Map{Over: "f/*"}, Run{0, 1}) == before {
		t.Error("a modified file has the same identity")
	}
	if _, err := open(t, build(t, dir, one), dir).AppendIdentity(nil, Run{0, 4}); err == nil {
		t.Error("beyond the last record: no error")
	}
}

// TestManifestMoves holds that a data set that moves with its directory is the
// same one, and that an absolute one stays where it is.
func TestManifestMoves(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"job/data/a.txt": "x\n", "else/b.txt": "y\n"})
	m := build(t, filepath.Join(dir, "job"), &volleyv1.Map{Over: "data/*.txt"})
	outside := build(t, filepath.Join(dir, "job"), &volleyv1.Map{Over: "../else/b.txt"})
	if err := os.Rename(filepath.Join(dir, "job"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	rec, err := open(t, m, filepath.Join(dir, "moved")).Record(0)
	if err != nil || rec.File != filepath.Join(dir, "moved/data/a.txt") {
		t.Errorf("%s, %v", rec.File, err)
	}
	rec, err = open(t, outside, filepath.Join(dir, "moved")).Record(0)
	if err != nil || rec.File != filepath.Join(dir, "else/b.txt") {
		t.Errorf("%s, %v", rec.File, err)
	}
}

// bigFile writes about size bytes of records once.
func bigFile(b *testing.B, name string, size int, header string, line func(i int) string) string {
	b.Helper()
	var block bytes.Buffer
	for i := 0; block.Len() < 1<<20; i++ {
		block.WriteString(line(i))
	}
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.WriteString(header); err != nil {
		b.Fatal(err)
	}
	for n := 0; n < size; n += block.Len() {
		if _, err := f.Write(block.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

func BenchmarkMap(b *testing.B) {
	const size = 64 << 20
	pad := strings.Repeat("lorem ipsum ", 6)
	for _, bb := range []struct {
		name, file, header string
		line               func(i int) string
	}{
		{"lines", "a.txt", "", func(i int) string { return fmt.Sprintf("%07d %s\n", i, pad) }},
		{"csv", "a.csv", "id,x,y,text\n", func(i int) string { return fmt.Sprintf("%d,%d.5,%d,%s\n", i, i, i*3, pad) }},
		{"csvquoted", "a.csv", "id,text,y\n", func(i int) string { return fmt.Sprintf("%d,\"%s\",%d\n", i, pad, i*3) }},
		{"jsonl", "a.jsonl", "", func(i int) string { return fmt.Sprintf("{\"id\":%d,\"x\":%d.5,\"text\":%q}\n", i, i, pad) }},
	} {
		dir := bigFile(b, bb.file, size, bb.header, bb.line)
		spec := &volleyv1.Map{Over: bb.file, Shard: &volleyv1.Shard{By: &volleyv1.Shard_Bytes{Bytes: 1 << 20}}}
		b.Run("op=build/format="+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				m, err := BuildManifest(context.Background(), dir, spec)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(m.Encode()))/float64(m.Records()), "manifest-B/record")
			}
		})
		m, err := BuildManifest(context.Background(), dir, spec)
		if err != nil {
			b.Fatal(err)
		}
		r, err := m.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("op=record/order=sequential/format="+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			i := uint64(0)
			for b.Loop() {
				if _, err := r.Record(i % m.Records()); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
		b.Run("op=record/order=random/format="+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			rnd := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				if _, err := r.Record(rnd.Uint64N(m.Records())); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
