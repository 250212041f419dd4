// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	window = 30 * time.Second
	// spacing keeps a fast job from filling the window with samples.
	spacing = 100 * time.Millisecond
)

// Meter measures how fast a job finishes tasks.
type Meter struct {
	samples []sample
}

type sample struct {
	at   time.Time
	done uint64
}

// Observe takes a state of the job. Calls with an earlier time than before are
// taken as now.
func (m *Meter) Observe(now time.Time, c *volleyv1.Counts) {
	done := executed(c)
	if n := len(m.samples); n > 0 {
		last := &m.samples[n-1]
		// A rerun takes finished tasks back: what was measured says nothing
		// about what is left.
		if done < last.done {
			m.samples = m.samples[:0]
		} else if n > 1 && now.Sub(m.samples[n-2].at) < spacing {
			last.at, last.done = now, done
			return
		}
	}
	m.samples = append(m.samples, sample{now, done})
	// One sample older than the window stays, or a slow job had no rate.
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) > window {
		m.samples = m.samples[1:]
	}
}

// Rate is in tasks per second. 0: not known yet.
func (m *Meter) Rate() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	d := last.at.Sub(first.at).Seconds()
	if d <= 0 {
		return 0
	}
	return float64(last.done-first.done) / d
}

// Left estimates the time to the end. 0: not known.
func (m *Meter) Left(remaining uint64) time.Duration {
	r := m.Rate()
	if r <= 0 || remaining == 0 {
		return 0
	}
	s := float64(remaining) / r
	if s > 1e9 {
		return 0 // 30 years is no estimate
	}
	return time.Duration(s * float64(time.Second))
}

// executed counts what ran: points that were taken over did not.
func executed(c *volleyv1.Counts) uint64 {
	return c.GetSucceeded() + c.GetFailed() - min(c.GetSkipped(), c.GetSucceeded())
}

// finished counts what has ended, run or taken over.
func finished(c *volleyv1.Counts) uint64 { return c.GetSucceeded() + c.GetFailed() }
