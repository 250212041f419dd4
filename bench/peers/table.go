// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// The page's tables stand between these lines; what is around them is written
// by people and stays.
const (
	beginMark = "<!-- peers: begin -->"
	endMark   = "<!-- peers: end -->"
)

// titles are the headings of the rows.
var titles = map[row]string{
	rowNoop:    "No-op tasks inside the worker",
	rowProcess: "Processes: /bin/true",
	rowStart:   "From submit to the first process, idle system",
}

// publish writes the tables into the page and the plot beside it.
func publish(r *Results, page string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	plot := strings.TrimSuffix(filepath.Base(page), filepath.Ext(page)) + "-peers.svg"
	text := fmt.Sprintf("![Rates and latencies, logarithmic axes; the tables below have the figures](%s)\n\n%s", plot, tables(r))
	page2, err := replaceBetween(old, text)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	svg := filepath.Join(filepath.Dir(page), plot)
	if err := os.WriteFile(svg, []byte(drawing(r)), 0o644); err != nil { // meant to be published
		return err
	}
	if err := os.WriteFile(page, page2, 0o644); err != nil { // meant to be published
		return err
	}
	fmt.Println("wrote", page, "and", svg)
	return nil
}

func replaceBetween(page []byte, text string) ([]byte, error) {
	before, rest, ok := bytes.Cut(page, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, errors.New("there is no " + beginMark + " followed by " + endMark)
	}
	return []byte(string(before) + beginMark + "\n\n" + strings.TrimSpace(text) + "\n\n" + endMark + string(after)), nil
}

// tables is everything of the results as Markdown.
func tables(r *Results) string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s. %d × %s, %.0f GiB, %s, Linux %s, data on %s. %s", r.Date, m.CPUs, m.CPU, float64(m.MemoryBytes)/(1<<30), m.System, m.Kernel, m.FileSystem, m.Go)
	if m.Python != "" {
		fmt.Fprintf(&b, ", %s", m.Python)
	}
	fmt.Fprintf(&b, ". %d rounds in %.0f s, %d tasks at once. Load average %s before and %s after", r.Rounds, r.Seconds, r.Slots, r.LoadBefore, r.LoadAfter)
	if median, most, ok := r.disturbed(); ok {
		fmt.Fprintf(&b, "; other processes used %.1f %% of the machine during the median turn, %.1f %% during the worst", median*100, most*100)
	}
	b.WriteString(".\n")
	if err := r.quiet(); err != nil {
		fmt.Fprintf(&b, "\n**Not a quiet machine: %v. Read these figures as rough.**\n", err)
	}
	for _, of := range rows {
		list := r.standings(of)
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n", titles[of])
		if of == rowStart {
			latencyTable(&b, list)
		} else {
			rateTable(&b, list)
		}
		fmt.Fprintf(&b, "\n%s\n", verdict(list, of))
	}
	b.WriteString("\n### Who took part\n\n| contestant | version | settings | durable when a task has ended |\n|---|---|---|---|\n")
	for _, c := range r.Contestants {
		version := c.Version
		if c.Skipped != "" {
			version = "skipped: " + c.Skipped
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name, cell(version), cell(c.Settings), cell(c.Durable))
	}
	return b.String()
}

func rateTable(b *strings.Builder, list []standing) {
	b.WriteString("| contestant | tasks/s, median | least–most | volley is | CPU per task | peak memory | ready after | tasks per round |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	ours := find1(list, us)
	for _, s := range list {
		if len(s.errs) > 0 {
			fmt.Fprintf(b, "| %s | failed: %s | | | | | | %d |\n", s.name, cell(s.errs[0]), s.tasks)
			continue
		}
		cpu := "not known"
		if s.cpu != nil {
			cpu = seconds(*s.cpu)
		}
		fmt.Fprintf(b, "| %s | %s | %s–%s | %s | %s | %.0f MiB | %s | %d |\n", s.name, figure(s.rate.median), figure(s.rate.min), figure(s.rate.max),
			factor(ours, s, func(s standing) float64 { return s.rate.median }), cpu, float64(s.peakRSS)/(1<<20), ready(s.open), s.tasks)
	}
}

func latencyTable(b *strings.Builder, list []standing) {
	b.WriteString("| contestant | p50 | p99 | volley's p50 is | ready after | samples |\n|---|--:|--:|--:|--:|--:|\n")
	ours := find1(list, us)
	for _, s := range list {
		if len(s.errs) > 0 {
			fmt.Fprintf(b, "| %s | failed: %s | | | | %d |\n", s.name, cell(s.errs[0]), len(s.latencies))
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %d |\n", s.name, seconds(quantile(s.latencies, 0.5)/1e3), seconds(quantile(s.latencies, 0.99)/1e3),
			factor(ours, s, func(s standing) float64 { return 1 / quantile(s.latencies, 0.5) }), ready(s.open), len(s.latencies))
	}
}

func find1(list []standing, name string) *standing {
	for i, s := range list {
		if s.name == name && len(s.errs) == 0 {
			return &list[i]
		}
	}
	return nil
}

// factor says how much better or worse we are than another.
func factor(ours *standing, other standing, speed func(standing) float64) string {
	if ours == nil || other.name == ours.name {
		return ""
	}
	f := speed(*ours) / speed(other)
	if f >= 1 {
		return figure(f) + "× faster"
	}
	return figure(1/f) + "× slower"
}

// verdict says who won, in words that a loss does not change.
func verdict(list []standing, of row) string {
	ours := find1(list, us)
	if ours == nil {
		return "volley has no result in this row."
	}
	speed := func(s standing) float64 { return s.rate.median }
	if of == rowStart {
		speed = func(s standing) float64 { return 1 / quantile(s.latencies, 0.5) }
	}
	var ahead []string
	for _, s := range list {
		if len(s.errs) == 0 && s.name != us && speed(s) > speed(*ours) {
			ahead = append(ahead, fmt.Sprintf("%s (%s×)", s.name, figure(speed(s)/speed(*ours))))
		}
	}
	if len(ahead) == 0 {
		return "Fastest: volley."
	}
	return "Faster than volley: " + strings.Join(ahead, ", ") + "."
}

// figure has three significant digits, and thousands apart.
func figure(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "?"
	case v >= 999.5:
		unit := math.Pow(10, math.Floor(math.Log10(v+0.5))-2)
		digits := fmt.Sprintf("%.0f", math.Round(v/unit)*unit)
		for i := len(digits) - 3; i > 0; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		return digits
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// seconds writes a duration in the unit that suits it.
func seconds(s float64) string {
	switch {
	case s < 1e-3:
		return figure(s*1e6) + " µs"
	case s < 1:
		return figure(s*1e3) + " ms"
	}
	return figure(s) + " s"
}

// ready is when a contestant takes work; one that is a program takes it at once.
func ready(open float64) string {
	if open < 1e-3 {
		return "no server"
	}
	return seconds(open)
}

// cell keeps a text within its cell.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}
