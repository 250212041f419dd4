// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// format is the version of the results file.
const format = 1

// Results is the file that a run writes.
type Results struct {
	Format      int           `json:"format"`
	Date        string        `json:"date"`
	Machine     Machine       `json:"machine"`
	Slots       int           `json:"slots"`
	Rounds      int           `json:"rounds"`
	LoadBefore  string        `json:"loadBefore"`
	LoadAfter   string        `json:"loadAfter"`
	Seconds     float64       `json:"seconds"`
	Contestants []*contestant `json:"contestants"`
	Turns       []Turn        `json:"turns"`
}

// Machine is where the run was. It has no host name.
type Machine struct {
	CPU         string `json:"cpu"`
	CPUs        int    `json:"cpus"`
	MemoryBytes int64  `json:"memoryBytes"`
	Kernel      string `json:"kernel"`
	System      string `json:"system"`
	FileSystem  string `json:"fileSystem"`
	Go          string `json:"go"`
	Python      string `json:"python,omitempty"`
}

// Turn is one row of one contestant in one round.
type Turn struct {
	Contestant string  `json:"contestant"`
	Row        row     `json:"row"`
	Round      int     `json:"round"`
	Tasks      int     `json:"tasks"`
	Seconds    float64 `json:"seconds"`
	// OpenSeconds is how long it took until the contestant took work.
	OpenSeconds  float64   `json:"openSeconds"`
	CPUSeconds   *float64  `json:"cpuSeconds,omitempty"`
	PeakRSSBytes int64     `json:"peakRssBytes,omitempty"`
	OthersShare  *float64  `json:"othersShare,omitempty"`
	LatenciesMs  []float64 `json:"latenciesMs,omitempty"`
	Error        string    `json:"error,omitempty"`
}

func readResults(path string) (*Results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Results
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Format != format {
		return nil, fmt.Errorf("%s has format %d, want %d", path, r.Format, format)
	}
	return &r, nil
}

// name is what the file of the results is called: day and kind of machine.
func (r *Results) name() string {
	slug := strings.FieldsFunc(strings.ToLower(r.Machine.CPU), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	return fmt.Sprintf("%s-%s-%dcpu-%s", r.Date, strings.Join(slug, "-"), r.Machine.CPUs, runtime.GOARCH)
}

// spread is a median and how far the others were from it.
type spread struct{ median, min, max float64 }

func spreadOf(v []float64) spread {
	s := slices.Clone(v)
	slices.Sort(s)
	n := len(s)
	if n == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	return spread{(s[(n-1)/2] + s[n/2]) / 2, s[0], s[n-1]}
}

// quantile is the smallest value that at least a share p of all reach.
func quantile(v []float64, p float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	if len(s) == 0 {
		return math.NaN()
	}
	return s[min(max(int(math.Ceil(p*float64(len(s))))-1, 0), len(s)-1)]
}

// standing is a contestant's result in a row, over all rounds.
type standing struct {
	name      string
	tasks     int    // per round
	rate      spread // tasks a second
	cpu       *float64
	peakRSS   int64
	open      float64
	latencies []float64
	errs      []string
}

// standings are a row's results, the best first, those that failed last.
func (r *Results) standings(of row) []standing {
	var list []standing
	for _, c := range r.Contestants {
		s := standing{name: c.Name}
		var rates, cpu, open []float64
		for _, t := range r.Turns {
			if t.Contestant != c.Name || t.Row != of {
				continue
			}
			s.tasks = t.Tasks
			if t.Error != "" {
				s.errs = append(s.errs, t.Error)
				continue
			}
			rates = append(rates, float64(t.Tasks)/t.Seconds)
			open = append(open, t.OpenSeconds)
			s.latencies = append(s.latencies, t.LatenciesMs...)
			s.peakRSS = max(s.peakRSS, t.PeakRSSBytes)
			if t.CPUSeconds != nil {
				cpu = append(cpu, *t.CPUSeconds/float64(t.Tasks))
			}
		}
		if s.tasks == 0 {
			continue
		}
		s.rate, s.open = spreadOf(rates), spreadOf(open).median
		if len(cpu) > 0 {
			m := spreadOf(cpu).median
			s.cpu = &m
		}
		list = append(list, s)
	}
	better := func(s standing) float64 {
		switch {
		case len(s.errs) > 0:
			return math.Inf(1)
		case of == rowStart:
			return quantile(s.latencies, 0.5)
		}
		return -s.rate.median
	}
	slices.SortStableFunc(list, func(a, b standing) int {
		x, y := better(a), better(b)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return list
}

// disturbed is the largest share of the machine that others took in a turn,
// and the median.
func (r *Results) disturbed() (median, most float64, known bool) {
	var v []float64
	for _, t := range r.Turns {
		if t.OthersShare != nil && t.Seconds >= 1 {
			v = append(v, *t.OthersShare)
		}
	}
	if len(v) == 0 {
		return 0, 0, false
	}
	s := spreadOf(v)
	return s.median, s.max, true
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }
