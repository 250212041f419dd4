// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"
)

// ParseDuration reads a duration as the job file takes it: 30s, 10m, 1h30m, 2d.
// It has days, which time.ParseDuration refuses, and no units below
// milliseconds.
func ParseDuration(s string) (time.Duration, error) {
	const want = "want a duration such as 30s, 10m, 1h30m or 2d"
	if s == "0" {
		return 0, nil
	}
	v, err := parseQuantity(s, timeUnits, timeFactors, true)
	switch {
	case errors.Is(err, errNoQuantity):
		return 0, errors.New(want)
	case err != nil:
		return 0, fmt.Errorf("it %w; %s", err, want)
	case !v.IsInt():
		return 0, errors.New("it is finer than a millisecond")
	case v.Cmp(big.NewRat(math.MaxInt64/int64(time.Millisecond), 1)) > 0:
		return 0, fmt.Errorf("it %w", errTooLarge)
	}
	return time.Duration(v.Num().Int64()) * time.Millisecond, nil
}
