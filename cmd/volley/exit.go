// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/internal/embedded"
	"github.com/volley-batch/volley/internal/jobfile"
)

// The exit statuses of every command.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitNotFound    = 4
	exitRefused     = 5
	exitInterrupted = 130
)

// exitTexts say what a status means.
var exitTexts = []struct {
	status int
	text   string
}{
	{exitOK, "all succeeded"},
	{exitFailed, "some task failed"},
	{exitUsage, "usage or file error"},
	{exitUnreachable, "coordinator unreachable, or stopped by its machine: disk full, state damaged"},
	{exitNotFound, "not found"},
	{exitRefused, "refused: permission, limit or conflict"},
	{exitInterrupted, "interrupted"},
}

// exitStatuses are what each command can end with.
var exitStatuses = func() map[string][]int {
	asks := []int{exitOK, exitUsage, exitUnreachable, exitRefused, exitInterrupted}
	ofJob := append([]int{exitNotFound}, asks...)
	runs := append([]int{exitFailed}, ofJob...)
	return map[string][]int{
		"volley": runs, "run": runs, "wait": runs, "bench": append([]int{exitFailed}, asks...),
		"submit": ofJob, "ls": ofJob, "show": ofJob, "logs": ofJob, "cancel": ofJob, "rerun": ofJob, "why": ofJob, "results": ofJob,
		"nodes": asks, "coordinator": asks, "worker": asks, "dev": asks, "version": {exitOK, exitUsage},
	}
}()

// exitHelp is the end of the help of a command.
func exitHelp(command string) string {
	can := exitStatuses[command]
	b := &strings.Builder{}
	b.WriteString("\nEXIT STATUS\n")
	for _, e := range exitTexts {
		if !slices.Contains(can, e.status) {
			continue
		}
		if e.status == exitOK && !slices.Contains(can, exitFailed) {
			e.text = "done"
		}
		fmt.Fprintf(b, "  %-3d  %s\n", e.status, e.text)
	}
	return b.String()
}

var (
	// errTaskFailed: what there is to say was said.
	errTaskFailed = errors.New("some task failed")
	// errInterrupted is the cause of a context that a signal ended.
	errInterrupted = errors.New("interrupted")
)

// usageError is a mistake on the command line.
type usageError struct {
	err error
	// command is what `--help` would be asked of.
	command string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// exitStatus is the one place where errors become exit statuses.
func exitStatus(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTaskFailed):
		return exitFailed
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errInterrupted):
		return exitInterrupted
	}
	if _, ok := errors.AsType[*embedded.Error](err); ok || errors.Is(err, journal.ErrFailed) || errors.Is(err, journal.ErrCorrupt) {
		return exitUnreachable
	}
	if _, ok := errors.AsType[*client.Error](err); !ok {
		return exitUsage // flags, files, pipes
	}
	switch client.Kind(err) {
	case client.Unreachable:
		return exitUnreachable
	case client.NotFound:
		return exitNotFound
	case client.Refused, client.Unauthenticated, client.Internal:
		return exitRefused
	}
	return exitUsage
}

// report prints an error for people.
func (a *app) report(w io.Writer, status int, err error) {
	if status == exitFailed || status == exitInterrupted {
		return // the user knows
	}
	s := a.errStyle()
	if e, ok := errors.AsType[*jobfile.Error](err); ok {
		fmt.Fprintln(w, e.Format(s.Color))
		return
	}
	fmt.Fprintf(w, "%s %s\n", s.Red("volley:"), strings.TrimRight(err.Error(), "\n"))
	if e, ok := errors.AsType[*usageError](err); ok && e.command != "" {
		fmt.Fprintf(w, "`%s --help` says more\n", e.command)
	}
	if status == exitUnreachable && a.addr() != "" {
		fmt.Fprintln(w, "start one with `volley dev` or `volley coordinator`, or leave out --coordinator and VOLLEY_ADDR to use ./.volley")
	}
}
