// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/journal/journaltest"
)

// cluster is three nodes; the subject is node a. The others only follow.
type cluster struct {
	t     *testing.T
	dirs  map[string]string
	trans map[string]*raft.InmemTransport
	// trailing is RaftConfig.TrailingRecords.
	trailing int

	mu    sync.Mutex
	off   map[string]bool // nodes that are cut off
	stops []func()
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dirs: map[string]string{}, trans: map[string]*raft.InmemTransport{}, off: map[string]bool{}}
	for _, p := range peers {
		c.dirs[p.ID] = filepath.Join(t.TempDir(), p.ID)
	}
	return c
}

var peers = []journal.Peer{{ID: "a", Addr: "a"}, {ID: "b", Addr: "b"}, {ID: "c", Addr: "c"}}

func (c *cluster) open(id string, heartbeat time.Duration) (*journal.Raft, error) {
	// A transport of its own per open, since the journal closes it.
	_, tr := raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), time.Second)
	j, err := journal.OpenRaft(journal.RaftConfig{
		Dir: c.dirs[id], NodeID: id, Peers: peers, Transport: tr, Heartbeat: heartbeat, TrailingRecords: c.trailing,
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trans[id] = tr
	c.connect()
	return j, nil
}

// connect lays the wires as off wants them.
func (c *cluster) connect() {
	for _, x := range peers {
		for _, y := range peers {
			if x == y || c.trans[x.ID] == nil || c.trans[y.ID] == nil {
				continue
			}
			if c.off[x.ID] || c.off[y.ID] {
				c.trans[x.ID].Disconnect(raft.ServerAddress(y.ID))
			} else {
				c.trans[x.ID].Connect(raft.ServerAddress(y.ID), c.trans[y.ID])
			}
		}
	}
}

// separate cuts a node off from the others, or ends that.
func (c *cluster) separate(id string, off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off[id] = off
	c.connect()
}

// follow opens a node that stands for election last, and takes its events. Where
// the machine is so slow that it wins, it is cut off until it gives up, since the
// leader of the suite is node a.
func (c *cluster) follow(id string) {
	j, err := c.open(id, 1500*time.Millisecond)
	if err != nil {
		c.t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-j.Ready():
				for ev, ok := j.Next(); ok; ev, ok = j.Next() {
					if ev.Snapshot != nil {
						_, err := io.Copy(io.Discard, ev.Snapshot)
						if err = errors.Join(err, ev.Snapshot.Close()); err != nil {
							c.t.Errorf("node %s: snapshot: %v", id, err)
						}
					}
					switch ev.Kind {
					case journal.EventLeading:
						c.separate(id, true)
					case journal.EventFollowing:
						c.separate(id, false)
					case journal.EventFailed:
						c.t.Errorf("node %s: %v", id, ev.Err)
					}
				}
			case <-stop:
				return
			}
		}
	}()
	c.stops = append(c.stops, func() {
		close(stop)
		<-stopped
		if err := j.Close(); err != nil {
			c.t.Errorf("close %s: %v", id, err)
		}
	})
}

// TestRaftClusterConformance runs the suite on the first of three nodes, over a
// transport in memory.
func TestRaftClusterConformance(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(t *testing.T) journaltest.Subject {
		c := newCluster(t)
		started := false
		return journaltest.Subject{
			Restless: true,
			Open: func() (journal.Journal, error) {
				if !started {
					started = true
					t.Cleanup(func() {
						for _, s := range c.stops {
							s()
						}
					})
					c.follow("b")
					c.follow("c")
				}
				return c.open("a", 100*time.Millisecond)
			},
			Crash: func(j journal.Journal) {
				next := filepath.Join(t.TempDir(), "a")
				copyDir(t, c.dirs["a"], next)
				if err := j.Close(); err != nil {
					t.Error(err)
				}
				c.dirs["a"] = next
			},
			Depose: func(journal.Journal) { c.separate("a", true) },
			Elect:  func(journal.Journal) { c.separate("a", false) },
		}
	})
}

// TestFollowerGetsSnapshot has the leader drop what a follower lacks while that
// is away: it gets the snapshot instead, and then the records behind it.
func TestFollowerGetsSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.trailing = 1
	c.follow("b")
	t.Cleanup(func() {
		for _, s := range c.stops {
			s()
		}
	})
	// The machine may take the leadership at any time, so what was committed
	// counts, and not who asked for it.
	a, err := c.open("a", 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() }) // its error is tested elsewhere
	leader := &counter{j: a}
	leader.commit(t, 100)

	late, err := c.open("c", 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	follower := &counter{j: late}
	follower.until(t, func() bool { return len(follower.records) > 0 })
	if follower.records[0].Index != leader.records[0].Index {
		t.Fatalf("the follower begins with record %d, the leader with %d", follower.records[0].Index, leader.records[0].Index)
	}
	had := follower.last()
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}

	leader.commit(t, 200)
	at := leader.cut(t, "the state")
	leader.commit(t, 50)

	if late, err = c.open("c", 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close() })
	follower = &counter{j: late}
	follower.until(t, func() bool { return follower.last() >= leader.last() })
	if follower.snapshot != "the state" || follower.restored != at || at <= had {
		t.Fatalf("restored %q of %d, want the leader's of %d; it had record %d", follower.snapshot, follower.restored, at, had)
	}
	var want []journal.Record
	for _, r := range leader.records {
		if r.Index > at {
			want = append(want, r)
		}
	}
	if d := cmp.Diff(want, follower.records); d != "" || len(want) < 50 {
		t.Fatalf("%d records behind the snapshot (-leader +follower):\n%s", len(want), d)
	}
}

// counter takes the events of a node that may win and lose the leadership.
type counter struct {
	j        journal.Journal
	leading  bool
	records  []journal.Record // since the snapshot
	restored uint64
	snapshot string
}

func (c *counter) last() uint64 {
	if n := len(c.records); n > 0 {
		return c.records[n-1].Index
	}
	return c.restored
}

func (c *counter) until(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		switch ev := await(t, c.j); ev.Kind {
		case journal.EventRestore:
			b, err := io.ReadAll(ev.Snapshot)
			if err = errors.Join(err, ev.Snapshot.Close()); err != nil {
				t.Fatal(err)
			}
			c.snapshot, c.restored, c.records = string(b), ev.Index, nil
		case journal.EventCommitted:
			c.records = append(c.records, ev.Records...)
		case journal.EventLeading:
			c.leading = true
		case journal.EventFollowing:
			c.leading = false
		case journal.EventFailed:
			t.Fatal(ev.Err)
		}
	}
}

// commit commits n records more.
func (c *counter) commit(t *testing.T, n int) {
	t.Helper()
	for goal := len(c.records) + n; len(c.records) < goal; {
		c.until(t, func() bool { return c.leading })
		before := len(c.records)
		if err := c.j.Propose([]byte{byte(goal)}); errors.Is(err, journal.ErrNotLeader) {
			c.until(t, func() bool { return !c.leading })
		} else if err != nil {
			t.Fatal(err)
		}
		c.until(t, func() bool { return !c.leading || len(c.records) > before })
	}
}

// cut takes a snapshot and returns what it stands for.
func (c *counter) cut(t *testing.T, text string) uint64 {
	t.Helper()
	done := make(chan error, 1)
	for {
		err := c.j.Snapshot(func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}, func(err error) { done <- err })
		if err == nil {
			err = <-done
		}
		if !errors.Is(err, journal.ErrBusy) {
			if err != nil {
				t.Fatal(err)
			}
			return c.last()
		}
		c.commit(t, 1)
	}
}
