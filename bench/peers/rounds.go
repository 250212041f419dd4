// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	filesystem "github.com/volley-batch/volley/internal/usage"
)

// turnLimit is how long one contestant may take for all its rows.
const turnLimit = 2 * time.Minute

// order is who comes when: every round begins a third of the way further, or
// as many parts as there are rounds.
func order(n, round, rounds int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = (i + round*n/rounds) % n
	}
	return list
}

// compete runs all rounds. An error of a contestant is a result.
func compete(ctx context.Context, dir string, p paths, o options, only *regexp.Regexp) (*Results, error) {
	begin := time.Now()
	slots := runtime.NumCPU()
	r := &Results{Format: format, Date: today(), Slots: slots, Machine: thisMachine(ctx, dir, p), LoadBefore: loadAverage()}
	var active []*contestant
	for _, c := range all(slots) {
		if !only.MatchString(c.Name) {
			continue
		}
		r.Contestants = append(r.Contestants, &c)
		version, err := find(ctx, dir, p, slots, &c)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			c.Skipped = firstLine(err.Error())
			fmt.Printf("skipped %s: %v\n", c.Name, err)
			continue
		}
		c.Version = version
		active = append(active, &c)
	}
	if len(active) == 0 {
		return nil, errors.New("nobody is there to compete")
	}
	var longest time.Duration
	for round := range o.rounds {
		// A round that may not end in time would compare halves.
		if left := o.limit - time.Since(begin); round > 0 && longest > left {
			fmt.Printf("round %d is left out: a round takes %v, and %v are left\n", round+1, longest.Round(time.Second), left.Round(time.Second))
			break
		}
		at := time.Now()
		var turns []Turn
		for _, i := range order(len(active), round, o.rounds) {
			if time.Since(begin) > o.limit {
				return nil, fmt.Errorf("the first round did not end within %v; raise -limit", o.limit)
			}
			t, err := takeTurn(ctx, dir, p, slots, active[i], round)
			if err != nil {
				return nil, err
			}
			turns = append(turns, t...)
		}
		longest = max(longest, time.Since(at))
		r.Turns = append(r.Turns, turns...)
		r.Rounds++
	}
	r.LoadAfter, r.Seconds = loadAverage(), time.Since(begin).Seconds()
	return r, nil
}

func find(ctx context.Context, dir string, p paths, slots int, c *contestant) (_ string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a := &arena{paths: p, dir: filepath.Join(dir, "find"), slots: slots}
	if err := os.Mkdir(a.dir, 0o755); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.dir)) }()
	return c.find(ctx, a)
}

// takeTurn runs all rows of a contestant, and leaves nothing of it behind. The
// error is of the comparison: the next turn could not be trusted.
func takeTurn(ctx context.Context, dir string, p paths, slots int, c *contestant, round int) (_ []Turn, err error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	a := &arena{paths: p, dir: filepath.Join(dir, "t"), slots: slots}
	if err := os.Mkdir(a.dir, 0o755); err != nil {
		return nil, err
	}
	// What the last one left unwritten is not this one's load.
	syscall.Sync()
	g, gerr := newGroup(fmt.Sprintf("bench-peers-%d", os.Getpid()))
	if gerr != nil && round == 0 {
		fmt.Printf("%s: no CPU times: %v\n", c.Name, gerr)
	}
	defer func() {
		cancel()
		err = errors.Join(err, killAll())
		if g != nil {
			err = errors.Join(err, g.leave())
		}
		err = errors.Join(err, os.RemoveAll(a.dir))
	}()
	begin := time.Now()
	in, openErr := c.open(ctx, a)
	open := time.Since(begin).Seconds()
	var turns []Turn
	for _, of := range rows {
		n := c.tasks[of]
		if n == 0 {
			continue
		}
		t := Turn{Contestant: c.Name, Row: of, Round: round + 1, Tasks: n, OpenSeconds: open}
		rowErr := openErr
		if rowErr == nil {
			var s sample
			var u usage
			u, rowErr = metered(g, func() (err error) {
				s, err = in.run(ctx, of, n)
				return err
			})
			t.Seconds, t.LatenciesMs, t.PeakRSSBytes, t.OthersShare = s.seconds, s.latencies, u.peakRSS, u.others
			// During a series of starts the system mostly waits, the
			// measuring program included: no cost of a task could be told.
			if of != rowStart {
				t.CPUSeconds = u.cpu
			}
		}
		if outer.Err() != nil {
			return nil, outer.Err()
		}
		if rowErr != nil {
			t.Error = firstLine(rowErr.Error())
			fmt.Printf("round %d  %-28s %-8s failed: %v\n", round+1, c.Name, of, rowErr)
		} else {
			fmt.Printf("round %d  %-28s %-8s %s\n", round+1, c.Name, of, t.brief())
		}
		turns = append(turns, t)
	}
	if openErr == nil {
		if err := in.close(); err != nil {
			fmt.Printf("round %d  %-28s stop: %v\n", round+1, c.Name, err)
		}
	}
	return turns, nil
}

func (t *Turn) brief() string {
	s := fmt.Sprintf("%d in %.2f s = %.0f/s", t.Tasks, t.Seconds, float64(t.Tasks)/t.Seconds)
	if t.Row == rowStart {
		s = fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", quantile(t.LatenciesMs, 0.5), quantile(t.LatenciesMs, 0.99))
	}
	if t.OthersShare != nil {
		s += fmt.Sprintf(", others %.0f %%", *t.OthersShare*100)
	}
	return s
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}

func thisMachine(ctx context.Context, dir string, p paths) Machine {
	m := Machine{CPU: "unknown", CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, FileSystem: filesystem.FileSystem(dir), Go: runtime.Version()}
	field := func(path, key string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	if v := field("/proc/cpuinfo", "model name"); v != "" {
		m.CPU = v
	}
	var kib int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kib); err == nil {
		m.MemoryBytes = kib << 10
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				m.System = strings.Trim(v, `"`) + ", " + runtime.GOARCH
			}
		}
	}
	if p.python != "" {
		a := &arena{paths: p, dir: dir}
		if out, _, err := a.timed(ctx, nil, p.python, "--version"); err == nil {
			m.Python = strings.TrimSpace(out)
		}
	}
	return m
}

// quiet says why the machine was not quiet enough for figures to be published.
func (r *Results) quiet() error {
	median, most, known := r.disturbed()
	var one float64
	if _, err := fmt.Sscanf(r.LoadBefore, "%f", &one); err == nil && one >= 1.5 {
		return fmt.Errorf("the load average was %s when the run began", r.LoadBefore)
	}
	if known && (median > 0.05 || most > 0.25) {
		return fmt.Errorf("other processes used %.0f %% of the machine during the median turn and %.0f %% during the worst", median*100, most*100)
	}
	if slices.ContainsFunc(r.Turns, func(t Turn) bool { return t.Contestant == us && t.Error != "" }) {
		return errors.New("volley itself failed")
	}
	return nil
}
