// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/load"
	"github.com/volley-batch/volley/internal/render"
)

// benchFlags are what one benchmark takes.
type benchFlags struct {
	load.Config
	command string
}

const benchHelp = `Measure a coordinator under load: one that is started for the run, with its
data in a directory that is removed afterwards (in --dir, else in the system's
directory for temporary files), or the one that --coordinator names.

The journal is on disk and fsynced in every run. Ctrl-C stops a run and prints
what was measured so far.

dispatch and scale bring workers that only pretend to run tasks, so they refuse
a coordinator that has workers or unfinished jobs. spawn and latency use the
workers of the coordinator that --coordinator names, which have to run on this
machine for latency.

With -o json the report is one JSON object. Exit status 1: a check has failed,
for instance a task was lost.
`

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "bench BENCHMARK",
		Short:   "Measure dispatch, spawn, latency and scale",
		Long:    benchHelp,
		Example: "  volley bench dispatch\n  volley bench scale --workers 10000 --tasks 10000000",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef("there is no benchmark %q: want dispatch, spawn, latency or scale", args[0])
		},
	}
	c.AddCommand(
		a.benchOf(load.Dispatch, "No-op tasks through real workers: tasks per second", "tasks", "workers", "slots"),
		a.benchOf(load.Spawn, "Processes with captured output: tasks per second", "tasks", "workers", "slots", "command"),
		a.benchOf(load.Latency, "From submit to the first process", "workers", "slots", "samples", "queued", "queued-on"),
		a.benchOf(load.Scale, "Thousands of simulated workers, and more that join", "tasks", "task-time", "workers", "slots", "connections", "samples"),
		a.benchServe(),
	)
	return c
}

// benchOf is the command of one benchmark. Flags that it has no use for are
// not there, rather than left aside.
func (a *app) benchOf(kind load.Kind, short string, flags ...string) *cobra.Command {
	o := benchFlags{Config: load.Config{Kind: kind}}
	c := &cobra.Command{
		Use: string(kind), Short: short, Long: short + ".\n\n" + benchHelp, Args: noBenchArgs, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bench(cmd, o) },
	}
	f := c.Flags()
	for _, name := range flags {
		switch name {
		case "tasks":
			f.Uint64Var(&o.Tasks, name, 0, "tasks of the array job (default: 1,000,000; spawn: 20,000)")
		case "task-time":
			f.DurationVar(&o.TaskTime, name, 0, "how long a simulated worker takes for each task (default: no time)")
		case "workers":
			f.IntVar(&o.Workers, name, 0, "workers to bring (default: dispatch 4, spawn and latency 1, scale 1000)")
		case "slots":
			f.IntVar(&o.Slots, name, 0, "tasks at once on each worker (default: dispatch 2, scale 1, else the CPUs)")
		case "connections":
			f.IntVar(&o.Connections, name, 0, "connections that the simulated workers share (default: one for 100)")
		case "samples":
			f.IntVar(&o.Samples, name, 0, "submits to measure; scale: joining workers at most (default: 200)")
		case "queued":
			f.Uint64Var(&o.Queued, name, 0, "tasks that wait in another queue meanwhile")
		case "queued-on":
			f.StringVar(&o.QueuedOn, name, load.Missing, "what they wait for: missing (GPUs that no node has) or busy (a worker that is full)")
			completeWords(c, name, "missing or busy")
		case "command":
			f.StringVar(&o.command, name, "", "`command` line to run, split at blanks, without a shell (default: true)")
		}
	}
	f.DurationVar(&o.Duration, "duration", 0, "repeat for so long (latency: stop after it)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of pauses and names")
	f.BoolVar(&o.Separate, "separate", kind == load.Scale, "give the coordinator a process of its own, so that its CPU and memory are known")
	a.outputFlag(c, "table", "table or json")
	return c
}

func noBenchArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{err: fmt.Errorf("%s takes no arguments, not %q", cmd.Name(), args[0]), command: cmd.CommandPath()}
	}
	return nil
}

func (a *app) bench(cmd *cobra.Command, o benchFlags) error {
	if a.output != "table" && a.output != "json" {
		return usagef("-o %q: want one of table, json", a.output)
	}
	// The defaults stand for 0; whoever writes 0 means something else.
	for _, name := range []string{"tasks", "workers", "slots", "connections", "samples"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "0" {
			return usagef("--%s 0: want a number from 1", name)
		}
	}
	if f := cmd.Flags().Lookup("duration"); f.Changed && o.Duration <= 0 {
		return usagef("--duration %v: want a duration above 0", o.Duration)
	}
	if f := cmd.Flags().Lookup("command"); f != nil && f.Changed {
		if o.Command = strings.Fields(o.command); len(o.Command) == 0 {
			return usagef("--command is empty: name a program")
		}
	}
	o.Coordinator = a.addr()
	if o.Coordinator != "" && !cmd.Flags().Lookup("separate").Changed {
		o.Separate = false
	}
	if o.Separate {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program, to start a coordinator: %w", err)
		}
		o.Program, o.Arguments = program, []string{"bench", "serve"}
	}
	o.Dir, o.Version, o.Logger = a.dir, version(), a.logger()
	report, err := load.Run(cmd.Context(), o.Config)
	if report == nil {
		return err
	}
	if perr := a.printBench(report); err == nil {
		err = perr
	}
	switch {
	case err != nil:
		return err
	case report.Interrupted:
		return errInterrupted
	case !report.OK():
		return errTaskFailed
	}
	return nil
}

func (a *app) printBench(r *load.Report) error {
	r.StartedAt = r.StartedAt.UTC().Truncate(time.Millisecond)
	if a.output == "json" {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.Table(a.out, render.Style{Color: a.outStyle().Color})
}

// benchServe is the coordinator's process of --separate.
func (a *app) benchServe() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Hidden: true, Short: "The coordinator of a benchmark", Args: noBenchArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return load.Serve(context.WithoutCancel(cmd.Context()), a.in, a.out, version(), a.logger())
		},
	}
}
