// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
	"github.com/volley-batch/volley/worker/spool"
)

const (
	// coalesce is how long results wait for company under load: each report
	// costs the coordinator a durable batch.
	coalesce = 10 * time.Millisecond
	// offlineEvery is the pace of the spool when nobody listens.
	offlineEvery = 100 * time.Millisecond
	// maxInFlight is how many reports may be unacknowledged before new ones
	// are cut at the pace of offlineEvery only.
	maxInFlight = 32
	// urgentInFlight is how many may be before an urgent one waits too.
	urgentInFlight = 2
	// sealAt and maxReport bound a report well below gRPC's default limit of
	// 4 MiB for a message.
	sealAt    = 1 << 20
	maxReport = 1 << 20
	// lowWaterSpan is for how long the unstarted work must last before a
	// report is urgent: report, decision and grant have to fit into it.
	lowWaterSpan = 20 * time.Millisecond
)

// entry is one report that is not acknowledged.
type entry struct {
	seq    uint64
	record spool.Record // Number 0: the spool has refused it
	// report is nil when it has to be read from the spool.
	report   *volleyv1.Report
	accounts []*account // memory of report
	ends     []ends
	sent     bool // the writer is done with report
}

// ends says which indexes of a lease come to their end with a report.
type ends struct {
	lease    uint64
	finished sharding.Set
	away     sharding.Set // returned and preempted
}

func endsOf(rep *volleyv1.LeaseReport) (ends, error) {
	e := ends{lease: rep.GetLeaseId()}
	if err := e.finished.AddPacked(rep.GetFinished()); err != nil {
		return e, err
	}
	if err := e.away.AddPacked(rep.GetReturned()); err != nil {
		return e, err
	}
	return e, e.away.AddPacked(rep.GetPreempted())
}

// openSpool reads the results that an earlier process could not deliver. They
// are numbered anew, since sequence numbers belong to an epoch.
func (a *Agent) openSpool() error {
	sp, records, err := spool.Open(a.home.path("spool"))
	if err != nil {
		return err
	}
	a.spool = sp
	var buf []byte
	for _, rec := range records {
		buf, err = sp.Read(buf[:0], rec)
		rep := volleyv1.Report{}
		if err == nil {
			err = proto.Unmarshal(buf, &rep)
		}
		if err != nil {
			return fmt.Errorf("read the spool of %s: %w", a.home.dir, err)
		}
		stale := dropStarted(&rep)
		if len(rep.GetLeases()) == 0 {
			continue
		}
		a.seq++
		e := &entry{seq: a.seq, record: rec}
		if stale {
			rep.Seq = e.seq
			e.report = &rep
		}
		for _, lr := range rep.GetLeases() {
			en, err := endsOf(lr)
			if err != nil {
				return fmt.Errorf("read the spool of %s: %w", a.home.dir, err)
			}
			l := a.leases[en.lease]
			if l == nil {
				l = &lease{id: en.lease}
				a.leases[en.lease] = l
			}
			l.held.Union(&en.finished)
			l.held.Union(&en.away)
			e.ends = append(e.ends, en)
		}
		a.entries = append(a.entries, e)
	}
	if len(records) > 0 {
		a.log.Info("found results of an earlier process in the spool", "reports", len(records))
	}
	return nil
}

// dropStarted takes out what an earlier process has started: that is dead. It
// reports whether there was any.
func dropStarted(rep *volleyv1.Report) bool {
	stale := false
	rep.Leases = slices.DeleteFunc(rep.Leases, func(l *volleyv1.LeaseReport) bool {
		stale = stale || len(l.GetStarted()) > 0
		l.Started = nil
		return len(l.GetFinished()) == 0 && len(l.GetReturned()) == 0 && len(l.GetPreempted()) == 0
	})
	return stale
}

// flushLoop cuts reports when they are due.
func (a *Agent) flushLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var since, last time.Time // first sight of the news; last report
	for {
		now := time.Now()
		wait := time.Hour
		if a.hasNews() {
			if since.IsZero() {
				since = now
			}
			if wait = a.due(now, since, last); wait <= 0 {
				a.flush()
				a.trimSpool()
				since, last = time.Time{}, now
				continue
			}
		} else {
			since = time.Time{}
			a.trimSpool()
		}
		timer.Reset(wait)
		select {
		case <-a.poke:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) hasNews() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.dirty) > 0 || a.startedNews.Load()
}

// due says how long the news should wait. Zero or less: not at all.
func (a *Agent) due(now, since, last time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.entries)
	switch {
	case a.session == nil || n >= maxInFlight:
		if len(a.dirty) == 0 {
			return time.Hour // starts are told by the next Hello, or later
		}
		return since.Add(offlineEvery).Sub(now)
	case a.urgent && n < urgentInFlight:
		return 0
	case n == 0:
		return last.Add(coalesce).Sub(now)
	default:
		return since.Add(coalesce).Sub(now)
	}
}

// flush cuts everything that is ready into reports.
func (a *Agent) flush() {
	a.flushMu.Lock()
	defer a.flushMu.Unlock()
	a.cut()
}

// cut is flush under flushMu. The accounts are taken in one short lock; the
// slow work on them is done outside.
func (a *Agent) cut() {
	a.mu.Lock()
	a.startedNews.Store(false)
	for _, s := range a.slots {
		if s.lease != nil && !s.told && !s.lease.dropped && s.task.started.Load() {
			s.told = true
			acc := a.account(s.lease)
			acc.rep.Started = append(acc.rep.Started, s.task.Index, s.task.Count)
		}
	}
	accounts := a.dirty
	a.dirty = nil
	for _, acc := range accounts {
		if acc.lease.acc == acc {
			acc.lease.acc = nil
		}
	}
	a.urgent = false
	finished, slots := a.finished, len(a.slots)
	a.mu.Unlock()
	low := a.rate.update(time.Now(), finished)
	if a.procs != nil && len(accounts) > 0 {
		a.procs.flush()
	}

	var entries []*entry
	for len(accounts) > 0 {
		n, size := 0, 0
		for n < len(accounts) && (n == 0 || size+accounts[n].bytes <= maxReport) {
			size += accounts[n].bytes
			n++
		}
		entries = append(entries, a.newEntry(accounts[:n:n]))
		accounts = accounts[n:]
	}
	a.mu.Lock()
	a.lowWater = max(uint64(2*slots), low)
	for _, e := range entries {
		// A long outage must not fill the memory: later reports are read back
		// from the spool.
		if len(a.entries) >= 2*maxInFlight && e.record.Number > 0 {
			e.report, e.accounts = nil, nil
		}
		a.entries = append(a.entries, e)
	}
	if s := a.session; s != nil {
		s.nudge()
	}
	a.mu.Unlock()
}

// newEntry numbers and spools a report of the accounts.
func (a *Agent) newEntry(accounts []*account) *entry {
	a.seq++
	e := &entry{seq: a.seq, accounts: accounts, ends: make([]ends, len(accounts))}
	rep := &volleyv1.Report{Leases: make([]*volleyv1.LeaseReport, len(accounts))}
	for i, acc := range accounts {
		acc.rep.Started = sorted(acc.rep.Started)
		rep.Leases[i] = acc.rep
		var err error
		if e.ends[i], err = endsOf(acc.rep); err != nil {
			panic(fmt.Sprintf("worker: report of lease %d has malformed runs: %v", acc.rep.GetLeaseId(), err))
		}
	}
	var err error
	a.codec, err = proto.MarshalOptions{}.MarshalAppend(a.codec[:0], rep)
	if err == nil {
		e.record, err = a.spool.Append(a.codec)
	}
	if err != nil {
		// It is still in memory and will be delivered unless this process dies.
		a.log.Error("report not spooled; it is lost if the worker is killed before the coordinator has it", "error", err)
	}
	rep.Seq = e.seq
	e.report = rep
	return e
}

// trimSpool passes acknowledgements on to the disk.
func (a *Agent) trimSpool() {
	a.flushMu.Lock()
	defer a.flushMu.Unlock()
	a.mu.Lock()
	to := a.ackTo
	a.ackTo = 0
	a.mu.Unlock()
	if to == 0 {
		return
	}
	if err := a.spool.Ack(to); err != nil {
		a.log.Error("spool not trimmed; its results will be sent again after a restart", "error", err)
	}
}

// ack forgets the reports up to seq.
func (a *Agent) ack(seq uint64) {
	n := 0
	for n < len(a.entries) && a.entries[n].seq <= seq {
		n++
	}
	if n == 0 {
		return
	}
	acked := a.entries[:n]
	a.entries = a.entries[n:]
	for _, e := range acked {
		a.ackTo = max(a.ackTo, e.record.Number)
		for i := range e.ends {
			en := &e.ends[i]
			l := a.leases[en.lease]
			if l == nil {
				continue
			}
			l.held.Subtract(&en.finished)
			l.held.Subtract(&en.away)
		}
	}
	for _, e := range acked {
		for i := range e.ends {
			a.settle(e.ends[i].lease)
		}
		// Only what the writer has let go of may be written again.
		if e.sent {
			for _, acc := range e.accounts {
				a.recycle(acc)
			}
		}
	}
	a.notify()
	a.wake()
}

// settle drops a lease of which nothing is left.
func (a *Agent) settle(id uint64) {
	if l := a.leases[id]; l != nil && l.held.Empty() && l.running == 0 {
		delete(a.leases, id)
	}
}

// forgetAway ends the wait for the acknowledgement of what was handed back: a
// Hello follows that does not hold it, and the repeated reports tell of their
// results only. The coordinator may have recorded the hand-back and grant the
// index again, under the same lease, before it acknowledges the repetition.
func (a *Agent) forgetAway() {
	for _, e := range a.entries {
		for i := range e.ends {
			en := &e.ends[i]
			if l := a.leases[en.lease]; l != nil && !en.away.Empty() {
				l.held.Subtract(&en.away)
				a.settle(en.lease)
			}
			en.away.Reset()
		}
	}
}

// load is the report of e, from memory or from the spool.
func (a *Agent) load(e *entry) (*volleyv1.Report, error) {
	if e.report != nil {
		return e.report, nil
	}
	a.flushMu.Lock()
	buf, err := a.spool.Read(nil, e.record)
	a.flushMu.Unlock()
	if err != nil {
		return nil, err
	}
	rep := &volleyv1.Report{}
	if err := proto.Unmarshal(buf, rep); err != nil {
		return nil, fmt.Errorf("read spool: report %d: %w", e.seq, err)
	}
	rep.Seq = e.seq
	return rep, nil
}

// rateMeter smooths how fast indexes finish.
type rateMeter struct {
	at        time.Time
	finished  uint64
	perSecond float64
}

// update answers how many indexes finish in lowWaterSpan.
func (m *rateMeter) update(now time.Time, finished uint64) uint64 {
	if m.at.IsZero() {
		m.at, m.finished = now, finished
		return 0
	}
	d := now.Sub(m.at)
	if d < time.Millisecond {
		return uint64(m.perSecond * lowWaterSpan.Seconds())
	}
	rate := float64(finished-m.finished) / d.Seconds()
	m.perSecond += (rate - m.perSecond) / 4
	m.at, m.finished = now, finished
	return uint64(m.perSecond * lowWaterSpan.Seconds())
}
