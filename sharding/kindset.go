// SPDX-License-Identifier: Apache-2.0

package sharding

// kindSet is the static type of an expression: the kinds that it may have.
type kindSet uint8

const (
	kindString kindSet = 1 << iota
	kindInt
	kindFloat
	kindBool

	kindNumber = kindInt | kindFloat
	kindAny    = kindString | kindNumber | kindBool
)

func kindSetOf(v Value) kindSet {
	switch v.kind {
	case KindString:
		return kindString
	case KindInt:
		return kindInt
	case KindFloat:
		return kindFloat
	case KindBool:
		return kindBool
	}
	return 0
}

// comparable reports whether values of both sets can ever be equal.
func (k kindSet) comparable(o kindSet) bool {
	return k.widen()&o.widen() != 0
}

// widen makes the number kinds one.
func (k kindSet) widen() kindSet {
	if k&kindNumber != 0 {
		k |= kindNumber
	}
	return k
}

func (k kindSet) String() string {
	switch k {
	case kindString:
		return "a string"
	case kindInt, kindFloat, kindNumber:
		return "a number"
	case kindBool:
		return "true or false"
	}
	return "a value of mixed type"
}
