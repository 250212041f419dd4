// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// Units in the order of their messages. Sizes are exact: M alone is refused,
// since half of all tools mean 2^20 by it and the other half 10^6.
var (
	sizeUnits     = []string{"B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"}
	sizeFactors   = []int64{1, 1e3, 1e6, 1e9, 1e12, 1 << 10, 1 << 20, 1 << 30, 1 << 40}
	timeUnits     = []string{"ms", "s", "m", "h", "d"}
	timeFactors   = []int64{1, 1e3, 60e3, 3600e3, 86400e3}
	maxQuantity   = new(big.Rat).SetInt64(math.MaxInt64)
	errNoUnit     = errors.New("has no unit")
	errNoQuantity = errors.New("is not a quantity")
	errTooLarge   = errors.New("is too large")
	errNegative   = errors.New("must not be negative")
)

// parseQuantity reads one `<decimal><unit>` or, when several is set, a row of
// them (`1h30m`), and returns the sum in the smallest unit.
func parseQuantity(s string, units []string, factors []int64, several bool) (*big.Rat, error) {
	if len(s) > 64 {
		return nil, errTooLarge
	}
	if strings.HasPrefix(s, "-") {
		return nil, errNegative
	}
	sum := new(big.Rat)
	rest := s
	for first := true; rest != ""; first = false {
		if !first && !several {
			return nil, errNoQuantity
		}
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		number := rest[:n]
		rest = strings.TrimLeft(rest[n:], " ")
		u := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZµ"))
		unit := rest[:u]
		rest = rest[u:]
		if !isFloat(number) {
			return nil, errNoQuantity
		}
		if unit == "" {
			return nil, errNoUnit
		}
		i := indexOf(units, unit)
		if i < 0 {
			return nil, unitError{unit}
		}
		v, ok := new(big.Rat).SetString(number)
		if !ok {
			return nil, errNoQuantity
		}
		sum.Add(sum, v.Mul(v, new(big.Rat).SetInt64(factors[i])))
	}
	if s == "" {
		return nil, errNoQuantity
	}
	if sum.Cmp(maxQuantity) > 0 {
		return nil, errTooLarge
	}
	return sum, nil
}

type unitError struct{ unit string }

func (e unitError) Error() string { return fmt.Sprintf("has the unknown unit %q", e.unit) }

func indexOf(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return -1
}

// duration reads a time in milliseconds, at least 1.
func (d *decoder) duration(n *node, path string) (int64, bool) {
	const want = "a duration such as 30s, 10m, 1h30m or 2d"
	if !n.scalar() {
		d.err(n, path, "", "%s must be %s, not %s", path, want, n.describe())
		return 0, false
	}
	v, err := parseQuantity(n.text, timeUnits, timeFactors, true)
	var unit unitError
	switch {
	case errors.Is(err, errNoQuantity):
		d.err(n, path, "", "%s must be %s, not %s", path, want, n.describe())
	case errors.Is(err, errNoUnit):
		d.err(n, path, fmt.Sprintf("%ss is in seconds, %sm in minutes", n.text, n.text), "%s: %s has no unit", path, n.describe())
	case errors.As(err, &unit):
		d.err(n, path, "units: ms, s, m, h, d", "%s: %s %s", path, n.describe(), err)
	case err != nil:
		d.err(n, path, "", "%s: %s %s", path, n.describe(), err)
	case v.Cmp(big.NewRat(1, 1)) < 0:
		d.err(n, path, "", "%s must be at least 1ms, not %s", path, n.describe())
	case !v.IsInt():
		d.err(n, path, "write whole milliseconds", "%s: %s is finer than a millisecond", path, n.describe())
	default:
		return v.Num().Int64(), true
	}
	return 0, false
}

// size reads a number of bytes, at least 1.
func (d *decoder) size(n *node, path string) (int64, bool) {
	const want = "a size such as 512MiB or 4GB"
	if !n.scalar() {
		d.err(n, path, "", "%s must be %s, not %s", path, want, n.describe())
		return 0, false
	}
	v, err := parseQuantity(n.text, sizeUnits, sizeFactors, false)
	var unit unitError
	switch {
	case errors.Is(err, errNoQuantity):
		d.err(n, path, "", "%s must be %s, not %s", path, want, n.describe())
	case errors.Is(err, errNoUnit):
		d.err(n, path, fmt.Sprintf("%sMiB, or %sB for bytes", n.text, n.text), "%s: %s has no unit", path, n.describe())
	case errors.As(err, &unit):
		hint := "units: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)"
		if c := strings.ToUpper(unit.unit[:1]); strings.Contains("KMGT", c) {
			hint = fmt.Sprintf("write %siB for powers of 1024 or %sB for powers of 1000", c, strings.Replace(c, "K", "k", 1))
		}
		d.err(n, path, hint, "%s: %s %s", path, n.describe(), err)
	case err != nil:
		d.err(n, path, "", "%s: %s %s", path, n.describe(), err)
	case v.Sign() == 0:
		d.err(n, path, "remove it for no limit", "%s must be more than 0, not %s", path, n.describe())
	case !v.IsInt():
		d.err(n, path, "", "%s: %s is not a whole number of bytes", path, n.describe())
	default:
		return v.Num().Int64(), true
	}
	return 0, false
}

// cpu reads CPUs in thousandths.
func (d *decoder) cpu(n *node, path string) (int64, bool) {
	const most = 1_000_000
	v, ok := new(big.Rat), false
	if (n.kind == kindInt || n.kind == kindFloat) && len(n.text) <= 32 && !strings.ContainsAny(n.text, "xoNnI") {
		if f, _ := n.float64(); !math.IsInf(f, 0) && math.Abs(f) <= 1e15 && (f == 0 || math.Abs(f) >= 1e-15) {
			v, ok = v.SetString(strings.TrimPrefix(n.text, "+"))
		}
	}
	milli := new(big.Rat).Mul(v, big.NewRat(1000, 1))
	switch {
	case !ok:
		hint := ""
		if n.kind == kindString && strings.HasSuffix(n.text, "m") {
			hint = "write CPUs, not thousandths: 500m is 0.5"
		}
		d.err(n, path, hint, "%s must be a number of CPUs such as 1 or 0.5, not %s", path, n.describe())
	case v.Sign() <= 0 || v.Cmp(big.NewRat(most, 1)) > 0:
		d.err(n, path, "", "%s must be more than 0 and at most %d, not %s", path, most, n.describe())
	case !milli.IsInt():
		d.err(n, path, "", "%s: %s is finer than a thousandth of a CPU", path, n.describe())
	default:
		return milli.Num().Int64(), true
	}
	return 0, false
}
