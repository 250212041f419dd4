// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/volley-batch/volley/client"
)

// Kind names a benchmark.
type Kind string

// The benchmarks.
const (
	Dispatch Kind = "dispatch"
	Spawn    Kind = "spawn"
	Latency  Kind = "latency"
	Scale    Kind = "scale"
)

// What the tasks of Config.Queued wait for.
const (
	// Missing: GPUs that no node has.
	Missing = "missing"
	// Busy: room on the worker, which one of them fills but for one CPU.
	Busy = "busy"
)

// Limits of a Config.
const (
	MaxTasks   = 1_000_000_000
	MaxWorkers = 10_000
	MaxSlots   = 1024
	MaxSamples = 1_000_000
)

// Config of a run. Defaults fills in what is zero.
type Config struct {
	Kind Kind
	// Tasks of the array job. Default: 1,000,000; spawn: 20,000.
	Tasks uint64
	// Duration: submit the array again and again for so long; latency stops
	// after it. Default: once; latency: no bound.
	Duration time.Duration
	// Workers: agents of dispatch and spawn, simulated workers of scale.
	// Default: 4; spawn and latency: 1; scale: 1000.
	Workers int
	// Slots of each worker: tasks at once. Default: 2; spawn: the CPUs; scale: 1.
	Slots int
	// TaskTime is how long a simulated worker takes for each task. Default: no
	// time at all, which is all that the coordinator can do.
	TaskTime time.Duration
	// Connections that simulated workers share. Default: one for 100 workers.
	Connections int
	// Samples of latency, and at most so many joining workers of scale.
	// Default: 200.
	Samples int
	// Queued tasks wait in another queue while latency is measured, for what
	// QueuedOn says. Default: none, Missing.
	Queued   uint64
	QueuedOn string
	// Command of spawn. Default: true, as found in PATH.
	Command []string
	// Seed of the pauses between samples and of the names of workers. Default: 1.
	Seed uint64

	// Coordinator is the address of one that runs already; else Separate says
	// whether it gets a process of its own.
	Coordinator string
	Separate    bool
	// Program is this one; it is started for Separate, with Arguments that end
	// in Serve.
	Program   string
	Arguments []string
	// Dir: the run's own directory is made in it. Default: the system's
	// directory for temporary files.
	Dir     string
	Version string
	Logger  *slog.Logger
}

func (c *Config) defaults(cpus int) {
	pick := func(v *int, dispatch, spawn, latency, scale int) {
		if *v == 0 {
			*v = map[Kind]int{Dispatch: dispatch, Spawn: spawn, Latency: latency, Scale: scale}[c.Kind]
		}
	}
	pick(&c.Workers, 4, 1, 1, 1000)
	pick(&c.Slots, 2, cpus, cpus, 1)
	if c.Tasks == 0 {
		c.Tasks = 1_000_000
		if c.Kind == Spawn {
			c.Tasks = 20_000
		}
	}
	if c.Samples == 0 {
		c.Samples = 200
	}
	if c.Connections == 0 {
		c.Connections = (c.Workers + 99) / 100
	}
	if c.QueuedOn == "" {
		c.QueuedOn = Missing
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// invalid is a mistake in the options.
func invalid(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return &client.Error{Kind: client.Invalid, Msg: text, Err: errors.New(text)}
}

// check says which option cannot be.
func (c *Config) check() error {
	between := func(name string, v, least, most int64) error {
		if v < least || v > most {
			return invalid("--%s %d: want a number from %d to %d", name, v, least, most)
		}
		return nil
	}
	switch c.Kind {
	case Dispatch, Spawn, Latency, Scale:
	default:
		return invalid("there is no benchmark %q", c.Kind)
	}
	if c.Tasks > MaxTasks {
		return invalid("--tasks %d: want a number from 1 to %d", c.Tasks, MaxTasks)
	}
	if c.Queued > MaxTasks {
		return invalid("--queued %d: want a number from 0 to %d", c.Queued, MaxTasks)
	}
	if c.Duration < 0 {
		return invalid("--duration %v: want a duration above 0", c.Duration)
	}
	if c.TaskTime < 0 || c.TaskTime > time.Hour {
		return invalid("--task-time %v: want a duration from 0 to 1h", c.TaskTime)
	}
	if c.QueuedOn != Missing && c.QueuedOn != Busy {
		return invalid("--queued-on %q: want %s or %s", c.QueuedOn, Missing, Busy)
	}
	if c.QueuedOn == Busy && c.Coordinator != "" {
		return invalid("--queued-on %s: needs a worker of known size, so it goes without --coordinator only", Busy)
	}
	if c.Separate && c.Coordinator != "" {
		return invalid("--separate: the coordinator at %s has a process of its own already", c.Coordinator)
	}
	agents := int64(MaxWorkers)
	if c.Kind != Scale {
		agents = 256 // each is a whole worker, with a directory of its own
	}
	return errors.Join(
		between("workers", int64(c.Workers), 1, agents),
		between("slots", int64(c.Slots), 1, MaxSlots),
		between("connections", int64(c.Connections), 1, MaxWorkers),
		between("samples", int64(c.Samples), 1, MaxSamples),
	)
}
