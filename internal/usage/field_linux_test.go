// SPDX-License-Identifier: Apache-2.0

package usage

import "testing"

func TestField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want int64
	}{
		{"VmPeak:\t 9 kB\nVmRSS:\t  1234 kB\n", 1234},
		{"VmRSS: 7", 7},
		{"XVmRSS: 7\n", 0},
		{"VmRSS:\n", 0},
		{"VmRSS: many kB\n", 0},
		{"", 0},
	} {
		if got := field([]byte(tt.text), "VmRSS:"); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.text, got, tt.want)
		}
	}
}
