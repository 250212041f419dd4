// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// State is what a view shows.
type State struct {
	Job *volleyv1.Job
	// Best is the best child so far, with its parameters. It may be nil.
	Best *volleyv1.Child
	// Stopping is set when the job is being terminated.
	Stopping bool
	// Wait is why nothing runs, once that has lasted. It may be nil.
	Wait *volleyv1.ExplainJobResponse
}

// View shows a job.
type View interface {
	// Update shows a state.
	Update(s State, now time.Time)
	// Note prints lines that stay.
	Note(text string)
	// Close takes away what must not stay.
	Close()
}

// Plain prints lines, for logs and pipes.
type Plain struct {
	W     io.Writer
	meter Meter

	started bool
	last    time.Time
	tenth   uint64
	shown   uint64
	stop    bool

	tier   volleyv1.WaitTier
	waits  string
	waited time.Time
}

// Update prints a line when a tenth of the job or ten seconds have passed
// since the last one and there is something new to say.
func (p *Plain) Update(s State, now time.Time) {
	p.meter.Observe(now, s.Job.GetCounts())
	done, size := finished(s.Job.GetCounts()), max(s.Job.GetSize(), 1)
	tenth := uint64(float64(done) / float64(size) * 10)
	if !p.started && !s.Stopping {
		// What was done before the first look is not progress.
		p.started, p.last, p.tenth, p.shown = true, now, tenth, done
		return
	}
	if s.Stopping {
		if !p.stop {
			p.stop = true
			fmt.Fprintf(p.W, "job %s: stopping running tasks\n", s.Job.Id)
		}
		return
	}
	p.wait(s, now)
	since := now.Sub(p.last)
	// Tenths of a fast job come faster than anybody reads.
	if done >= size || done == p.shown && since < time.Minute || (tenth == p.tenth || since < time.Second) && since < 10*time.Second {
		return
	}
	p.line(s, now, tenth, done)
}

// wait says why nothing runs, and again when that changes: its tier at once,
// its numbers now and then.
func (p *Plain) wait(s State, now time.Time) {
	text := Sentence(s.Wait)
	if text == "" {
		p.tier, p.waits = 0, ""
		return
	}
	if text == p.waits || s.Wait.Tier == p.tier && now.Sub(p.waited) < window {
		return
	}
	p.tier, p.waits, p.waited = s.Wait.Tier, text, now
	fmt.Fprintln(p.W, text)
}

// Sentence is the reason and what would change it.
func Sentence(e *volleyv1.ExplainJobResponse) string {
	switch {
	case e.GetReason() == "":
		return ""
	case e.Remedy == "":
		return render.Clean(e.Reason)
	}
	return render.Clean(e.Reason + ": " + e.Remedy)
}

func (p *Plain) line(s State, now time.Time, tenth, done uint64) {
	p.last, p.tenth, p.shown = now, tenth, done
	var b strings.Builder
	for _, seg := range status(s, &p.meter) {
		b.WriteString(seg.text)
	}
	if s.Best != nil && s.Best.Metric != nil {
		fmt.Fprintf(&b, "  best %s %s (%d)", render.Clean(s.Job.GetMetric().GetName()), render.Number(*s.Best.Metric), s.Best.Index)
	}
	fmt.Fprintf(p.W, "job %s: %s\n", s.Job.Id, strings.TrimSpace(b.String()))
}

// Note prints the text.
func (p *Plain) Note(text string) { _, _ = io.WriteString(p.W, text) }

// Close does nothing: lines stay.
func (p *Plain) Close() {}

// segment is a piece of a line with its colour.
type segment struct {
	text  string
	paint func(string) string
}

// status is the line of counts that both views share.
func status(s State, m *Meter) []segment {
	c := s.Job.GetCounts()
	if s.Stopping {
		// Counts would show everything that is cancelled as failed.
		return []segment{{text: fmt.Sprintf("%s of %s done  ", render.Count(c.GetSucceeded()), render.Count(s.Job.GetSize()))}, {text: "stopping running tasks", paint: render.Style{Color: true}.Yellow}}
	}
	done := fmt.Sprintf("%s of %s done", render.Count(finished(c)), render.Count(s.Job.GetSize()))
	if c.GetSkipped() > 0 {
		done += fmt.Sprintf(" (%s before)", render.Count(c.GetSkipped()))
	}
	line := []segment{{text: done}}
	// Not what is starting: that is with a worker, not on a CPU.
	if n := c.GetRunning(); n > 0 {
		line = append(line, segment{text: fmt.Sprintf("  %s running", render.Count(n))})
	}
	if c.GetFailed() > 0 {
		line = append(line, segment{text: fmt.Sprintf("  %s failed", render.Count(c.GetFailed())), paint: render.Style{Color: true}.Red})
	}
	if r := m.Rate(); r > 0 {
		line = append(line, segment{text: "  " + rate(r)})
	}
	if left := m.Left(s.Job.GetSize() - min(finished(c), s.Job.GetSize())); left > 0 {
		line = append(line, segment{text: "  about " + render.Duration(left.Round(time.Second)) + " left"})
	}
	return line
}

// rate picks the unit in which the number is not below one.
func rate(perSecond float64) string {
	switch {
	case perSecond >= 100:
		return render.Count(uint64(perSecond+0.5)) + "/s"
	case perSecond >= 0.5:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.1f/min", perSecond*60)
	}
	return fmt.Sprintf("%.1f/h", perSecond*3600)
}
