// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// fullReport is what a busy worker sends: all results well, with their starts,
// durations and memory.
func fullReport(results int) *volleyv1.ConnectRequest {
	lr := &volleyv1.LeaseReport{LeaseId: 7, Finished: []uint64{1 << 30, uint64(results)}}
	for n := range results {
		lr.StartMs = append(lr.StartMs, int64(n%3))
		lr.DurationUs = append(lr.DurationUs, uint64(1000+n))
		lr.PeakKib = append(lr.PeakKib, uint64(2000+n%100))
		lr.CpuMs = append(lr.CpuMs, uint64(n%10))
	}
	return &volleyv1.ConnectRequest{Report: &volleyv1.Report{Seq: 9, Leases: []*volleyv1.LeaseReport{lr}}}
}

// TestReportCodecAllocs: encoding into a buffer that is large enough allocates
// nothing, decoding once for each column and message, whatever the number of
// results. Not parallel: it counts allocations.
func TestReportCodecAllocs(t *testing.T) {
	const messages, columns = 2, 5 // and the slice of leases
	for _, results := range []int{1, 1024, 65_536} {
		m := fullReport(results)
		buf, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 0, 2*len(buf))
		encode := testing.AllocsPerRun(50, func() {
			if _, err := (proto.MarshalOptions{}).MarshalAppend(out, m); err != nil {
				t.Fatal(err)
			}
		})
		var got volleyv1.ConnectRequest
		decode := testing.AllocsPerRun(50, func() {
			got.Reset()
			if err := proto.Unmarshal(buf, &got); err != nil {
				t.Fatal(err)
			}
		})
		if d := cmp.Diff(m, &got, protocmp.Transform()); d != "" {
			t.Errorf("%d results, decoded (-want +got):\n%s", results, d)
		}
		t.Logf("%d results: %d bytes, encode %v, decode %v allocations", results, len(buf), encode, decode)
		if encode > 0 {
			t.Errorf("encoding %d results allocates %v times, want never", results, encode)
		}
		if decode > messages+columns+1 {
			t.Errorf("decoding %d results allocates %v times, want at most %d", results, decode, messages+columns+1)
		}
	}
}

// BenchmarkReportCodec is what the wire costs for each result.
func BenchmarkReportCodec(b *testing.B) {
	for _, results := range []int{1, 64, 1024} {
		m := fullReport(results)
		buf, err := proto.Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("op=encode/results=%d", results), func(b *testing.B) {
			b.ReportAllocs()
			out := make([]byte, 0, 2*len(buf))
			for b.Loop() {
				if _, err := (proto.MarshalOptions{}).MarshalAppend(out, m); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*results)/b.Elapsed().Seconds(), "results/s")
			b.ReportMetric(float64(len(buf))/float64(results), "B/result")
		})
		b.Run(fmt.Sprintf("op=decode/results=%d", results), func(b *testing.B) {
			b.ReportAllocs()
			var got volleyv1.ConnectRequest
			for b.Loop() {
				if err := proto.Unmarshal(buf, &got); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*results)/b.Elapsed().Seconds(), "results/s")
		})
	}
}
