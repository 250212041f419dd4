// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour,
		"1.5d": 36 * time.Hour, "250ms": 250 * time.Millisecond, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"": "want a duration", "x": "want a duration", "5": "has no unit", "2w": `unknown unit "w"`, "-1h": "must not be negative",
		"0.1ms": "finer than a millisecond", "106752d": "too large", "999999999999d": "too large",
	} {
		if got, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", s, got, err, want)
		}
	}
}
