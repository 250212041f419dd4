// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/volley-batch/volley/internal/render"
)

// Table writes the report for people.
func (r *Report) Table(w io.Writer, style render.Style) error {
	facts := &render.Table{Header: []string{"BENCH", strings.ToUpper(string(r.Benchmark))}, Style: style}
	for _, f := range r.facts() {
		facts.Add(f[0], f[1])
	}
	tables := []*render.Table{facts}
	if t := r.distributions(style); t.Len() > 0 {
		tables = append(tables, t)
	}
	if t := r.processes(style); t.Len() > 0 {
		tables = append(tables, t)
	}
	if len(r.Checks) > 0 {
		t := &render.Table{Header: []string{"CHECK", "", ""}, Style: style}
		for _, c := range r.Checks {
			verdict, paint := "ok", style.Green
			if !c.OK {
				verdict, paint = "FAILED", style.Red
			}
			t.Add(c.Name, verdict, c.Text)
			t.Paint(1, paint)
		}
		tables = append(tables, t)
	}
	for n, t := range tables {
		if n > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := t.Write(w); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) facts() (list [][2]string) {
	add := func(name, format string, args ...any) {
		list = append(list, [2]string{name, fmt.Sprintf(format, args...)})
	}
	res, m, s := r.Result, r.Machine, r.Setup
	if r.Interrupted {
		add("state", "interrupted: what was measured until then")
	}
	switch {
	case r.Benchmark == Latency:
		add("samples", "%d in %.1f s", res.Tasks, res.Seconds)
	case res.Seconds > 0:
		add("tasks", "%s recorded in %.2f s, %s", render.Count(res.Tasks), res.Seconds, render.Plural(uint64(res.Jobs), "job"))
		add("tasks/s", "%s", render.Count(uint64(res.TasksPerSecond)))
	}
	add("coordinator", "%s", s.Coordinator)
	if s.Workers > 0 {
		text := fmt.Sprintf("%d", s.Workers)
		if s.Slots > 0 {
			text += fmt.Sprintf(", slots of each: %d", s.Slots)
		}
		if s.Connections > 0 {
			text += fmt.Sprintf(", connections: %d", s.Connections)
		}
		if s.TaskTimeMS > 0 {
			text += fmt.Sprintf(", time of each task: %s ms", number(s.TaskTimeMS))
		}
		add("workers", "%s", text)
	}
	if len(s.Command) > 0 {
		add("command", "%s, output captured", strings.Join(s.Command, " "))
	}
	if s.Queued > 0 {
		add("queued", "%s tasks, waiting for %s", render.Count(s.Queued), s.QueuedOn)
	}
	add("durability", "%s", r.Durability)
	if st := r.Storage; st != nil {
		text := st.FileSystem
		if st.Fsync != nil {
			text += fmt.Sprintf(", fsync p50 %s ms, p99 %s ms", number(st.Fsync.P50), number(st.Fsync.P99))
		}
		add("journal on", "%s", text)
	}
	if j := r.Journal; j != nil {
		text := fmt.Sprintf("%s batches, %s, %s fsyncs; log on disk %s",
			render.Count(j.Batches), render.Bytes(int64(j.Bytes)), render.Count(j.Syncs), render.Bytes(j.LogBytes))
		if res.Tasks > 0 && r.Benchmark != Latency {
			text += fmt.Sprintf("; %s B a task", number(float64(j.Bytes)/float64(res.Tasks)))
		}
		add("journal", "%s", text)
	}
	add("machine", "%s, %d CPUs, %s", m.CPU, m.CPUs, render.Bytes(m.MemoryBytes))
	add("system", "%s, %s, %s, volley %s", m.System, m.Kernel, m.Go, m.Volley)
	if m.Coordinator != "" {
		add("coordinator's version", "%s", m.Coordinator)
	}
	add("seed", "%d", s.Seed)
	return list
}

func (r *Report) distributions(style render.Style) *render.Table {
	t := &render.Table{
		Header: []string{"LATENCY, MS", "COUNT", "P50", "P99", "P99.9", "MAX"}, Style: style,
		Right: []bool{false, true, true, true, true, true},
	}
	for _, l := range r.Latencies {
		t.Add(l.Name, strconv.FormatInt(l.Count, 10), number(l.P50), number(l.P99), number(l.P999), number(l.Max))
	}
	return t
}

func (r *Report) processes(style render.Style) *render.Table {
	t := &render.Table{
		Header: []string{"PROCESS", "CPU S", "CPU µS/TASK", "PEAK RSS", "WRITTEN"}, Style: style,
		Right: []bool{false, true, true, true, true},
	}
	size := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return render.Bytes(n)
	}
	for _, p := range r.Processes {
		per := "-"
		if p.CPUMicrosPerTask > 0 {
			per = number(p.CPUMicrosPerTask)
		}
		t.Add(p.Role, number(p.CPUSeconds), per, size(p.PeakRSSBytes), size(p.WrittenBytes))
	}
	return t
}

// number has three significant digits, and no exponent.
func number(v float64) string {
	digits := 0
	for limit := 100.0; v < limit && digits < 3; limit /= 10 {
		digits++
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
