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

// Live redraws a few lines in place.
//
// Every frame is one write, so that a terminal never shows half of one, and no
// line is longer than the terminal is wide: a wrapped line would break the
// count of lines that the next frame goes up by.
type Live struct {
	W     io.Writer
	Width func() int
	Style render.Style
	// ASCII draws the bar without box characters.
	ASCII bool

	meter Meter
	drawn int
	frame string
}

// Update draws the state.
func (l *Live) Update(s State, now time.Time) {
	l.meter.Observe(now, s.Job.GetCounts())
	width := max(l.Width()-1, 20)
	var b strings.Builder
	l.title(&b, s, now, width)
	l.bar(&b, s, width)
	l.print(&b, fitting(append([]segment{{text: "  "}}, status(s, &l.meter)...), width), width)
	if s.Wait.GetReason() != "" && !s.Stopping {
		// Whole, however narrow the terminal is: a cut reason is none.
		for _, line := range append(wrap(render.Clean(s.Wait.Reason), width-2), wrap(render.Clean(s.Wait.Remedy), width-2)...) {
			l.print(&b, []segment{{text: "  " + line, paint: l.Style.Yellow}}, width)
		}
	}
	if s.Best != nil && s.Best.Metric != nil {
		l.print(&b, []segment{
			{text: "  best " + render.Clean(s.Job.GetMetric().GetName()) + " "},
			{text: render.Number(*s.Best.Metric), paint: l.Style.Green},
			{text: fmt.Sprintf("  index %d  ", s.Best.Index), paint: l.Style.Dim},
			{text: render.Params(s.Best.Params)},
		}, width)
	}
	l.draw(b.String())
}

func (l *Live) title(b *strings.Builder, s State, now time.Time, width int) {
	j := s.Job
	rest := "  job " + j.Id + "  " + strings.ToLower(render.Enum(j.State))
	if j.StartedAt > 0 {
		rest = "  job " + j.Id + "  " + render.Duration(max(0, now.Sub(time.UnixMilli(j.StartedAt))).Truncate(time.Second))
	}
	// A long name gives way: the number is what every command takes.
	name := render.Truncate(render.Clean(j.Name), max(width-render.Width(rest), 1))
	l.print(b, []segment{{text: name, paint: l.Style.Bold}, {text: rest, paint: l.Style.Dim}}, width)
}

// bar draws succeeded, failed and running parts, and the percentage.
func (l *Live) bar(b *strings.Builder, s State, width int) {
	c, size := s.Job.GetCounts(), float64(max(s.Job.GetSize(), 1))
	cells := min(width-8, 50)
	part := func(n uint64) int { return int(float64(n) / size * float64(cells)) }
	ok := part(c.GetSucceeded())
	failed := part(finished(c)) - ok
	if c.GetFailed() > 0 && failed == 0 && ok < cells {
		failed = 1 // one failure of a million has to be seen
	}
	running := min(max(part(finished(c)+c.GetRunning())-ok-failed, 0), cells-ok-failed)
	full, half, none := "━", "╌", " "
	if l.ASCII {
		full, half, none = "#", "-", "."
	}
	l.print(b, []segment{
		{text: "  "},
		{text: strings.Repeat(full, ok), paint: l.Style.Green},
		{text: strings.Repeat(full, failed), paint: l.Style.Red},
		{text: strings.Repeat(half, running), paint: l.Style.Cyan},
		{text: strings.Repeat(none, max(cells-ok-failed-running, 0))},
		// Rounded down: 100 % means all.
		{text: fmt.Sprintf("%4d%%", int(float64(finished(c))/size*100))},
	}, width)
}

// fitting leaves out the last segments, whole: half a number is a wrong one.
func fitting(line []segment, width int) []segment {
	used := 0
	for i, s := range line {
		if used += render.Width(s.text); used > width && i > 1 {
			return line[:i]
		}
	}
	return line
}

// print writes one line, cut to the width.
func (l *Live) print(b *strings.Builder, line []segment, width int) {
	for _, s := range line {
		text := render.Truncate(s.text, width)
		width -= render.Width(text)
		if s.paint != nil && l.Style.Color {
			text = s.paint(text)
		}
		b.WriteString(text)
	}
	b.WriteByte('\n')
}

// wrap breaks a clean text between words.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case render.Width(line)+1+render.Width(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// draw replaces the frame on the screen.
func (l *Live) draw(frame string) {
	if frame == l.frame {
		return
	}
	_, _ = io.WriteString(l.W, l.erase()+frame)
	l.frame, l.drawn = frame, strings.Count(frame, "\n")
}

// erase goes up to the first line of the frame and clears from there on.
func (l *Live) erase() string {
	if l.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", l.drawn)
}

// Note prints text above the frame.
func (l *Live) Note(text string) {
	frame := l.frame
	_, _ = io.WriteString(l.W, l.erase()+text+frame)
	l.drawn = strings.Count(frame, "\n")
}

// Close erases the frame.
func (l *Live) Close() {
	_, _ = io.WriteString(l.W, l.erase())
	l.frame, l.drawn = "", 0
}

// Noun says what an index of the job is: point, shard, record, task.
func Noun(spec *volleyv1.JobSpec) string {
	switch k := spec.GetSpace().GetKind().(type) {
	case *volleyv1.Space_Sweep:
		return "point"
	case *volleyv1.Space_Map:
		if k.Map.GetShard().GetBy() != nil {
			if _, ok := k.Map.Shard.By.(*volleyv1.Shard_TargetMs); !ok {
				return "shard"
			}
		}
		return "record"
	}
	return "task"
}
