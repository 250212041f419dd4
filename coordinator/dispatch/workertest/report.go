// SPDX-License-Identifier: Apache-2.0

package workertest

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// add appends one finished index to all columns.
func add(lr *volleyv1.LeaseReport, i uint64, now int64, r Result) {
	if r.DurationUS == 0 {
		r.DurationUS = 1000
	}
	if len(lr.Finished) > 0 {
		now = 0 // a difference
	}
	lr.Finished = append(lr.Finished, i, 1)
	lr.StartMs = append(lr.StartMs, now)
	lr.DurationUs = append(lr.DurationUs, r.DurationUS)
	lr.Outcome = append(lr.Outcome, uint32(r.Outcome))
	lr.ExitCode = append(lr.ExitCode, r.Exit)
	reason := uint32(0)
	if r.Reason != "" {
		at := slices.Index(lr.Reasons, r.Reason)
		if at < 0 {
			at = len(lr.Reasons)
			lr.Reasons = append(lr.Reasons, r.Reason)
		}
		reason = uint32(at) + 1
	}
	lr.Reason = append(lr.Reason, reason)
	metric := math.NaN()
	if r.Metric != nil {
		metric = *r.Metric
	}
	lr.Metric = append(lr.Metric, metric)
	lr.Output = append(lr.Output, []byte(r.Output))
}

// report keeps what has happened until it is acknowledged.
func (w *Worker) report(out map[uint64]*volleyv1.LeaseReport) *volleyv1.Report {
	if len(out) == 0 {
		return nil
	}
	r := &volleyv1.Report{}
	for _, id := range slices.Sorted(maps.Keys(out)) {
		r.Leases = append(r.Leases, out[id])
	}
	w.seq++
	r.Seq = w.seq
	w.reports = append(w.reports, r)
	return r
}

// Start runs what a lazy worker was granted.
func (w *Worker) Start() {
	w.mu.Lock()
	out := map[uint64]*volleyv1.LeaseReport{}
	for id := range w.leases {
		w.start(id, out)
	}
	r, s := w.report(out), w.session
	w.mu.Unlock()
	if r != nil && s != nil {
		_ = s.send(&volleyv1.ConnectRequest{Report: r}) // kept until acknowledged
	}
}

// Finish ends a task that runs, and says whether there was one.
func (w *Worker) Finish(job, index uint64, res Result) bool {
	w.mu.Lock()
	out := map[uint64]*volleyv1.LeaseReport{}
	for id, l := range w.leases {
		if l.job == job && l.running.Remove(index) {
			add(reportOf(out, id), index, w.o.NowMS, res)
			w.tidy(id)
			break
		}
	}
	r, s := w.report(out), w.session
	w.mu.Unlock()
	if r != nil && s != nil {
		_ = s.send(&volleyv1.ConnectRequest{Report: r})
	}
	return r != nil
}

// Send sends a message of the test's making; without a session it is lost.
func (w *Worker) Send(m *volleyv1.ConnectRequest) {
	w.mu.Lock()
	s := w.session
	w.mu.Unlock()
	if s != nil {
		_ = s.send(m)
	}
}

// Bye says good-bye and waits for the end of the session, which it returns.
func (w *Worker) Bye() error {
	w.mu.Lock()
	s := w.session
	w.mu.Unlock()
	if s == nil {
		return nil
	}
	_ = s.send(&volleyv1.ConnectRequest{Bye: true})
	<-s.done
	return s.err
}

// Cut breaks the session off, as a network does.
func (w *Worker) Cut() {
	w.mu.Lock()
	s := w.session
	w.mu.Unlock()
	if s != nil {
		s.cancel()
		<-s.done
	}
}

// Ended waits for the end of the last session and returns its reason. Before
// the first session it is nil.
func (w *Worker) Ended(ctx context.Context) error {
	w.mu.Lock()
	s := w.session
	w.mu.Unlock()
	if s == nil {
		return nil
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("the session did not end: %w", ctx.Err())
	}
}

// Restart is a new process of the same node: it holds nothing, and its epoch
// is larger. Reports are on disk and survive.
func (w *Worker) Restart() {
	w.Cut()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.o.Epoch++
	clear(w.leases)
}

// Runs says how often an index of a job was run.
func (w *Worker) Runs(job, index uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[fmt.Sprintf("%d:%d", job, index)]
}

// Held is the number of indexes that wait or run.
func (w *Worker) Held() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := uint64(0)
	for _, l := range w.leases {
		n += l.waiting.Len() + l.running.Len()
	}
	return n
}

// Unacknowledged is the number of reports that were not acknowledged.
func (w *Worker) Unacknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.reports)
}

// Until waits until a message for which ok answers true has come, in this
// session or an earlier one, and returns it.
func (w *Worker) Until(ctx context.Context, ok func(*volleyv1.ConnectResponse) bool) (*volleyv1.ConnectResponse, error) {
	for seen := 0; ; {
		w.mu.Lock()
		trace, noted := w.trace, w.noted
		w.mu.Unlock()
		for ; seen < len(trace); seen++ {
			if ok(trace[seen]) {
				return trace[seen], nil
			}
		}
		select {
		case <-noted:
		case <-ctx.Done():
			return nil, fmt.Errorf("no such message among %d: %w", len(trace), ctx.Err())
		}
	}
}

// Trace is all messages so far.
func (w *Worker) Trace() []*volleyv1.ConnectResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.trace)
}
