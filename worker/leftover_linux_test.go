// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/worker/runner"
)

// leave starts a process as a task of h would, and makes it nobody's child.
func leave(t *testing.T, h *home) int {
	t.Helper()
	mark := workerVariable + "=" + h.identity()
	cmd := exec.Command("/bin/sh", "-c", "sleep 600 </dev/null >/dev/null 2>&1 & echo $!")
	cmd.Env = []string{mark}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if found, err := runner.KillStrays(ctx, []string{mark}); err != nil || len(found.Left) > 0 {
			t.Errorf("processes of the test still run: %+v %v", found, err)
		}
	})
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// livesAsTask says whether the process is alive and was started by a worker.
func livesAsTask(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(b, []byte(workerVariable+"="))
}

// process opens the directory as a new process does. Closed without end, it is
// as if killed: its lock is gone, its note is not.
func process(t *testing.T, dir string, log *slog.Logger) *home {
	t.Helper()
	h, err := openHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.begin(log); err != nil {
		t.Fatal(err)
	}
	return h
}

func closeHome(t *testing.T, h *home) {
	t.Helper()
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
}

func TestLeftoversAreThoseOfTheDirectory(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	one, other, copied := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "copy")
	a, b := process(t, one, quiet), process(t, other, quiet)
	ofA, ofB := leave(t, a), leave(t, b)
	closeHome(t, a) // killed

	// The note of a copy is about processes of the original.
	if err := os.CopyFS(copied, os.DirFS(one)); err != nil {
		t.Fatal(err)
	}
	c := process(t, copied, quiet)
	if !livesAsTask(ofA) {
		t.Fatal("the worker of a copied directory has killed the task of the original")
	}
	if c.identity() == a.identity() {
		t.Fatalf("the worker of a copied directory calls itself as the original does: %s", c.identity())
	}
	closeHome(t, c)

	var log bytes.Buffer
	a2 := process(t, one, slog.New(slog.NewTextHandler(&log, nil)))
	if livesAsTask(ofA) {
		t.Error("the process of a killed worker is alive after the next start")
	}
	if !strings.Contains(log.String(), "processes=1") {
		t.Errorf("log: %s", log.String())
	}
	if !livesAsTask(ofB) {
		t.Error("the process of another worker was killed")
	}

	// After a clean end, what a task left was left on purpose.
	daemon := leave(t, a2)
	if err := a2.end(); err != nil {
		t.Fatal(err)
	}
	closeHome(t, a2)
	a3 := process(t, one, quiet)
	closeHome(t, a3) // killed, with nothing running
	a4 := process(t, one, quiet)
	if !livesAsTask(daemon) {
		t.Error("what a cleanly ended worker's task left was killed")
	}
	for _, h := range []*home{a4, b} {
		if err := h.end(); err != nil {
			t.Error(err)
		}
		closeHome(t, h)
	}
}

// TestNoteOfUncleanEnds: what could not be killed is looked for again; what
// cannot be read is nobody's.
func TestNoteOfUncleanEnds(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	h := process(t, t.TempDir(), quiet)
	defer closeHome(t, h)
	notes := func() []string {
		t.Helper()
		ids, err := h.unclean()
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if diff := cmp.Diff([]string{h.identity()}, notes()); diff != "" {
		t.Error(diff)
	}
	h.survived = []string{"node/1", "node/2"}
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.survived, notes()); diff != "" {
		t.Error(diff)
	}
	// Nothing of them is found any more.
	if err := h.begin(quiet); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{h.identity()}, notes()); diff != "" {
		t.Error(diff)
	}
	for _, damaged := range []string{"", "\n", "7:7", "7:7\nnode/1\n", "\x00\x00\x00 \x00"} {
		if err := os.WriteFile(h.path(runningName), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if ids, err := h.unclean(); err == nil || len(ids) > 0 {
			t.Errorf("note %q: %q, %v", damaged, ids, err)
		}
		if err := h.begin(quiet); err != nil || len(notes()) != 1 {
			t.Errorf("start with the note %q: %v", damaged, err)
		}
	}
	for range 2 { // also when it is gone already
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(h.path(runningName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("note after a clean end: %v", err)
		}
	}
}

// TestAgentNotes: the file is there while the agent is, also when New fails
// late.
func TestAgentNotes(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t)
	dir := t.TempDir()
	note := filepath.Join(dir, runningName)
	a, err := New(Config{DataDir: dir, Dial: c.dial})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(note); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(note); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := New(Config{DataDir: dir, Dial: c.dial, SocketDir: "/" + strings.Repeat("long", 50)}); err == nil {
		t.Fatal("a socket directory that is too long was taken")
	}
	if _, err := os.Stat(note); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a failed New: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(note, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{DataDir: dir, Dial: c.dial}); err == nil || !strings.Contains(err.Error(), runningName) {
		t.Errorf("a note that cannot be written: %v", err)
	}
}

// BenchmarkNote is what every start and clean end pay.
func BenchmarkNote(b *testing.B) {
	h := &home{dir: b.TempDir(), nodeID: "node", epoch: uint64(time.Now().UnixNano())}
	log := slog.New(slog.DiscardHandler)
	for b.Loop() {
		if err := errors.Join(h.begin(log), h.end()); err != nil {
			b.Fatal(err)
		}
	}
}
