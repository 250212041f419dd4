// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	sandboxEnv       = "BENCH_PEERS_DIR"
	userNamespaceEnv = "BENCH_PEERS_USER_NAMESPACE"
)

// sandboxed says whether this process is the first of its namespace.
func sandboxed() bool { return os.Getpid() == 1 }

// realRoot says whether root in here is root outside.
func realRoot() bool { return os.Getenv(userNamespaceEnv) == "" }

// cgroupOf finds where this process is accounted: the cpuacct hierarchy of
// version 1 where it is mounted, else version 2.
func cgroupOf(own string) (root, path string, v2 bool, err error) {
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			if c == "cpuacct" {
				return "/sys/fs/cgroup/" + c, f[2], false, nil
			}
		}
		if f[0] == "0" {
			root, path, v2 = "/sys/fs/cgroup", f[2], true
		}
	}
	if !v2 {
		return "", "", false, errors.New("no control group accounts CPU time here")
	}
	return root, path, true, nil
}

func readGroupCPU(dir string, v2 bool) (time.Duration, error) {
	if !v2 {
		b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage"))
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
		return time.Duration(ns), err
	}
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "usage_usec "); ok {
			us, err := strconv.ParseInt(v, 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat has no usage_usec", dir)
}

// busy is the CPU time that all of the machine has used since it started, in
// ticks of a hundredth of a second, and the time that has passed on all CPUs.
func busy(procStat string) (used, total int64, err error) {
	line, _, _ := strings.Cut(procStat, "\n")
	f := strings.Fields(line)
	// user nice system idle iowait irq softirq steal; guests are in user.
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, v := range f[1:9] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		total += n
		if i != 3 && i != 4 {
			used += n
		}
	}
	return used, total, nil
}

func readBusy() (used, total int64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return busy(string(b))
}

// resident is the sum of the resident sizes of all processes but this one.
func resident() int64 {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	own, page := strconv.Itoa(os.Getpid()), int64(os.Getpagesize())
	var sum int64
	for _, e := range entries {
		if name := e.Name(); name[0] < '0' || name[0] > '9' || name == own {
			continue
		}
		// A process may have ended since.
		b, err := os.ReadFile("/proc/" + e.Name() + "/statm")
		if err != nil {
			continue
		}
		if f := bytes.Fields(b); len(f) > 1 {
			pages, err := strconv.ParseInt(string(f[1]), 10, 64)
			if err == nil {
				sum += pages * page
			}
		}
	}
	return sum
}

// usage is what a contestant has used during a row.
type usage struct {
	cpu     *float64 // seconds
	peakRSS int64    // bytes
	others  *float64 // share of the machine that others have used
}

// metered runs work and measures what it uses. g may be nil.
func metered(g *group, work func() error) (usage, error) {
	var before time.Duration
	var gerr error
	if g != nil {
		before, gerr = g.cpu()
	}
	used0, total0, berr := readBusy()
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		most := resident()
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				most = max(most, resident())
			}
		}
	}()
	err := work()
	close(stop)
	u := usage{peakRSS: <-peak}
	used1, total1, berr2 := readBusy()
	if g == nil || gerr != nil {
		return u, err
	}
	after, gerr := g.cpu()
	if gerr != nil {
		return u, err
	}
	cpu := (after - before).Seconds()
	u.cpu = &cpu
	if berr == nil && berr2 == nil && total1 > total0 {
		others := max(0, (float64(used1-used0)/100-cpu)/(float64(total1-total0)/100))
		u.others = &others
	}
	return u, err
}
