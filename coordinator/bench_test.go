// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/hex"
	"fmt"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func digestName(digest []byte) string { return hex.EncodeToString(digest) }

// BenchmarkArray submits and cancels arrays, each durable on the disk.
func BenchmarkArray(b *testing.B) {
	for _, size := range []uint64{1, 100_000_000} {
		b.Run(fmt.Sprintf("op=submit/children=%d", size), func(b *testing.B) {
			s := start(b, Config{})
			jobs := volleyv1.NewJobServiceClient(s.Conn())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jobs.SubmitJob(b.Context(), &volleyv1.SubmitJobRequest{Spec: array(size)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("op=submit+cancel/children=%d", size), func(b *testing.B) {
			s := start(b, Config{})
			jobs := volleyv1.NewJobServiceClient(s.Conn())
			b.ReportAllocs()
			for b.Loop() {
				r, err := jobs.SubmitJob(b.Context(), &volleyv1.SubmitJobRequest{Spec: array(size)})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := jobs.CancelJob(b.Context(), &volleyv1.CancelJobRequest{JobId: r.GetJobId()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
