// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/scheduler"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
)

var (
	// ErrNotLeader: this node does not lead (any more). What was asked for may
	// or may not have happened.
	ErrNotLeader = errors.New("the coordinator is not the leader")
	// ErrStopped: the engine is not running.
	ErrStopped = errors.New("the coordinator is stopping")
)

// maxInFlight batches are proposed and not committed. One would leave the disk
// idle while the next batch is encoded; more would only cut batches smaller.
const maxInFlight = 2

// maxBatchEntries and maxBatchBytes bound a batch; the journal refuses records
// above journal.MaxRecord.
const (
	maxBatchEntries = 4096
	maxBatchBytes   = 8 << 20
	// maxEntryBytes is the largest command. With a batch that is full but for
	// one byte it must still fit a record: a record that the journal refuses
	// ends the engine, and a client must not be able to cause that.
	maxEntryBytes = journal.MaxRecord - 2*maxBatchBytes
)

// Options of a Core. The zero value means the defaults.
type Options struct {
	Scheduler scheduler.Options
	// WorkerLease is how long nothing may be heard of a worker before it is
	// given up for lost and its tasks run elsewhere. Shorter moves work sooner;
	// shorter than a pause of a loaded machine runs tasks twice. Default: 30 s.
	WorkerLease time.Duration
	// KeepAge and KeepJobs bound how long, and how many, jobs are kept after
	// they have ended. Default: 30 days, 10,000 jobs. Negative: no bound.
	KeepAge  time.Duration
	KeepJobs int
	// SnapshotRecords and SnapshotBytes are how much of the journal a restart
	// may have to replay before a snapshot is cut. Default: 8192 records, 64 MiB.
	SnapshotRecords, SnapshotBytes uint64
}

func (o Options) withDefaults() Options {
	def(&o.WorkerLease, 30*time.Second)
	def(&o.KeepAge, 30*24*time.Hour)
	def(&o.KeepJobs, 10_000)
	def(&o.SnapshotRecords, 8192)
	def(&o.SnapshotBytes, 64<<20)
	return o
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Reply takes the outcome of a command. It is called once, in the order of
// commitment, and must not block.
type Reply func(state.Result, error)

// Release takes the effects of a batch that is durable. The state may be read
// during the call only; it may be ahead of the effects, so only what never
// changes, such as a job's spec, may leave with them. It must not block and
// must not keep the slice.
type Release func(*state.State, []state.Effect)

// Core is the engine without goroutines. Not safe for concurrent use.
type Core struct {
	opts    Options
	journal journal.Journal
	sched   *scheduler.Scheduler
	state   *state.State
	release Release

	leading bool
	// clusterID is proposed by the first leader of a new cluster.
	clusterID string

	open     batch   // being filled
	inFlight []batch // proposed, oldest first
	// wantCut: a snapshot is due. cutting: one is being written.
	wantCut bool
	cutting atomic.Bool
	// batches and bytes that were proposed.
	batches, bytes atomic.Uint64

	seen     map[string]liveness
	lastFull time.Time
	lastTick time.Time
	purgeAt  time.Time
}

// batch is what becomes durable together.
type batch struct {
	entries []*journalv1.Entry
	bytes   int
	effects []state.Effect
	// replies are called after the effects are released, reads among them.
	replies []func(error)
}

type liveness struct {
	epoch uint64
	at    time.Time
}

// NewCore makes a machine that stands before the first event of the journal.
func NewCore(j journal.Journal, clusterID string, o Options, release Release) *Core {
	o = o.withDefaults()
	return &Core{
		opts: o, journal: j, sched: scheduler.New(o.Scheduler), state: state.New(), release: release,
		clusterID: clusterID, seen: map[string]liveness{},
	}
}

// State is the speculative state, for reading.
func (c *Core) State() *state.State { return c.state }

// Leading says that commands are accepted.
func (c *Core) Leading() bool { return c.leading }

// Options with the defaults filled in.
func (c *Core) Options() Options { return c.opts }

// Event takes the next event of the journal. An error is final.
func (c *Core) Event(now time.Time, e journal.Event) error {
	switch e.Kind {
	case journal.EventRestore:
		s, err := state.Read(e.Snapshot)
		if cerr := e.Snapshot.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("restore the snapshot at %d: %w", e.Index, err)
		}
		c.state = s
	case journal.EventCommitted:
		if e.Own {
			for range e.Records {
				c.committed()
			}
			return nil
		}
		for _, r := range e.Records {
			if err := c.replay(r); err != nil {
				return err
			}
		}
	case journal.EventLeading:
		c.lead(now)
	case journal.EventFollowing:
		c.fail(ErrNotLeader)
		return ErrNotLeader
	case journal.EventFailed:
		c.fail(e.Err)
		return e.Err
	}
	return nil
}

func (c *Core) replay(r journal.Record) error {
	var b journalv1.Batch
	if err := proto.Unmarshal(r.Data, &b); err != nil {
		return fmt.Errorf("journal record %d: %w", r.Index, err)
	}
	if b.GetVersion() != state.Version {
		return fmt.Errorf("journal record %d has version %d, this program reads version %d: start the version that wrote it",
			r.Index, b.GetVersion(), state.Version)
	}
	for n, e := range b.GetEntries() {
		if _, _, err := c.state.Apply(e); err != nil {
			return fmt.Errorf("journal record %d, entry %d: %w", r.Index, n, err)
		}
	}
	return nil
}

// lead begins to accept commands. Workers that the state knows get the whole
// of their lease to come back: they run their tasks meanwhile, and granting
// those elsewhere would run them twice.
func (c *Core) lead(now time.Time) {
	c.leading = true
	for _, w := range c.state.Workers() {
		if w.Status == state.NodeReady || w.Status == state.NodeDraining {
			c.seen[w.NodeID()] = liveness{w.Epoch, now}
		}
	}
	if c.state.ClusterID() == "" {
		c.Do(now, &journalv1.Entry{Op: &journalv1.Entry_Init{Init: &journalv1.Init{ClusterId: c.clusterID}}}, nil)
	}
	c.purgeAt, c.lastTick = now, now
	c.lastFull = time.Time{}
}

// Accepts says that Do and Read may be called now. When it is false, the
// caller feeds journal events until it is true: a snapshot is about to be cut.
func (c *Core) Accepts() bool {
	return c.leading && !c.wantCut && len(c.open.entries) < maxBatchEntries && c.open.bytes < maxBatchBytes
}

// Do applies a command. A refused one is answered at once and leaves no trace;
// else reply is called when it is durable.
func (c *Core) Do(now time.Time, e *journalv1.Entry, reply Reply) {
	if !c.leading {
		if reply != nil {
			reply(state.Result{}, ErrNotLeader)
		}
		return
	}
	r, err := state.Result{}, tooLarge(e)
	if err == nil {
		r, err = c.apply(now, e)
	}
	switch {
	case reply == nil:
	case err != nil:
		reply(r, err)
	default:
		c.whenDurable(func(err error) {
			if err != nil {
				r = state.Result{}
			}
			reply(r, err)
		})
	}
}

// whenDurable calls f when everything that has been applied is durable.
func (c *Core) whenDurable(f func(error)) {
	switch {
	case len(c.open.entries) > 0:
		c.open.replies = append(c.open.replies, f)
	case len(c.inFlight) > 0:
		last := &c.inFlight[len(c.inFlight)-1]
		last.replies = append(last.replies, f)
	default:
		f(nil)
	}
}

func (c *Core) apply(now time.Time, e *journalv1.Entry) (state.Result, error) {
	e.TimeMs = max(now.UnixMilli(), c.state.Now())
	r, effects, err := c.state.Apply(e)
	if err != nil || r.Existed {
		return r, err
	}
	c.open.entries = append(c.open.entries, e)
	c.open.bytes += entrySize(e)
	c.open.effects = append(c.open.effects, effects...)
	c.note(now, e)
	return r, nil
}

func tooLarge(e *journalv1.Entry) error {
	if n := entrySize(e); n > maxEntryBytes {
		return fmt.Errorf("%w: the command has %d bytes, at most %d are allowed", state.ErrInvalid, n, maxEntryBytes)
	}
	return nil
}

// entrySize measures what can be large; the rest is not worth the walk.
func entrySize(e *journalv1.Entry) int {
	switch op := e.GetOp().(type) {
	case *journalv1.Entry_Submit, *journalv1.Entry_WorkerReport, *journalv1.Entry_WorkerHello:
		return proto.Size(e)
	case *journalv1.Entry_Grant:
		return 64 + 8*len(op.Grant.GetRuns())
	default:
		return 64
	}
}

// note keeps track of who was heard of.
func (c *Core) note(now time.Time, e *journalv1.Entry) {
	switch op := e.GetOp().(type) {
	case *journalv1.Entry_WorkerHello:
		h := op.WorkerHello.GetHello()
		c.seen[h.GetNodeId()] = liveness{h.GetEpoch(), now}
	case *journalv1.Entry_WorkerReport:
		c.Touch(now, op.WorkerReport.GetNodeId(), op.WorkerReport.GetEpoch())
	case *journalv1.Entry_WorkerLost:
		delete(c.seen, op.WorkerLost.GetNodeId())
	case *journalv1.Entry_WorkerLeft:
		delete(c.seen, op.WorkerLeft.GetNodeId())
	}
}

// Touch renews a worker's lease with the coordinator.
func (c *Core) Touch(now time.Time, node string, epoch uint64) {
	if l, ok := c.seen[node]; ok && l.epoch == epoch {
		c.seen[node] = liveness{epoch, now}
	}
}

// Read lets f read the state, and calls done when all that f can have seen is
// durable.
func (c *Core) Read(f func(*state.State), done func(error)) {
	if !c.leading {
		done(ErrNotLeader)
		return
	}
	f(c.state)
	c.whenDurable(done)
}

// fullPlan is how often the scheduler looks at every worker, and at least how
// often Tick should be called.
const fullPlan = 250 * time.Millisecond

// Tick turns what has come due into entries. Call it at least every fullPlan.
func (c *Core) Tick(now time.Time) {
	if !c.leading || c.wantCut {
		return
	}
	c.forgive(now)
	for _, w := range c.state.Workers() {
		l, ok := c.seen[w.NodeID()]
		if !ok || now.Sub(l.at) < c.opts.WorkerLease {
			continue
		}
		// Refused if the worker is not known under this epoch: then there is
		// nothing to lose.
		_, _ = c.apply(now, &journalv1.Entry{Op: &journalv1.Entry_WorkerLost{
			WorkerLost: &journalv1.WorkerLost{NodeId: w.NodeID(), Epoch: l.epoch},
		}})
		delete(c.seen, w.NodeID())
	}
	if !now.Before(c.purgeAt) {
		c.purgeAt = now.Add(time.Second)
		c.purge(now)
	}
}

// forgive takes the time in which this process did not run, stopped or starved,
// off the silence of workers: what they said waits in its sockets. Counted, it
// would give up every worker of the cluster for lost at once, and run all their
// tasks again.
func (c *Core) forgive(now time.Time) {
	gap := now.Sub(c.lastTick)
	c.lastTick = now
	if gap < 2*fullPlan {
		return
	}
	for node, l := range c.seen {
		if l.at = l.at.Add(gap); l.at.After(now) {
			l.at = now
		}
		c.seen[node] = l
	}
}

// maxPurge bounds one purge entry.
const maxPurge = 1000

func (c *Core) purge(now time.Time) {
	var old []uint64
	for n, id := range c.state.Done() {
		tooMany := c.opts.KeepJobs >= 0 && len(c.state.Done())-n > c.opts.KeepJobs
		tooOld := c.opts.KeepAge >= 0 && now.Sub(time.UnixMilli(c.state.Job(id).Stopped)) > c.opts.KeepAge
		if !tooMany && !tooOld || len(old) == maxPurge {
			break
		}
		if c.state.Purgeable(id) {
			old = append(old, id)
		}
	}
	if len(old) > 0 {
		_, _ = c.apply(now, &journalv1.Entry{Op: &journalv1.Entry_Purge{Purge: &journalv1.Purge{Jobs: old}}})
	}
}

// Flush plans, and proposes what has gathered if the disk is ready for it.
func (c *Core) Flush(now time.Time) error {
	if !c.leading {
		return nil
	}
	if len(c.inFlight) < maxInFlight {
		if !c.wantCut {
			full := now.Sub(c.lastFull) >= fullPlan
			if full {
				c.lastFull = now
			}
			var planErr error
			c.sched.Plan(c.state, full, func(e *journalv1.Entry) {
				if _, err := c.apply(now, e); err != nil && planErr == nil {
					planErr = fmt.Errorf("the scheduler decided what cannot be: %w", err)
				}
			})
			if planErr != nil {
				return planErr
			}
		}
		if err := c.propose(); err != nil {
			return err
		}
	}
	wanted := c.wantCut
	if err := c.cut(); err != nil {
		return err
	}
	if wanted && !c.wantCut {
		// Nothing was planned while the state came to rest for the snapshot, and
		// nobody may wake the loop before the next tick.
		return c.Flush(now)
	}
	return nil
}

func (c *Core) propose() error {
	if len(c.open.entries) == 0 {
		return nil
	}
	data, err := proto.Marshal(&journalv1.Batch{Version: state.Version, Entries: c.open.entries})
	if err != nil {
		return fmt.Errorf("encode a batch: %w", err)
	}
	if err := c.journal.Propose(data); err != nil {
		c.fail(err)
		return fmt.Errorf("propose: %w", err)
	}
	c.batches.Add(1)
	c.bytes.Add(uint64(len(data)))
	c.inFlight = append(c.inFlight, c.open)
	c.open = batch{}
	return nil
}

// committed releases the oldest batch.
func (c *Core) committed() {
	b := c.inFlight[0]
	c.inFlight = c.inFlight[1:]
	if len(b.effects) > 0 {
		c.release(c.state, b.effects)
	}
	for _, f := range b.replies {
		f(nil)
	}
	if !c.cutting.Load() && !c.wantCut {
		st := c.journal.Stats()
		c.wantCut = st.RecordsSinceSnapshot >= c.opts.SnapshotRecords || st.BytesSinceSnapshot >= c.opts.SnapshotBytes
	}
}

// cut takes a snapshot if one is due and nothing is on its way.
func (c *Core) cut() error {
	if !c.wantCut || c.cutting.Load() || len(c.inFlight) > 0 || len(c.open.entries) > 0 {
		return nil
	}
	frozen := c.state.Freeze()
	c.wantCut = false
	c.cutting.Store(true)
	// A snapshot that failed is tried again at the next commit; the log still
	// holds everything.
	err := c.journal.Snapshot(func(w io.Writer) error { return frozen.Write(w) }, func(error) { c.cutting.Store(false) })
	if err != nil {
		c.cutting.Store(false)
	}
	if err != nil && !errors.Is(err, journal.ErrBusy) && !errors.Is(err, journal.ErrEmpty) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// fail answers everything that waits: its outcome is not known. Whoever waits
// is told that the engine stops, whatever broke below it.
func (c *Core) fail(err error) {
	if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrStopped) {
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	c.leading = false
	waiting := append(c.inFlight, c.open)
	c.inFlight, c.open = nil, batch{}
	for _, b := range waiting {
		for _, f := range b.replies {
			f(err)
		}
	}
}
