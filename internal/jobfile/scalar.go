// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"math"
	"strconv"
	"strings"
)

// resolve gives the plain scalar word its type by the YAML 1.2 core schema.
// The parser's own idea of it is not used: it takes 1e-4 for text, 017 for
// octal and 1_000 for a number, and a learning rate that silently is text
// would be the worst of errors.
func (n *node) resolve(word string) {
	n.text = word
	n.kind = kindString
	switch word {
	case "", "~", "null", "Null", "NULL":
		n.kind = kindNull
		return
	case "true", "True", "TRUE":
		n.kind, n.b = kindBool, true
		return
	case "false", "False", "FALSE":
		n.kind = kindBool
		return
	case ".nan", ".NaN", ".NAN":
		n.kind, n.f = kindFloat, math.NaN()
		return
	}
	digits, neg := word, false
	switch word[0] {
	case '-':
		digits, neg = word[1:], true
	case '+':
		digits = word[1:]
	}
	switch digits {
	case ".inf", ".Inf", ".INF":
		n.kind, n.f = kindFloat, math.Inf(1)
		if neg {
			n.f = math.Inf(-1)
		}
		return
	}
	base := 10
	if digits == word {
		switch {
		case strings.HasPrefix(word, "0x"):
			digits, base = word[2:], 16
		case strings.HasPrefix(word, "0o"):
			digits, base = word[2:], 8
		}
	}
	if isInteger(digits, base) {
		n.kind, n.neg = kindInt, neg
		var err error
		if n.mag, err = strconv.ParseUint(digits, base, 64); err != nil {
			n.kind = kindFloat // too large for any integer: the nearest number, refused where an integer is wanted
			if n.f, err = strconv.ParseFloat(digits, 64); err != nil || base != 10 {
				n.f = math.Inf(1)
			}
			if neg {
				n.f = -n.f
			}
		}
		return
	}
	if base == 10 && isFloat(digits) {
		n.kind = kindFloat
		n.f, _ = strconv.ParseFloat(digits, 64) // out of range is ±Inf, refused where it is used
		if neg {
			n.f = -n.f
		}
	}
}

func isInteger(s string, base int) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c < '0'+byte(min(base, 10)):
		case base == 16 && (c|0x20) >= 'a' && (c|0x20) <= 'f':
		default:
			return false
		}
	}
	return s != ""
}

// isFloat reports whether s, which has no sign, is a float of the core schema.
func isFloat(s string) bool {
	mantissa, exp, hasExp := s, "", false
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exp, hasExp = s[:i], s[i+1:], true
	}
	if hasExp {
		exp = strings.TrimPrefix(strings.TrimPrefix(exp, "-"), "+")
		if !isInteger(exp, 10) || len(s[len(mantissa)+1:])-len(exp) > 1 {
			return false
		}
	}
	whole, frac, point := strings.Cut(mantissa, ".")
	if !point {
		return isInteger(whole, 10)
	}
	return (whole == "" || isInteger(whole, 10)) && (frac == "" || isInteger(frac, 10)) && whole+frac != ""
}

// int64 returns the value of an integer node that fits.
func (n *node) int64() (int64, bool) {
	switch {
	case n.kind != kindInt:
		return 0, false
	case n.neg && n.mag <= 1<<63:
		return -int64(n.mag), true
	case !n.neg && n.mag <= math.MaxInt64:
		return int64(n.mag), true
	}
	return 0, false
}

// uint64 returns the value of a non-negative integer node.
func (n *node) uint64() (uint64, bool) {
	return n.mag, n.kind == kindInt && (!n.neg || n.mag == 0)
}

// float64 returns the value of a number, integer or not.
func (n *node) float64() (float64, bool) {
	switch n.kind {
	case kindFloat:
		return n.f, true
	case kindInt:
		if n.neg {
			return -float64(n.mag), true
		}
		return float64(n.mag), true
	}
	return 0, false
}
