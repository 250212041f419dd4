// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"math"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// account collects news about one lease, in the columns of its report, until
// the next report is cut. Its memory is used again after the acknowledgement.
type account struct {
	lease     *lease
	rep       *volleyv1.LeaseReport
	n         int // results
	bytes     int // rough size of the encoded report
	lastStart int64
	reasons   map[string]uint32
}

func newAccount() *account { return &account{rep: &volleyv1.LeaseReport{}} }

// maxReason bounds a reason text; a task cannot make a report large with it.
const maxReason = 1024

// add appends the result of count successive indexes, which share the time
// when they are many. Columns that have been all zero stay empty.
func (a *account) add(first, count uint64, r *Result, wantMetric bool) {
	rep := a.rep
	rep.Finished = appendRun(rep.Finished, first, count)
	start := r.StartedAt.UnixMilli()
	micros := uint64(max(0, r.Duration.Microseconds())) / count
	reason := a.reason(r.Reason)
	a.bytes += len(r.Reason)
	metric := math.NaN()
	if r.HasMetric {
		metric = r.Metric
	}
	output := r.Output
	a.bytes += 20 + len(output) + 8*int(count)
	for range count {
		rep.StartMs = append(rep.StartMs, start-a.lastStart)
		a.lastStart = start
		rep.DurationUs = append(rep.DurationUs, micros)
		rep.Outcome = column(rep.Outcome, a.n, uint32(r.Outcome))
		rep.ExitCode = column(rep.ExitCode, a.n, uint32(r.ExitCode))
		rep.PeakKib = column(rep.PeakKib, a.n, r.PeakKiB)
		rep.CpuMs = column(rep.CpuMs, a.n, r.CPUMillis/count)
		rep.Reason = column(rep.Reason, a.n, reason)
		// A job with a metric gets the whole column: an empty one reads as all
		// zero, which is a value.
		if wantMetric {
			rep.Metric = append(rep.Metric, metric)
		}
		if len(output) > 0 || len(rep.Output) > 0 {
			for len(rep.Output) < a.n {
				rep.Output = append(rep.Output, nil)
			}
			rep.Output = append(rep.Output, output)
		}
		// One process, one object: it goes with the first index.
		output, metric = nil, math.NaN()
		a.n++
	}
}

func column[T uint32 | uint64](col []T, n int, v T) []T {
	if v == 0 && len(col) == 0 {
		return col
	}
	if len(col) < n {
		col = append(col, make([]T, n-len(col))...)
	}
	return append(col, v)
}

func appendRun(runs []uint64, first, count uint64) []uint64 {
	if n := len(runs); n > 0 && runs[n-2]+runs[n-1] == first {
		runs[n-1] += count
		return runs
	}
	return append(runs, first, count)
}

func (a *account) reason(text string) uint32 {
	if text == "" {
		return 0
	}
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	if i, ok := a.reasons[text]; ok {
		return i
	}
	if a.reasons == nil {
		a.reasons = make(map[string]uint32)
	}
	a.rep.Reasons = append(a.rep.Reasons, text)
	a.reasons[text] = uint32(len(a.rep.Reasons))
	return a.reasons[text]
}

// reusable reports whether keeping the memory is worth it: one burst must not
// pin its peak for ever.
func (a *account) reusable() bool { return cap(a.rep.StartMs) <= 1<<16 }

func (a *account) reset() {
	rep := a.rep
	rep.LeaseId = 0
	rep.Finished = rep.Finished[:0]
	rep.StartMs = rep.StartMs[:0]
	rep.DurationUs = rep.DurationUs[:0]
	rep.Outcome = rep.Outcome[:0]
	rep.ExitCode = rep.ExitCode[:0]
	rep.PeakKib = rep.PeakKib[:0]
	rep.CpuMs = rep.CpuMs[:0]
	rep.Reason = rep.Reason[:0]
	clear(rep.Reasons)
	rep.Reasons = rep.Reasons[:0]
	rep.Metric = rep.Metric[:0]
	clear(rep.Output)
	rep.Output = rep.Output[:0]
	rep.Started = rep.Started[:0]
	rep.Returned = rep.Returned[:0]
	rep.Preempted = rep.Preempted[:0]
	clear(a.reasons)
	a.lease, a.n, a.bytes, a.lastStart = nil, 0, 0, 0
}

// sorted puts runs of unknown order into ascending order. `started` comes from
// slots, in no order.
func sorted(runs []uint64) []uint64 {
	type run struct{ first, count uint64 }
	rs := make([]run, 0, len(runs)/2)
	for i := 0; i+1 < len(runs); i += 2 {
		rs = append(rs, run{runs[i], runs[i+1]})
	}
	slices.SortFunc(rs, func(x, y run) int { return cmp.Compare(x.first, y.first) })
	out := runs[:0]
	for _, r := range rs {
		out = appendRun(out, r.first, r.count)
	}
	return out
}

// account is the open account of l.
func (a *Agent) account(l *lease) *account {
	if l.acc != nil {
		return l.acc
	}
	var acc *account
	if n := len(a.spare); n > 0 {
		acc = a.spare[n-1]
		a.spare = a.spare[:n-1]
	} else {
		acc = newAccount()
	}
	acc.lease = l
	acc.rep.LeaseId = l.id
	l.acc = acc
	if a.dirty = append(a.dirty, acc); len(a.dirty) == 1 {
		a.wake()
	}
	return acc
}

// maxSpare bounds the accounts kept for use again.
const maxSpare = 64

func (a *Agent) recycle(acc *account) {
	if len(a.spare) < maxSpare && acc.reusable() {
		acc.reset()
		a.spare = append(a.spare, acc)
	}
}

func (a *Agent) setUrgent() {
	if !a.urgent {
		a.urgent = true
		a.wake()
	}
}

// wake makes the flusher look. It never blocks.
func (a *Agent) wake() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}
