// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"context"
	"time"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// waiting knows for how long nothing has run, and why.
type waiting struct {
	since time.Time
	done  uint64
	next  time.Time
	said  *volleyv1.ExplainJobResponse
}

// observe says whether it is time to ask why the job waits.
func (w *waiting) observe(job *volleyv1.Job, now time.Time, after time.Duration) bool {
	c := job.GetCounts()
	if done := finished(c); w.since.IsZero() || c.GetRunning() > 0 || done != w.done || client.Terminal(job.GetState()) {
		w.since, w.done, w.said = now, done, nil
		w.next = now.Add(after)
		return false
	}
	if now.Before(w.next) {
		return false
	}
	w.next = now.Add(extras)
	return true
}

// explain asks why nothing runs. A terminal that shows "0 of 40 done" and
// nothing else for an hour looks as if it hung.
func (f *Follower) explain(ctx context.Context, job *volleyv1.Job, now time.Time) error {
	after := idle
	if f.OnlyNode {
		after = frames // there is nobody to wait for
	}
	if f.Stopping || !f.wait.observe(job, now, after) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, extras)
	defer cancel()
	e, err := f.Client.Explain(ctx, client.Ref{ID: job.Id})
	if err != nil {
		return nil // the watch has to say it, if it is more than a moment
	}
	if f.OnlyNode && e.Tier == volleyv1.WaitTier_WAIT_TIER_MISCONFIGURED {
		return &NeverError{Reason: e.Reason}
	}
	f.wait.said = nil
	if e.Tier != volleyv1.WaitTier_WAIT_TIER_NONE && now.Sub(f.wait.since) >= idle {
		f.wait.said = e
	}
	return nil
}
