// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/journal/journaltest"
)

// await returns the next event.
func await(t testing.TB, j journal.Journal) journal.Event {
	t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for {
		if ev, ok := j.Next(); ok {
			return ev
		}
		select {
		case <-j.Ready():
		case <-timeout.C:
			t.Fatalf("no event for 30 s; stats %+v", j.Stats())
		}
	}
}

// awaitKind drops events until one of kind comes, and returns the records on the way.
func awaitKind(t testing.TB, j journal.Journal, kind journal.EventKind) (ev journal.Event, records []journal.Record) {
	t.Helper()
	for {
		ev = await(t, j)
		if ev.Kind == kind {
			return ev, records
		}
		if ev.Kind == journal.EventFailed {
			t.Fatalf("failed: %v", ev.Err)
		}
		if ev.Snapshot != nil {
			if err := ev.Snapshot.Close(); err != nil {
				t.Fatal(err)
			}
		}
		records = append(records, ev.Records...)
	}
}

func openLeading(t testing.TB, cfg journal.RaftConfig) (*journal.Raft, []journal.Record) {
	t.Helper()
	j, err := journal.OpenRaft(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // tests that care have closed it
	_, records := awaitKind(t, j, journal.EventLeading)
	return j, records
}

// commit proposes records and waits for them.
func commit(t testing.TB, j journal.Journal, data ...[]byte) {
	t.Helper()
	for _, d := range data {
		if err := j.Propose(d); err != nil {
			t.Fatal(err)
		}
	}
	for n := len(data); n > 0; {
		ev := await(t, j)
		if ev.Kind != journal.EventCommitted || !ev.Own {
			t.Fatalf("event %v, own %v: %v", ev.Kind, ev.Own, ev.Err)
		}
		n -= len(ev.Records)
	}
}

// cut takes a snapshot that holds text.
func cut(t testing.TB, j journal.Journal, text string) {
	t.Helper()
	done := make(chan error, 1)
	err := j.Snapshot(func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
}

func numbered(from, to int) (out [][]byte) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Appendf(nil, "record %06d", i))
	}
	return out
}

// copyDir copies what a power cut would leave of a journal at rest.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestRaftConformance(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(t *testing.T) journaltest.Subject {
		dir := filepath.Join(t.TempDir(), "journal")
		return journaltest.Subject{
			Open: func() (journal.Journal, error) { return journal.OpenRaft(journal.RaftConfig{Dir: dir}) },
			Crash: func(j journal.Journal) {
				next := filepath.Join(t.TempDir(), "journal")
				copyDir(t, dir, next)
				if err := j.Close(); err != nil {
					t.Error(err)
				}
				dir = next
			},
		}
	})
}

func TestRaftConfigErrors(t *testing.T) {
	t.Parallel()
	_, tr := raft.NewInmemTransport("a")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  journal.RaftConfig
		want string
	}{
		"no directory":         {journal.RaftConfig{}, "Dir is empty"},
		"directory is a file":  {journal.RaftConfig{Dir: file}, file},
		"peers, no transport":  {journal.RaftConfig{Dir: "x", Peers: peers}, "Peers without a Transport"},
		"not among the peers":  {journal.RaftConfig{Dir: "x", NodeID: "d", Peers: peers, Transport: tr}, `"d" is not among Peers`},
		"peer without address": {journal.RaftConfig{Dir: "x", NodeID: "a", Peers: []journal.Peer{{ID: "a"}}, Transport: tr}, "Peers[0]"},
		"heartbeat":            {journal.RaftConfig{Dir: "x", Heartbeat: time.Millisecond}, "Heartbeat 1ms"},
		"trailing":             {journal.RaftConfig{Dir: "x", TrailingRecords: -1}, "TrailingRecords -1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, err := journal.OpenRaft(tt.cfg)
			if err == nil {
				_ = j.Close() // the test has failed
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %q does not contain %q", err, tt.want)
			}
		})
	}
}

func TestRaftLockNamesHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openLeading(t, journal.RaftConfig{Dir: dir})
	_, err := journal.OpenRaft(journal.RaftConfig{Dir: dir})
	if !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d;", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("error %v", err)
	}
}

func TestRaftOtherNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := openLeading(t, journal.RaftConfig{Dir: dir, NodeID: "a"})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.OpenRaft(journal.RaftConfig{Dir: dir, NodeID: "b"}); err == nil || !strings.Contains(err.Error(), `belongs to node "a", not "b"`) {
		t.Fatalf("error %v", err)
	}
}
