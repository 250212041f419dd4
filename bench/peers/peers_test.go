// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 7, 14} {
		for rounds := 1; rounds <= 5; rounds++ {
			first := map[int]bool{}
			for round := range rounds {
				got := order(n, round, rounds)
				first[got[0]] = true
				slices.Sort(got)
				for i, v := range got {
					if i != v {
						t.Fatalf("order(%d, %d, %d) leaves %d out: %v", n, round, rounds, i, got)
					}
				}
			}
			if want := min(n, rounds); len(first) != want {
				t.Errorf("%d rounds of %d contestants begin with %d of them, want %d", rounds, n, len(first), want)
			}
		}
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	if got, want := spreadOf([]float64{3, 1, 2}), (spread{2, 1, 3}); got != want {
		t.Errorf("spread of three: %v, want %v", got, want)
	}
	if got, want := spreadOf([]float64{4, 1, 2, 3}), (spread{2.5, 1, 4}); got != want {
		t.Errorf("spread of four: %v, want %v", got, want)
	}
	if got := spreadOf(nil).median; !math.IsNaN(got) {
		t.Errorf("median of nothing: %v, want NaN", got)
	}
	var hundred []float64
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, float64(i))
	}
	for _, tt := range []struct{ p, want float64 }{{0, 1}, {0.5, 50}, {0.99, 99}, {1, 100}} {
		if got := quantile(hundred, tt.p); got != tt.want {
			t.Errorf("quantile %v of 1..100: %v, want %v", tt.p, got, tt.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("quantile has sorted its argument")
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		4906766: "4,910,000", 1000: "1,000", 999.6: "1,000", 99.97: "100", 9.996: "10.0", 282.4: "282", 17.23: "17.2", 1.96: "1.96", 0.0312: "0.03", 12345: "12,300",
	} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{3.81e-6: "3.81 µs", 0.00203: "2.03 ms", 5.82: "5.82 s"} {
		if got := seconds(v); got != want {
			t.Errorf("seconds(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	used, total, err := busy("cpu  10 1 5 100 50 2 3 4 9 9\ncpu0 1 1\n")
	if err != nil || used != 25 || total != 175 {
		t.Errorf("busy: %d of %d, %v; want 25 of 175", used, total, err)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8"} {
		if _, _, err := busy(bad); err == nil {
			t.Errorf("busy(%q) reports no error", bad)
		}
	}
}

func TestCgroupOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		own, dir string
		v2       bool
	}{
		"version 1":     {"4:memory:/m\n2:cpu,cpuacct:/a/b\n0::/u\n", "/sys/fs/cgroup/cpuacct/a/b", false},
		"version 2":     {"0::/user.slice/x\n", "/sys/fs/cgroup/user.slice/x", true},
		"name has ':'":  {"0::/a:b\n", "/sys/fs/cgroup/a:b", true},
		"lines of junk": {"junk\n0::/x\n", "/sys/fs/cgroup/x", true},
	}
	for name, tt := range tests {
		root, path, v2, err := cgroupOf(tt.own)
		if dir := filepath.Join(root, path); err != nil || dir != tt.dir || v2 != tt.v2 {
			t.Errorf("%s: %s, %v, %v; want %s, %v", name, dir, v2, err, tt.dir, tt.v2)
		}
	}
	if _, _, _, err := cgroupOf("4:memory:/m\n"); err == nil {
		t.Error("a machine without CPU accounting is not an error")
	}
}

func TestReadGroupCPU(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cpuacct.usage", "1500000000\n")
	write("cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
	if got, err := readGroupCPU(dir, false); err != nil || got != 1500*time.Millisecond {
		t.Errorf("version 1: %v, %v", got, err)
	}
	if got, err := readGroupCPU(dir, true); err != nil || got != 2500*time.Millisecond {
		t.Errorf("version 2: %v, %v", got, err)
	}
	write("cpu.stat", "user_usec 1\n")
	if got, err := readGroupCPU(dir, true); err == nil {
		t.Errorf("a file without the total reads as %v", got)
	}
}

// sampleResults has a winner, a loser and a failure in one row, and volley
// behind in another.
func sampleResults() *Results {
	cpu, others := 0.5, 0.01
	rate := func(name string, round int, seconds float64) Turn {
		return Turn{Contestant: name, Row: rowProcess, Round: round, Tasks: 1000, Seconds: seconds, CPUSeconds: &cpu, PeakRSSBytes: 64 << 20, OthersShare: &others, OpenSeconds: 1}
	}
	return &Results{
		Format: format, Date: "2026-01-02", Slots: 2, Rounds: 3, LoadBefore: "0.10 0.20 0.30", LoadAfter: "1.00 1.00 1.00", Seconds: 60,
		Machine: Machine{CPU: "Some (R) CPU", CPUs: 2, MemoryBytes: 8 << 30, Kernel: "6.1", System: "Linux, amd64", FileSystem: "ext4", Go: "go1.26"},
		Contestants: []*contestant{
			{Name: us, Version: "1", Settings: "a|b", Durable: "all"},
			{Name: "slow", Durable: "nothing"},
			{Name: "broken"},
			{Name: "quick"},
			{Name: "absent", Skipped: "exec: \"absent\": not found"},
		},
		Turns: []Turn{
			rate("slow", 1, 10), rate(us, 1, 1), rate(us, 2, 2), rate(us, 3, 4),
			{Contestant: "broken", Row: rowProcess, Round: 1, Tasks: 10, Error: "it <broke>"},
			rate("broken", 2, 0.1),
			{Contestant: us, Row: rowStart, Tasks: 3, Seconds: 1, LatenciesMs: []float64{2, 2, 2}},
			{Contestant: "quick", Row: rowStart, Tasks: 3, Seconds: 1, LatenciesMs: []float64{1, 1, 5}},
		},
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	text := tables(sampleResults())
	for _, want := range []string{
		"| volley | 500 | 250–1,000 |  | 500 µs | 64 MiB | 1.00 s | 1000 |",
		"| slow | 100 | 100–100 | 5.00× faster |",
		// One failed turn is enough: the rates of the others are of a system that does not work.
		"| broken | failed: it &lt;broke> |",
		"Fastest: volley.",
		"| quick | 1.00 ms | 5.00 ms | 2.00× slower |",
		"Faster than volley: quick (2.00×).",
		`| absent | skipped: exec: "absent": not found |`,
		`a\|b`,
		"other processes used 1.0 % of the machine",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the tables do not contain %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "Not a quiet machine") {
		t.Errorf("a quiet run is called disturbed:\n%s", text)
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	if err := sampleResults().quiet(); err != nil {
		t.Errorf("a quiet run: %v", err)
	}
	much := 0.5
	for name, change := range map[string]func(*Results){
		"load before":   func(r *Results) { r.LoadBefore = "1.60 1 1" },
		"one bad turn":  func(r *Results) { r.Turns[1].OthersShare = &much },
		"volley failed": func(r *Results) { r.Turns[1].Error = "no" },
	} {
		r := sampleResults()
		change(r)
		if r.quiet() == nil {
			t.Errorf("%s: the run counts as quiet", name)
		}
		if !strings.Contains(tables(r), "Not a quiet machine") {
			t.Errorf("%s: the tables do not say so", name)
		}
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page, results := filepath.Join(dir, "page.md"), filepath.Join(dir, "sub", "r.json")
	if err := os.WriteFile(page, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := sampleResults()
	if err := writeResults(results, want); err != nil {
		t.Fatal(err)
	}
	r, err := readResults(results)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tables(want), tables(r)); diff != "" {
		t.Errorf("results change on their way through the file (-want +got):\n%s", diff)
	}
	for range 2 { // the second time replaces what the first has written
		if err := publish(r, page); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	if !strings.HasPrefix(text, "before\n"+beginMark) || !strings.HasSuffix(text, endMark+"\nafter\n") || strings.Contains(text, "old") ||
		strings.Count(text, "Who took part") != 1 || !strings.Contains(text, "(page-peers.svg)") {
		t.Errorf("the page is\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "page-peers.svg")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"nothing", beginMark, endMark + beginMark} {
		if _, err := replaceBetween([]byte(bad), "x"); err == nil {
			t.Errorf("a page of %q is taken", bad)
		}
	}
	if got, want := r.name(), "2026-01-02-some-r-cpu-2cpu-"; !strings.HasPrefix(got, want) {
		t.Errorf("name %q, want %q and the architecture", got, want)
	}
}

func TestDrawing(t *testing.T) {
	t.Parallel()
	r := sampleResults()
	r.Contestants[1].Name, r.Turns[0].Contestant = "slow <&>", "slow <&>"
	svg := drawing(r)
	d := xml.NewDecoder(strings.NewReader(svg))
	circles := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 4 { // two that did not fail in each of two rows
		t.Errorf("%d points are drawn, want 4:\n%s", circles, svg)
	}
	for _, tick := range []string{">100<", ">1,000<", ">1 ms<", ">10 ms<"} {
		if !strings.Contains(svg, tick) {
			t.Errorf("no axis is labelled %q:\n%s", tick, svg)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Errorf("the plot has points nowhere:\n%s", svg)
	}
}

// TestPrograms runs the contestants that every system has for real.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for _, c := range programs() {
		if c.Name != "xargs" && c.Name != "make" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a := &arena{dir: t.TempDir(), slots: 2}
			if _, err := c.find(ctx, &arena{dir: t.TempDir()}); err != nil {
				// BSD's xargs has no --version.
				t.Logf("version: %v", err)
			}
			in, err := c.open(ctx, a)
			if err != nil {
				t.Fatal(err)
			}
			s, err := in.run(ctx, rowProcess, 20)
			if err != nil || s.seconds <= 0 {
				t.Errorf("20 tasks: %v s, %v", s.seconds, err)
			}
			s, err = in.run(ctx, rowStart, 3)
			if err != nil || len(s.latencies) != 3 {
				t.Errorf("3 starts: %v, %v", s.latencies, err)
			}
			for _, ms := range s.latencies {
				if ms <= 0 {
					t.Errorf("a start in %v ms", ms)
				}
			}
		})
	}
}

// TestStartsEnd: a process that never starts must not hang the run.
func TestStartsEnd(t *testing.T) {
	t.Parallel()
	a := &arena{dir: t.TempDir()}
	s, err := a.starts()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	ctx, cancel := context.WithCancel(t.Context())
	nothing := func(context.Context) error { cancel(); return nil }
	if _, err := s.measure(ctx, 1, nothing, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("measure: %v, want that it was cancelled", err)
	}
}

// TestAgentErrors: whatever a Python side does, the error says what it was.
func TestAgentErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ script, want string }{
		"ends at once":    {"echo gone wrong >&2; exit 3", "gone wrong"},
		"says nonsense":   {"echo hello", "invalid character"},
		"reports failure": {`echo '{"error": "KeyError: x"}'`, "KeyError: x"},
		"is not ready":    {`echo '{"seconds": 1}'`, "did not say that it is ready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fake := filepath.Join(dir, "python")
			if err := os.WriteFile(fake, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil { // it is a program
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := openAgent(ctx, &arena{dir: dir, slots: 1, paths: paths{python: fake}}, "x.py")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want something with %q", err, tt.want)
			}
		})
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	var b tail
	for range 3 {
		if n, err := b.Write([]byte(strings.Repeat("x", tailSize-1) + "e")); n != tailSize || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := b.String(); len(got) != tailSize || !strings.HasSuffix(got, "e") {
		t.Errorf("%d bytes are kept, ending in %q", len(got), got[len(got)-1:])
	}
}
