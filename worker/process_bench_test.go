// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// BenchmarkProcesses is /bin/true through the whole worker: directory, output,
// socket, process, report.
func BenchmarkProcesses(b *testing.B) {
	c := newCoordinator(b)
	c.start(Config{Capacity: cpus(2)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, 1<<40, &volleyv1.JobSpec{Command: []string{"/bin/true"}})}})
	const batch = 1000
	first := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		s.pump(first, batch)
		first += batch
	}
	b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
