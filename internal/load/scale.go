// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"time"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// scale has many simulated workers run one array, and others join meanwhile.
func (r *run) scale(ctx context.Context) (err error) {
	s := &r.report.Setup
	s.Workers, s.Slots, s.Connections, s.Tasks, s.Samples = r.c.Workers, r.c.Slots, r.c.Connections, r.c.Tasks, r.c.Samples
	s.TaskTimeMS = float64(r.c.TaskTime) / float64(time.Millisecond)
	r.selfRole, r.perTask = "simulated workers, client", true
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := newFleet(inner, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.leave(cancel)) }()
	welcomed, leased := newHistogram("connect until welcomed, 32 at once"), newHistogram("join until the first lease, under load")
	defer func() { r.report.Latencies = leased.appendTo(welcomed.appendTo(nil)) }()
	if err := f.join(r.c.Workers, welcomed); err != nil {
		return err
	}
	spec := r.spec("scale")
	spec.Command = []string{"noop"}
	spec.Space = &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: r.c.Tasks}}
	left := r.c.Samples
	err = r.rounds(ctx, spec, func(ctx context.Context) {
		f.probe(ctx, left, leased)
		left = r.c.Samples - int(leased.h.TotalCount())
	})
	if err != nil {
		return err
	}
	f.check()
	return r.verify(ctx)
}

// check compares what the workers have executed with what there was.
func (f *fleet) check() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing, twice, beyond uint64
	for _, t := range f.tallies {
		missing += t.missing()
		twice += t.twice.Load()
		beyond += t.beyond.Load()
	}
	f.r.check("executed once", missing == 0 && twice == 0 && beyond == 0,
		"workers: %d tasks of %d jobs not executed, %d executed again, %d that do not exist", missing, len(f.tallies), twice, beyond)
}

// verify reads back every result of the last job: one for each index, in
// order, succeeded at the first attempt.
func (r *run) verify(ctx context.Context) error {
	begin := time.Now()
	next, wrong := uint64(0), uint64(0)
	req := &volleyv1.ListResultsRequest{JobId: r.last.GetId(), Order: volleyv1.ResultOrder_RESULT_ORDER_INDEX}
	for row, err := range r.t.client.Results(ctx, req) {
		if err != nil {
			return err
		}
		if row.GetIndex() != next || !client.Terminal(row.GetState()) || row.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED || len(row.GetAttempts()) != 1 {
			wrong++
		}
		next++
	}
	r.check("read back", next == r.last.GetSize() && wrong == 0, "job %s: %d results of %d read in %.1f s, %d of them wrong",
		r.last.GetId(), next, r.last.GetSize(), time.Since(begin).Seconds(), wrong)
	return nil
}
