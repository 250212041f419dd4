// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// mark is one line of a panel: a point, and a whisker from low to high.
type mark struct {
	name           string
	low, mid, high float64
	label          string
	ours           bool
}

const (
	plotWidth  = 860
	plotLeft   = 210 // where the axis begins
	plotRight  = 740 // and ends: labels stand to the right
	lineHeight = 24
	panelHead  = 40
	panelFoot  = 40
)

// drawing is the plot as SVG. Its colours follow the reader's choice of light
// or dark; it has no background of its own.
func drawing(r *Results) string {
	var body strings.Builder
	y := 8
	for _, of := range rows {
		var marks []mark
		for _, s := range r.standings(of) {
			if len(s.errs) > 0 {
				continue
			}
			m := mark{name: s.name, low: s.rate.min, mid: s.rate.median, high: s.rate.max, ours: strings.HasPrefix(s.name, us), label: figure(s.rate.median) + "/s"}
			if of == rowStart {
				m.low, m.mid, m.high = quantile(s.latencies, 0.5), quantile(s.latencies, 0.5), quantile(s.latencies, 0.99)
				m.label = seconds(m.mid / 1e3)
			}
			marks = append(marks, m)
		}
		if len(marks) == 0 {
			continue
		}
		title, format := titles[of]+": tasks a second, more is better", func(v float64) string { return figure2(v) }
		if of == rowStart {
			title, format = titles[of]+": p50 and p99, less is better", func(v float64) string { return seconds2(v) }
		}
		y = panel(&body, y, title, marks, format)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Comparison with other systems">
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f; } .title { font-weight: 600; } .tick { font-size: 11px; fill: #57606a; }
.grid { stroke: #d0d7de; } .other { stroke: #57606a; fill: #57606a; } .ours { stroke: #0969da; fill: #0969da; } .ourname { font-weight: 600; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .tick { fill: #9198a1; } .grid { stroke: #3d444d; } .other { stroke: #9198a1; fill: #9198a1; } .ours { stroke: #58a6ff; fill: #58a6ff; } }
</style>
%s</svg>
`, plotWidth, y, plotWidth, y, body.String())
}

// panel draws one row at y and returns where the next begins.
func panel(b *strings.Builder, y int, title string, marks []mark, format func(float64) string) int {
	low, high := math.Inf(1), math.Inf(-1)
	for _, m := range marks {
		low, high = min(low, m.low), max(high, m.high)
	}
	// Whole decades, at least one.
	first, last := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if last <= first {
		last = first + 1
	}
	x := func(v float64) float64 {
		return plotLeft + (math.Log10(v)-first)/(last-first)*(plotRight-plotLeft)
	}
	fmt.Fprintf(b, `<text class="title" x="8" y="%d">%s</text>`+"\n", y+16, escape(title))
	top, bottom := y+panelHead-8, y+panelHead+len(marks)*lineHeight
	for e := first; e <= last; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			at, top, at, bottom, at, bottom+14, escape(format(math.Pow(10, e))))
	}
	for i, m := range marks {
		cy := y + panelHead + i*lineHeight + lineHeight/2
		class, nameClass := "other", "name"
		if m.ours {
			class, nameClass = "ours", "ourname"
		}
		fmt.Fprintf(b, `<text class="%s" x="%d" y="%d" text-anchor="end">%s</text>`, nameClass, plotLeft-12, cy+4, escape(m.name))
		fmt.Fprintf(b, `<line class="%s" x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke-width="2"/>`, class, x(m.low), cy, x(m.high), cy)
		fmt.Fprintf(b, `<circle class="%s" cx="%.1f" cy="%d" r="4.5"/>`, class, x(m.mid), cy)
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", x(m.high)+10, cy+4, escape(m.label))
	}
	return bottom + panelFoot
}

// figure2 and seconds2 label decades, of tasks a second and of milliseconds.
func figure2(v float64) string {
	if v >= 1000 {
		return figure(v)
	}
	return fmt.Sprintf("%g", v)
}

func seconds2(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%g s", v/1000)
	case v < 1:
		return fmt.Sprintf("%g µs", v*1000)
	}
	return fmt.Sprintf("%g ms", v)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
