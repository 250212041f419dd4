// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"math"
	"math/bits"
	"strings"
)

// The operators of expressions. Unknown, the absent Value, is what a
// comparison with an absent parameter yields; and, or and not follow Kleene:
// a result is known when no value in place of the unknown could change it.
// Calling it false at once would make `not (x == 1)` true of points that
// have no x.

func kleeneAnd(l, r evalFunc, env []Value) Value {
	a := l(env)
	if a.kind == KindBool && a.bits == 0 {
		return a
	}
	b := r(env)
	if b.kind == KindBool && b.bits == 0 || a.Present() {
		return b
	}
	return Value{}
}

func kleeneOr(l, r evalFunc, env []Value) Value {
	a := l(env)
	if a.Bool() {
		return a
	}
	b := r(env)
	if b.Bool() || a.Present() {
		return b
	}
	return Value{}
}

// equal compares a and b; values of different types are different.
func equal(a, b Value, negate bool) Value {
	if !a.Present() || !b.Present() {
		return Value{}
	}
	same := false
	if a.isNumber() && b.isNumber() {
		c, ok := compareNumbers(a, b)
		if !ok {
			return Value{}
		}
		same = c == 0
	} else {
		same = a == b
	}
	return BoolValue(same != negate)
}

// ordered compares two numbers or two strings (by bytes); unknown otherwise.
func ordered(a, b Value, test func(int) bool) Value {
	switch {
	case a.isNumber() && b.isNumber():
		c, ok := compareNumbers(a, b)
		if !ok {
			return Value{}
		}
		return BoolValue(test(c))
	case a.kind == KindString && b.kind == KindString:
		return BoolValue(test(strings.Compare(a.str, b.str)))
	}
	return Value{}
}

func stringTest(a, b Value, test func(s, part string) bool) Value {
	if a.kind != KindString || b.kind != KindString {
		return Value{}
	}
	return BoolValue(test(a.str, b.str))
}

// arithmetic stays in integers while they fit and goes on in floats;
// unknown without two numbers, or where there is no result.
func arithmetic(op byte, a, b Value) Value {
	if !a.isNumber() || !b.isNumber() {
		return Value{}
	}
	if a.kind == KindInt && b.kind == KindInt {
		if v, ok := intArithmetic(op, a.Int(), b.Int()); ok {
			return v
		}
	}
	x, y := a.Float(), b.Float()
	var z float64
	switch op {
	case '+':
		z = x + y
	case '-':
		z = x - y
	case '*':
		z = x * y
	case '/':
		z = x / y
	case '%':
		z = math.Mod(x, y)
	case '^':
		var ok bool
		if z, ok = powDet(x, y); !ok {
			return Value{}
		}
	}
	if math.IsNaN(z) {
		return Value{}
	}
	return FloatValue(z)
}

// intArithmetic is the exact result, when there is one.
func intArithmetic(op byte, x, y int64) (Value, bool) {
	switch op {
	case '+':
		z := x + y
		return IntValue(z), (z > x) == (y > 0)
	case '-':
		z := x - y
		return IntValue(z), (z < x) == (y > 0)
	case '*':
		return mulInt(x, y)
	case '%':
		if y == 0 || y == -1 { // -1: the quotient may overflow
			return IntValue(0), y == -1
		}
		return IntValue(x % y), true
	case '^':
		return powInt(x, y)
	}
	return Value{}, false // '/' divides as floats do
}

func mulInt(x, y int64) (Value, bool) {
	hi, lo := bits.Mul64(magnitude(x), magnitude(y))
	if hi != 0 || lo > math.MaxInt64 {
		return Value{}, false
	}
	return IntValue(x * y), true
}

func magnitude(x int64) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

func powInt(x, y int64) (Value, bool) {
	if y < 0 || y > 1<<20 {
		return Value{}, false
	}
	z := IntValue(1)
	for f := x; ; {
		if y&1 == 1 {
			product, ok := mulInt(z.Int(), f)
			if !ok {
				return Value{}, false
			}
			z = product
		}
		if y >>= 1; y == 0 {
			return z, true
		}
		next, ok := mulInt(f, f)
		if !ok {
			return Value{}, false
		}
		f = next.Int()
	}
}
