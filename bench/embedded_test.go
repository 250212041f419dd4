// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/embedded"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// BenchmarkEmbeddedTrue runs an array of /bin/true on a running embedded
// server in this process, so that -cpuprofile sees coordinator and worker.
func BenchmarkEmbeddedTrue(b *testing.B) {
	for _, tasks := range []uint64{2_000} {
		b.Run(fmt.Sprintf("tasks=%d", tasks), func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			in, err := embedded.Open(ctx, embedded.Config{
				Dir: filepath.Join(dir, ".volley"), Worker: true, Version: "bench", Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			defer in.Close()
			spec := &volleyv1.JobSpec{
				Name: "true", Command: []string{"/bin/true"}, SubmitDir: dir, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: tasks}},
			}
			for b.Loop() {
				r, err := in.Client().Submit(ctx, client.Submission{Spec: spec})
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range in.Client().Watch(ctx, r.GetJobId(), 100*time.Millisecond) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(tasks)*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
