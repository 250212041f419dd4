// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
)

// There is no prlimit here, and limits set before the fork would hold for the
// worker too.
const haveRlimits = false

func newSysProcAttr() syscall.SysProcAttr { return syscall.SysProcAttr{Setpgid: true} }

func closeOnExecAll() { closeOnExecDir("/dev/fd") }

// clearSignalMask: the runtime keeps its threads' masks empty here.
func clearSignalMask() {}

// peakMemory is in bytes here, and of the child alone.
func peakMemory(ru *syscall.Rusage) int64 { return ru.Maxrss }

// sampleMemory: peakMemory knows.
const sampleMemory = false

func treePeak(int) int64 { return 0 }

// onlyZombies: process 1 of these systems reaps.
func onlyZombies(int) bool { return false }

func (s *Slot) startWithRlimit(*Spec) (int, error) { return 0, errors.ErrUnsupported }

func findCgroups(string, *slog.Logger) (cgroups, error) {
	return nil, fmt.Errorf("%w: this system has none", errNoCgroups)
}

const canKillStrays = false

func killStrays(context.Context, []string, *atomic.Int64) (Strays, error) {
	return Strays{}, errors.ErrUnsupported
}
