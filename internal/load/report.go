// SPDX-License-Identifier: Apache-2.0

package load

import "time"

// Report is what a run has measured. In JSON, durations are in milliseconds
// unless the name says otherwise.
type Report struct {
	Benchmark Kind      `json:"benchmark"`
	StartedAt time.Time `json:"startedAt"`
	// Interrupted: what follows was measured until the run was stopped.
	Interrupted bool           `json:"interrupted"`
	Machine     Machine        `json:"machine"`
	Storage     *Storage       `json:"storage,omitempty"`
	Durability  string         `json:"durability"`
	Setup       Setup          `json:"setup"`
	Result      Result         `json:"result"`
	Latencies   []Distribution `json:"latencies,omitempty"`
	Processes   []Process      `json:"processes"`
	Journal     *Journal       `json:"journal,omitempty"`
	Checks      []Check        `json:"checks"`
}

// Machine that the run was on.
type Machine struct {
	CPU         string `json:"cpu"`
	CPUs        int    `json:"cpus"`
	MemoryBytes int64  `json:"memoryBytes"`
	System      string `json:"system"`
	Kernel      string `json:"kernel"`
	Go          string `json:"go"`
	Volley      string `json:"volley"`
	// Coordinator is its version, where that is another.
	Coordinator string `json:"coordinator,omitempty"`
}

// Storage is the disk of the journal.
type Storage struct {
	FileSystem string `json:"fileSystem"`
	// Fsync of 4 KiB that were appended to a file beside the journal, before
	// the run.
	Fsync *Distribution `json:"fsync,omitempty"`
}

// Setup is what was run.
type Setup struct {
	Coordinator string   `json:"coordinator"`
	Workers     int      `json:"workers,omitempty"`
	Slots       int      `json:"slots,omitempty"`
	Connections int      `json:"connections,omitempty"`
	Tasks       uint64   `json:"tasks,omitempty"`
	TaskTimeMS  float64  `json:"taskTimeMs,omitempty"`
	Samples     int      `json:"samples,omitempty"`
	Queued      uint64   `json:"queued,omitempty"`
	QueuedOn    string   `json:"queuedOn,omitempty"`
	Command     []string `json:"command,omitempty"`
	Seed        uint64   `json:"seed"`
}

// Result of the whole.
type Result struct {
	// Tasks that the coordinator has recorded as ended, and the time from the
	// first submit until the client knew of the last.
	Tasks          uint64  `json:"tasks"`
	Seconds        float64 `json:"seconds"`
	TasksPerSecond float64 `json:"tasksPerSecond,omitempty"`
	Jobs           int     `json:"jobs"`
}

// Distribution of durations, in milliseconds.
type Distribution struct {
	Name  string  `json:"name"`
	Count int64   `json:"count"`
	P50   float64 `json:"p50Ms"`
	P99   float64 `json:"p99Ms"`
	P999  float64 `json:"p999Ms"`
	Max   float64 `json:"maxMs"`
}

// Process is what a role has used during the measurement.
type Process struct {
	Role       string  `json:"role"`
	CPUSeconds float64 `json:"cpuSeconds"`
	// CPUMicrosPerTask is absent where no tasks were counted.
	CPUMicrosPerTask float64 `json:"cpuMicrosPerTask,omitempty"`
	// PeakRSSBytes since the process began.
	PeakRSSBytes int64 `json:"peakRssBytes,omitempty"`
	WrittenBytes int64 `json:"writtenBytes,omitempty"`
}

// Journal is what was written to it during the measurement.
type Journal struct {
	Batches  uint64 `json:"batches"`
	Bytes    uint64 `json:"bytes"`
	Syncs    uint64 `json:"fsyncs"`
	LogBytes int64  `json:"logBytes"`
}

// Check is something that must hold.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// OK says that all checks hold.
func (r *Report) OK() bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}
