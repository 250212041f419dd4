// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// patience is one wait for a coordinator that has gone away: full jitter, from
// 20 ms to a second, for at most so long since the last sign of life.
type patience struct {
	limit time.Duration
	since time.Time
	next  time.Duration
}

// alive resets the patience: something was heard.
func (p *patience) alive() { p.since, p.next = time.Time{}, 0 }

// wait blocks before the next try. It answers false when there is none.
func (p *patience) wait(ctx context.Context) bool {
	now := time.Now()
	if p.since.IsZero() {
		p.since, p.next = now, 20*time.Millisecond
	}
	if now.Sub(p.since) >= p.limit {
		return false
	}
	t := time.NewTimer(time.Duration(rand.Int64N(int64(p.next)) + 1))
	defer t.Stop()
	p.next = min(2*p.next, time.Second)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retry makes a call that may be made twice, until it succeeds or fails for
// another reason than that nobody answers.
func retry[T any](ctx context.Context, c *Client, op string, call func() (T, error)) (T, error) {
	p := patience{limit: c.retryFor}
	for {
		v, err := call()
		if err == nil {
			return v, nil
		}
		err = c.wrap(ctx, op, err)
		if Kind(err) != Unreachable || !p.wait(ctx) {
			var zero T
			return zero, err
		}
	}
}
