// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func open(t testing.TB, dir string) (*Spool, []string) {
	t.Helper()
	s, records, err := Open(dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s, read(t, s, records)
}

func read(t testing.TB, s *Spool, records []Record) []string {
	t.Helper()
	got := []string{}
	for _, r := range records {
		b, err := s.Read(nil, r)
		if err != nil {
			t.Fatalf("read %d: %v", r.Number, err)
		}
		got = append(got, string(b))
	}
	return got
}

func put(t testing.TB, s *Spool, payload string) Record {
	t.Helper()
	r, err := s.Append([]byte(payload))
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return r
}

func TestReopenFindsWhatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, found := open(t, dir)
	if len(found) != 0 {
		t.Fatalf("a new spool has %v", found)
	}
	var records []Record
	for i := range 5 {
		records = append(records, put(t, s, fmt.Sprint("r", i)))
	}
	if err := s.Ack(records[1].Number); err != nil {
		t.Fatal(err)
	}
	if s.Pending() != 3 {
		t.Errorf("%d pending, want 3", s.Pending())
	}
	s2, found := open(t, dir)
	if diff := cmp.Diff([]string{"r2", "r3", "r4"}, found); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	// Numbers go on, also when all was acknowledged.
	if err := s2.Ack(records[4].Number); err != nil {
		t.Fatal(err)
	}
	s3, found := open(t, dir)
	if r := put(t, s3, "later"); r.Number != 6 || len(found) != 0 {
		t.Errorf("number %d after %v, want 6 after nothing", r.Number, found)
	}
}

func TestTornTailIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir)
	put(t, s, "first")
	put(t, s, "second")
	path := s.current().path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		d := t.TempDir()
		if err := os.WriteFile(filepath.Join(d, filepath.Base(path)), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s, found := open(t, d)
		if len(found) > 1 || len(found) == 1 && found[0] != "first" {
			t.Errorf("cut at %d: found %v", n, found)
		}
		put(t, s, "after")
		_, again := open(t, d)
		if diff := cmp.Diff(append(found, "after"), again); diff != "" {
			t.Errorf("cut at %d, then one more (-want +got):\n%s", n, diff)
		}
	}
}

func TestDamageInsideIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir)
	s.limit = 1
	put(t, s, "first")
	put(t, s, "second") // in a file of its own
	path := s.segments[0].path
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Open(dir)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("open: %v, want a corrupt record and the name of the file", err)
	}
}

func TestSpaceIsGivenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir)
	s.limit = 4 << 10
	payload := strings.Repeat("x", 1000)
	for range 500 {
		r := put(t, s, payload)
		if r.Number > 10 { // never all of it
			if err := s.Ack(r.Number - 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 5 {
		t.Errorf("%d files for 10 records of 1000 bytes", len(files))
	}
	_, found := open(t, dir)
	if len(found) != 10 {
		t.Errorf("%d records found, want 10", len(found))
	}
	// In one file: cut to nothing when all is acknowledged.
	s2, _ := open(t, t.TempDir())
	for range 3000 {
		r := put(t, s2, payload)
		if err := s2.Ack(r.Number); err != nil {
			t.Fatal(err)
		}
	}
	if size := s2.current().size; size > trimAt+2000 {
		t.Errorf("%d bytes although nothing is pending", size)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	if _, err := s.Append(make([]byte, MaxRecord)); err == nil {
		t.Error("a record above the limit was taken")
	}
	if _, err := s.Read(nil, Record{}); err == nil {
		t.Error("no record was read")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.spool"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "x.spool") {
		t.Errorf("a foreign file: %v", err)
	}
}

// TestModel appends, acknowledges and reopens at random.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			r.Fatal(err)
		}
		s, _, err := Open(dir)
		if err != nil {
			r.Fatal(err)
		}
		s.limit = 64
		var want []string
		var numbers []uint64
		n := 0
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				n++
				p := fmt.Sprint(n, strings.Repeat("p", rapid.IntRange(0, 40).Draw(r, "size")))
				rec, err := s.Append([]byte(p))
				if err != nil {
					r.Fatal(err)
				}
				want, numbers = append(want, p), append(numbers, rec.Number)
			},
			"ack": func(r *rapid.T) {
				k := rapid.IntRange(0, len(want)).Draw(r, "k")
				if k > 0 {
					if err := s.Ack(numbers[k-1]); err != nil {
						r.Fatal(err)
					}
				}
				want, numbers = want[k:], numbers[k:]
			},
			"reopen": func(r *rapid.T) {
				if err := s.Close(); err != nil {
					r.Fatal(err)
				}
				var records []Record
				if s, records, err = Open(dir); err != nil {
					r.Fatal(err)
				}
				s.limit = 64
				if len(records) != len(want) {
					r.Fatalf("%d records, want %d", len(records), len(want))
				}
				for i, rec := range records {
					b, err := s.Read(nil, rec)
					if err != nil || string(b) != want[i] || rec.Number != numbers[i] {
						r.Fatalf("record %d: %q %v, want %q", rec.Number, b, err, want[i])
					}
				}
			},
		})
		if err := s.Close(); err != nil {
			r.Fatal(err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	s, _, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []string{"one", "two", ""} {
		if _, err := s.Append([]byte(p)); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Ack(1); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(s.current().path)
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(binary.LittleEndian.AppendUint32(nil, 1<<31))
	f.Add(bytes.Repeat([]byte{0}, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "0000000000000001"+suffix), data, 0o600); err != nil {
			t.Fatal(err)
		}
		// The last file may end in anything: it opens, and goes on.
		s, found := open(t, dir)
		put(t, s, "after")
		_, again := open(t, dir)
		if diff := cmp.Diff(append(found, "after"), again); diff != "" && s.acked < s.next-1 {
			t.Errorf("after one more (-want +got):\n%s", diff)
		}
	})
}
