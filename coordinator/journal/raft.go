// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// RaftConfig says what OpenRaft opens.
type RaftConfig struct {
	// Dir is the directory, created if it is missing. Required.
	Dir string
	// NodeID names this node, the same at every open. Default: "0".
	NodeID string
	// Logger receives raft's log: its warnings as Info, the rest as Debug.
	// Default: none.
	Logger *slog.Logger
	// Peers are all nodes of a new cluster, this one included. All of them are
	// opened with the same list. It counts only when Dir is new: a directory
	// knows its peers. Default: this node alone.
	Peers []Peer
	// Transport carries messages between nodes; the journal closes it, if it can
	// be closed. Required with Peers. Default: one without a network.
	Transport raft.Transport
	// Heartbeat is how long a follower hears nothing before it stands for
	// election. Default: 5ms for a lone node, which waits for nobody, so that it
	// leads at once; 1s with Peers.
	Heartbeat time.Duration
	// TrailingRecords is how many records a snapshot leaves in the log, for
	// followers that are a little behind. Default: 64 for a lone node, 10240 with
	// Peers.
	TrailingRecords int

	// inject, in tests, fails operations of the log file.
	inject func(op string) error
	// maxWaiting, in tests, takes the place of the constant.
	maxWaiting int
}

// Peer is one node of a cluster.
type Peer struct {
	ID, Addr string
}

func (c *RaftConfig) fill() error {
	if c.Dir == "" {
		return errors.New("journal: Dir is empty; name a directory")
	}
	if c.NodeID == "" {
		c.NodeID = "0"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	alone := len(c.Peers) == 0
	if c.Transport == nil {
		if !alone {
			return errors.New("journal: Peers without a Transport; set both or neither")
		}
		_, c.Transport = raft.NewInmemTransport(raft.ServerAddress(c.NodeID))
	}
	if alone {
		c.Peers = []Peer{{ID: c.NodeID, Addr: string(c.Transport.LocalAddr())}}
	}
	self := false
	for i, p := range c.Peers {
		if p.ID == "" || p.Addr == "" {
			return fmt.Errorf("journal: Peers[%d] has no ID or no Addr; give both", i)
		}
		self = self || p.ID == c.NodeID
	}
	if !self {
		return fmt.Errorf("journal: NodeID %q is not among Peers; add it", c.NodeID)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = time.Second
		if len(c.Peers) == 1 {
			c.Heartbeat = 5 * time.Millisecond // raft accepts no less
		}
	}
	if c.Heartbeat < 5*time.Millisecond {
		return fmt.Errorf("journal: Heartbeat %v is below 5ms", c.Heartbeat)
	}
	switch {
	case c.TrailingRecords < 0:
		return fmt.Errorf("journal: TrailingRecords %d is negative", c.TrailingRecords)
	case c.TrailingRecords == 0 && len(c.Peers) == 1:
		c.TrailingRecords = 64
	case c.TrailingRecords == 0:
		c.TrailingRecords = 10240
	}
	if c.maxWaiting == 0 {
		c.maxWaiting = maxWaiting
	}
	return nil
}

// Raft is a Journal in files, replicated by hashicorp/raft. OpenRaft makes one.
type Raft struct {
	cfg   RaftConfig
	dir   *directory
	store *store
	raft  *raft.Raft
	done  chan struct{} // closed when Close begins
	wg    sync.WaitGroup

	// closeOnce guards closeErr.
	closeOnce sync.Once
	closeErr  error

	mu   sync.Mutex
	wake *sync.Cond // proposals or snapshot changed
	queue
	failure error // wraps ErrFailed
	closed  bool

	// What raft has applied; written by the FSM only.
	epoch   epoch  // of the newest claim in the log
	applied uint64 // last record or snapshot emitted
	answers []any  // see noAnswers

	// Leadership. claim is the nonce of the claim that this node waits for, 0 if
	// none. leading and lead are as emitted, owner is the epoch as delivered:
	// what the caller believes it leads in, 0 if it believes it does not.
	claim    uint64
	leading  bool
	lead     epoch
	owner    uint64
	proposed int // own records accepted in owner's epoch and not delivered

	proposals []raft.Log
	snap      *snapshot
	snapIndex uint64 // newest durable snapshot
}

var _ Journal = (*Raft)(nil)

// OpenRaft opens a journal, or creates it. It reads the log through once, to
// verify it, and returns before any leader is elected: EventLeading tells.
func OpenRaft(cfg RaftConfig) (*Raft, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	j := &Raft{cfg: cfg, done: make(chan struct{}), queue: newQueue()}
	j.wake = sync.NewCond(&j.mu)
	var err error
	if j.dir, err = openDirectory(cfg.Dir, cfg.NodeID); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.open(); err != nil {
		if j.store != nil {
			err = errors.Join(err, j.store.Close())
		}
		return nil, fmt.Errorf("open journal: %w", errors.Join(err, j.dir.release()))
	}
	return j, nil
}

func (j *Raft) open() error {
	var err error
	if j.store, err = openStore(j.cfg.Dir, j.fail); err != nil {
		return err
	}
	j.store.inject = j.cfg.inject
	logger := newHclogger(j.cfg.Logger, len(j.cfg.Peers) == 1)
	snaps, err := raft.NewFileSnapshotStoreWithLogger(j.cfg.Dir, 2, logger)
	if err != nil {
		return fmt.Errorf("open snapshots in %s: %w", j.cfg.Dir, err)
	}
	restore, err := j.newestSnapshot(snaps)
	if err != nil {
		return err
	}
	notify := make(chan bool, 16)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(j.cfg.NodeID)
	conf.Logger = logger
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = j.cfg.Heartbeat, j.cfg.Heartbeat, j.cfg.Heartbeat
	conf.MaxAppendEntries = 1024
	conf.BatchApplyCh = true // group commit: what came while the disk synced goes in one write
	conf.TrailingLogs = uint64(j.cfg.TrailingRecords)
	conf.SnapshotThreshold, conf.SnapshotInterval = math.MaxUint64, 365*24*time.Hour // the caller asks for them
	conf.NoSnapshotRestoreOnStart = true                                             // EventRestore hands it over later
	conf.NotifyCh = notify
	conf.NoLegacyTelemetry = true
	if len(j.cfg.Peers) > 1 {
		conf.CommitTimeout = 5 * time.Millisecond // how late followers learn of a commit when idle
	}

	// See store: a broken log ends this goroutine, not the caller's. NewRaft reads
	// every record after the snapshot and panics on one that it cannot get.
	finished := make(chan error, 1)
	go func() {
		defer close(finished)
		err := protect(func() error { return j.start(conf, snaps) })
		if err != nil {
			err = fmt.Errorf("%s: %w", j.store.path, err)
		}
		finished <- err
	}()
	if err, ok := <-finished; !ok {
		err = errors.Join(j.failure, restore.close())
		return err
	} else if err != nil {
		return errors.Join(err, restore.close())
	}
	if err := j.dir.finish(j.cfg.NodeID); err != nil {
		return errors.Join(err, restore.close(), j.raft.Shutdown().Error())
	}
	j.wg.Add(2)
	go j.feed()
	go j.watch(notify)
	return nil
}

// start creates the cluster in a new directory, and runs raft.
func (j *Raft) start(conf *raft.Config, snaps *raft.FileSnapshotStore) (err error) {
	last, err := j.store.LastIndex()
	if err != nil {
		return err
	}
	// A cluster begins with a record: its list of nodes.
	used := last > 0 || j.applied > 0
	if !used && !j.dir.fresh {
		return fmt.Errorf("%w: %s holds no records, and there is no snapshot", ErrCorrupt, j.store.path)
	}
	if !used {
		// BootstrapCluster writes a term before that record, and refuses to run
		// again where it was killed in between.
		if err := j.store.SetUint64([]byte("CurrentTerm"), 0); err != nil {
			return err
		}
		var c raft.Configuration
		for _, p := range j.cfg.Peers {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Addr)})
		}
		if err := raft.BootstrapCluster(conf, j.store, j.store, snaps, j.cfg.Transport, c); err != nil {
			return fmt.Errorf("create cluster: %w", err)
		}
	}
	var logs raft.LogStore = j.store
	if len(j.cfg.Peers) > 1 {
		// Followers and replication read records back; a lone node never does.
		if logs, err = raft.NewLogCache(512, j.store); err != nil {
			return err
		}
	}
	j.raft, err = raft.NewRaft(conf, (*fsm)(j), logs, j.store, snaps, j.cfg.Transport)
	if err == nil {
		j.store.raft.Store(j.raft)
	}
	return err
}

// Propose implements Journal.
func (j *Raft) Propose(data []byte) error {
	if len(data) > MaxRecord {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxRecord)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closed:
		return ErrClosed
	case j.failure != nil:
		return j.failure
	case j.owner == 0 || !j.leading || j.lead.index != j.owner:
		return ErrNotLeader // or no longer, and EventFollowing waits in Next
	}
	j.proposed++
	j.proposals = append(j.proposals, raft.Log{Data: data, Extensions: encodeExt(extRecord, j.owner)})
	j.wake.Broadcast()
	return nil
}

// feed hands proposals to raft, whose own queue blocks while the disk syncs.
func (j *Raft) feed() {
	defer j.wg.Done()
	var batch []raft.Log
	for {
		j.mu.Lock()
		for !j.closed && (len(j.proposals) == 0 || (j.snap != nil && !j.snap.fixed)) {
			j.wake.Wait()
		}
		if j.closed {
			j.mu.Unlock()
			return
		}
		batch, j.proposals = j.proposals, batch[:0]
		j.mu.Unlock()
		for i := range batch {
			// Not waited for: the FSM sees the commit, watch sees leadership lost, and
			// a lone refusal within a term does not happen, because nothing here
			// transfers leadership. That would tear a hole into the order of proposals.
			j.raft.ApplyLog(batch[i], 0)
			batch[i] = raft.Log{}
		}
	}
}

// watch follows raft's leadership. Having won, this node writes a claim: its
// place in the log is where the term's own records begin, so EventLeading comes
// from the FSM, in order with the records, and not from here.
func (j *Raft) watch(notify <-chan bool) {
	defer j.wg.Done()
	for {
		select {
		case won := <-notify:
			if !won {
				j.follow()
				continue
			}
			nonce := newNonce()
			j.mu.Lock()
			j.claim = nonce
			j.mu.Unlock()
			j.raft.ApplyLog(raft.Log{Extensions: encodeExt(extClaim, nonce)}, 0)
		case <-j.done:
			return
		}
	}
}

// follow ends this node's leadership.
func (j *Raft) follow() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.claim = 0
	j.proposals = nil
	if j.leading && j.failure == nil && !j.closed {
		j.leading = false
		j.push(Event{Kind: EventFollowing, Term: j.lead.term})
	}
}

// fail ends the journal's life: EventFailed is the last event.
func (j *Raft) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure != nil || j.closed {
		return
	}
	j.failure = fmt.Errorf("%w: %w", ErrFailed, err)
	j.leading, j.claim, j.proposals = false, 0, nil
	j.push(Event{Kind: EventFailed, Err: j.failure})
}

// Next implements Journal.
func (j *Raft) Next() (Event, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return Event{}, false
	}
	ev, ok := j.pop()
	if !ok {
		return ev, false
	}
	switch ev.Kind {
	case EventCommitted:
		if ev.Own {
			j.proposed -= len(ev.Records)
		}
	case EventLeading:
		j.owner, j.proposed = ev.Index, 0
	case EventFollowing, EventFailed:
		j.owner, j.proposed = 0, 0
	}
	return ev, true
}

// Ready implements Journal.
func (j *Raft) Ready() <-chan struct{} { return j.ready }

// Stats implements Journal.
func (j *Raft) Stats() Stats {
	addr, id := j.raft.LeaderWithID()
	s := Stats{
		NodeID: j.cfg.NodeID, LeaderID: string(id), LeaderAddr: string(addr),
		Term: j.raft.CurrentTerm(), Syncs: j.store.syncs.Load(),
	}
	if fi, err := os.Stat(filepath.Join(j.cfg.Dir, logFile)); err == nil {
		s.LogBytes = fi.Size()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Leading, s.Proposed = j.leading && j.owner != 0, j.proposed
	s.DeliveredIndex, s.SnapshotIndex = j.delivered, j.snapIndex
	s.RecordsSinceSnapshot, s.BytesSinceSnapshot = j.records-j.records0, j.size-j.size0
	return s
}

// Close implements Journal.
func (j *Raft) Close() error {
	j.closeOnce.Do(func() {
		j.mu.Lock()
		j.closed, j.leading, j.owner = true, false, 0
		var readers []io.Closer
		for _, ev := range j.events {
			if ev.Snapshot != nil {
				readers = append(readers, ev.Snapshot)
			}
		}
		j.events = nil
		j.wake.Broadcast()
		j.mu.Unlock()
		close(j.done)
		for _, r := range readers {
			_ = r.Close() // opened for reading only
		}
		err := j.raft.Shutdown().Error()
		j.wg.Wait()
		if t, ok := j.cfg.Transport.(raft.WithClose); ok {
			err = errors.Join(err, t.Close())
		}
		if err = errors.Join(err, j.store.Close(), j.dir.release()); err != nil {
			j.closeErr = fmt.Errorf("close journal: %w", err)
		}
	})
	return j.closeErr
}
