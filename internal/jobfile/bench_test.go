// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkParse is the cost of the smallest file, which every `volley run`
// pays, and of the largest.
func BenchmarkParse(b *testing.B) {
	var big strings.Builder
	big.WriteString("command: [prog, \"{lr}\"]\nsweep:\n  sampler: list\n  points:\n")
	for i := 0; big.Len() < MaxFileBytes-100; i++ {
		fmt.Fprintf(&big, "    - {lr: %d.5, opt: adam}\n", i)
	}
	for _, c := range []struct{ name, src string }{
		{"file=smallest", "command: [/bin/true]\n"},
		{"file=list-of-points", big.String()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.src)))
			src := []byte(c.src)
			for b.Loop() {
				if _, err := Parse("x", src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
