// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"cmp"
	"encoding/json"
	"math"
	"strconv"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds; KindNone is an absent value.
const (
	KindNone Kind = iota
	KindString
	KindInt
	KindFloat
	KindBool
)

// Value is one parameter value. The zero Value is absent. Values are equal
// with == when they have the same kind and content; use Canonical first to
// compare as identities do.
type Value struct {
	kind Kind
	// Invariant: the bits of the int, float (never NaN from a Space, never
	// -0) or bool; 0 for the other kinds.
	bits uint64
	str  string
}

// StringValue returns s as a Value.
func StringValue(s string) Value { return Value{kind: KindString, str: s} }

// IntValue returns n as a Value.
func IntValue(n int64) Value { return Value{kind: KindInt, bits: uint64(n)} }

// FloatValue returns f as a Value; -0 becomes 0.
func FloatValue(f float64) Value {
	if f == 0 {
		f = 0 // drops the sign: "-0" and "0" would be two identities of one number
	}
	return Value{kind: KindFloat, bits: math.Float64bits(f)}
}

// BoolValue returns b as a Value.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: KindBool, bits: 1}
	}
	return Value{kind: KindBool}
}

// ValueOf converts from the proto; an unset kind is the absent Value.
func ValueOf(v *volleyv1.Value) Value {
	switch k := v.GetKind().(type) {
	case *volleyv1.Value_StringValue:
		return StringValue(k.StringValue)
	case *volleyv1.Value_IntValue:
		return IntValue(k.IntValue)
	case *volleyv1.Value_DoubleValue:
		return FloatValue(k.DoubleValue)
	case *volleyv1.Value_BoolValue:
		return BoolValue(k.BoolValue)
	}
	return Value{}
}

// Kind is the type of v.
func (v Value) Kind() Kind { return v.kind }

// Present reports whether v is a value at all.
func (v Value) Present() bool { return v.kind != KindNone }

// Int is the integer of a KindInt value.
func (v Value) Int() int64 { return int64(v.bits) }

// Float is the number of a KindFloat or KindInt value.
func (v Value) Float() float64 {
	if v.kind == KindInt {
		return float64(int64(v.bits))
	}
	return math.Float64frombits(v.bits)
}

// Bool is the truth of a KindBool value.
func (v Value) Bool() bool { return v.kind == KindBool && v.bits != 0 }

// String is the value as a command line wants it: 3, 0.001, 1e-05, true, the
// string itself; empty when absent.
func (v Value) String() string {
	if v.kind == KindString {
		return v.str
	}
	var buf [32]byte
	return string(v.AppendText(buf[:0]))
}

// AppendText appends String to dst.
func (v Value) AppendText(dst []byte) []byte {
	switch v.kind {
	case KindString:
		return append(dst, v.str...)
	case KindInt:
		return strconv.AppendInt(dst, int64(v.bits), 10)
	case KindFloat:
		return appendFloat(dst, v.Float())
	case KindBool:
		return strconv.AppendBool(dst, v.bits != 0)
	}
	return dst
}

// appendFloat appends the shortest text that reads back as f, with an
// exponent where Python writes one, which is what most tasks print.
func appendFloat(dst []byte, f float64) []byte {
	format := byte('e')
	if a := math.Abs(f); f == 0 || (a >= 1e-4 && a < 1e16) {
		format = 'f'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

// AppendJSON appends v as JSON; null when absent.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case KindString:
		return appendJSONString(dst, v.str)
	case KindNone:
		return append(dst, "null"...)
	}
	return v.AppendText(dst)
}

func appendJSONString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f || c == '<' || c == '>' || c == '&' {
			b, err := json.Marshal(s)
			if err != nil { // cannot be: strings always marshal
				panic("sharding: marshal a string: " + err.Error())
			}
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// Canonical returns the value that stands for v in identities and in the
// test for duplicates: an integral float is the integer, since a task cannot
// tell 2.0 from 2 in its command line or its parameters.
func (v Value) Canonical() Value {
	if v.kind != KindFloat {
		return v
	}
	f := v.Float()
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return IntValue(int64(f))
	}
	return v
}

// isNumber reports whether v is an int or a float.
func (v Value) isNumber() bool { return v.kind == KindInt || v.kind == KindFloat }

// compareNumbers orders two numbers exactly; ok is false for NaN. Converting
// the integer to float64 instead would make 2^53 and 2^53+1 equal.
func compareNumbers(a, b Value) (c int, ok bool) {
	switch {
	case a.kind == KindInt && b.kind == KindInt:
		return cmp.Compare(a.Int(), b.Int()), true
	case a.kind == KindInt:
		c, ok = compareIntFloat(a.Int(), b.Float())
		return c, ok
	case b.kind == KindInt:
		c, ok = compareIntFloat(b.Int(), a.Float())
		return -c, ok
	}
	x, y := a.Float(), b.Float()
	return cmp.Compare(x, y), x == x && y == y
}

func compareIntFloat(n int64, f float64) (c int, ok bool) {
	switch {
	case f != f:
		return 0, false
	case f >= 1<<63:
		return -1, true
	case f < -1<<63:
		return 1, true
	}
	whole := math.Floor(f)
	if c := cmp.Compare(n, int64(whole)); c != 0 {
		return c, true
	}
	if f > whole {
		return -1, true
	}
	return 0, true
}
