// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"math"
	"strconv"
)

// The math package may answer differently in the last bit on amd64, arm64
// and s390x (assembly, fused multiply-add). A point would then have two
// identities, and a worker would run another value than the client shows.
// expDet and logDet use only operations that IEEE 754 defines exactly; the
// conversions to float64 around products forbid fusing (Go specification,
// "Floating-point operators").

const (
	ln2Hi = 6.93147180369123816490e-01 // upper 33 bits of ln 2
	ln2Lo = 1.90821492927058770002e-10
)

// logDet is the natural logarithm of a positive, finite x, within 2 ulp.
func logDet(x float64) float64 {
	f, k := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f, k = f*2, k-1
	}
	s := (f - 1) / (f + 1) // log f = 2 atanh s, |s| < 0.172
	s2 := float64(s * s)
	sum := 0.0
	for n := 23; n >= 3; n -= 2 {
		sum = float64((sum + 1/float64(n)) * s2)
	}
	n := float64(k)
	return float64(n*ln2Hi) + (2*s + (float64(2*s*sum) + float64(n*ln2Lo)))
}

// expDet is e^x within 3 ulp; 0 or +Inf beyond the range of float64.
func expDet(x float64) float64 {
	switch {
	case x > 709.8:
		return math.Inf(1)
	case x < -745.2:
		return 0
	}
	k := math.Floor(float64(x*math.Log2E) + 0.5)
	r := (x - float64(k*ln2Hi)) - float64(k*ln2Lo) // |r| < 0.35
	sum := 1.0
	for n := 15.0; n >= 1; n-- {
		sum = 1 + float64(r*sum)/n
	}
	return math.Ldexp(sum, int(k))
}

// powDet is x^y; ok is false where the result is no real number.
func powDet(x, y float64) (z float64, ok bool) {
	if y == math.Trunc(y) && math.Abs(y) <= 1<<20 {
		z = 1
		for n, f := uint64(math.Abs(y)), x; n > 0; n >>= 1 {
			if n&1 == 1 {
				z = float64(z * f)
			}
			f = float64(f * f)
		}
		if y < 0 {
			z = 1 / z
		}
		return z, true
	}
	switch {
	case x < 0 || math.IsNaN(x) || math.IsInf(x, 0) || math.IsNaN(y) || math.IsInf(y, 0):
		return 0, false
	case x == 0:
		return 0, y > 0
	}
	return expDet(float64(y * logDet(x))), true
}

// tenTo holds the powers of ten that float64 represents exactly.
var tenTo = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// decimalExponent is the exponent of x in scientific notation.
func decimalExponent(x float64) int {
	var buf [32]byte
	b := strconv.AppendFloat(buf[:0], math.Abs(x), 'e', -1, 64)
	for i, c := range b {
		if c == 'e' {
			n, err := strconv.Atoi(string(b[i+1:]))
			if err != nil { // cannot be: AppendFloat wrote it
				panic("sharding: exponent of " + string(b))
			}
			return n
		}
	}
	return 0
}

// roundDecimals rounds to so many decimals after the point, so that
// [0, 1] in 11 steps has 0.3 and not 0.30000000000000004. For 0 to 22
// decimals the product is an integer below 2^53 and the power exact, so the
// quotient is the float64 nearest to the decimal.
func roundDecimals(x float64, decimals int) float64 {
	if decimals >= 0 && decimals < len(tenTo) {
		return math.Round(float64(x*tenTo[decimals])) / tenTo[decimals]
	}
	if decimals < 0 {
		return x
	}
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', decimals, 64), 64)
	if err != nil { // cannot be: FormatFloat wrote it
		return x
	}
	return y
}

// logDigits is the number of significant digits of values on a log scale:
// the error of expDet(logDet) over wide ranges stays below it, so
// [1e-4, 1e-1] in 4 steps has 0.001 itself.
const logDigits = 13

func roundSignificant(x float64) float64 {
	if x >= 1e-9 && x < 1e12 {
		e := 0
		if x >= 1 {
			for x >= tenTo[e+1] {
				e++
			}
		} else {
			for x*tenTo[-e] < 1 {
				e--
			}
		}
		return roundDecimals(x, logDigits-1-e)
	}
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'e', logDigits-1, 64), 64)
	if err != nil {
		return x
	}
	return y
}
