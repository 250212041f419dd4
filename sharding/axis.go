// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// axis is the values of one parameter: a list, or arithmetic.
type axis struct {
	shape axisShape
	// n is the number of values; 0: continuous, sampled only.
	n      uint64
	values []Value // shapeList
	log    bool    // shapeFloat, and continuous shapeInt
	// Bounds: as given for floats, widened by a half for continuous ints.
	min, max       float64
	logMin, logMax float64
	decimals       int // shapeFloat, linear; -1: not rounded
	first, last    int64
	step           uint64 // shapeInt
	kinds          kindSet
}

type axisShape uint8

const (
	shapeList axisShape = iota
	shapeInt
	shapeFloat
	shapeRepeat
)

// axisRules is what the sampler wants of its axes.
type axisRules struct {
	sampled    bool // steps are optional
	duplicates bool // choices may repeat (zip)
}

// value is value d, below n.
func (a *axis) value(d uint64) Value {
	switch a.shape {
	case shapeList:
		return a.values[d]
	case shapeInt:
		return IntValue(int64(uint64(a.first) + d*a.step))
	case shapeFloat:
		switch d {
		case 0:
			return FloatValue(a.min)
		case a.n - 1:
			return FloatValue(a.max)
		}
		return FloatValue(a.at(float64(d) / float64(a.n-1)))
	}
	return IntValue(int64(d))
}

// draw is the value at the fraction x/2^64 of the axis.
func (a *axis) draw(x uint64) Value {
	if a.n > 0 {
		d, _ := bits.Mul64(x, a.n)
		return a.value(d)
	}
	f := a.at(float64(x>>11) / (1 << 53))
	if a.shape == shapeFloat {
		return FloatValue(f)
	}
	f = math.Round(f)
	switch {
	case f <= float64(a.first):
		return IntValue(a.first)
	case f >= float64(a.last):
		return IntValue(a.last)
	}
	return IntValue(int64(f))
}

// at is the number at t in [0, 1]. The weighted sum cannot overflow where
// max-min would.
func (a *axis) at(t float64) float64 {
	var f float64
	if a.log {
		f = roundSignificant(expDet(float64(a.logMin*(1-t)) + float64(a.logMax*t)))
	} else {
		f = roundDecimals(float64(a.min*(1-t))+float64(a.max*t), a.decimals)
	}
	return min(max(f, a.min), a.max)
}

func newAxis(p *volleyv1.Param, rules axisRules) (axis, error) {
	path := "sweep.params." + p.GetName()
	switch x := p.GetAxis().(type) {
	case *volleyv1.Param_Choices:
		return choicesAxis(path, x.Choices.GetValues(), rules)
	case *volleyv1.Param_FloatRange:
		return floatAxis(path, x.FloatRange, rules)
	case *volleyv1.Param_IntRange:
		return intAxis(path, x.IntRange, rules)
	case *volleyv1.Param_Repeat:
		if x.Repeat == 0 || x.Repeat > MaxPoints {
			return axis{}, errAt(path+".repeat", utoa(x.Repeat), "repeat must be from 1 to 2^63-1")
		}
		return axis{shape: shapeRepeat, n: x.Repeat, kinds: kindInt}, nil
	}
	return axis{}, errAt(path, "", "has no values: give a list, a range or repeat")
}

func choicesAxis(path string, list []*volleyv1.Value, rules axisRules) (axis, error) {
	if len(list) == 0 {
		return axis{}, errAt(path, "", "has no values: an empty list makes an empty sweep")
	}
	a := axis{shape: shapeList, n: uint64(len(list)), values: make([]Value, len(list))}
	seen := make(map[Value]int, len(list))
	for i, pv := range list {
		v := ValueOf(pv)
		at := path + "[" + strconv.Itoa(i) + "]"
		if !v.Present() {
			return axis{}, errAt(at, "", "is empty: write a string, a number, true or false")
		}
		if err := checkValue(at, v); err != nil {
			return axis{}, err
		}
		if j, dup := seen[v.Canonical()]; dup && !rules.duplicates {
			return axis{}, errAt(at, v.String(), "is the same value as [%d]: every point would run twice; use repeat for repetitions", j)
		}
		seen[v.Canonical()] = i
		a.values[i] = v
		a.kinds |= kindSetOf(v)
	}
	return a, nil
}

// checkValue refuses what no task could be given.
func checkValue(path string, v Value) error {
	const most = 64 << 10
	switch v.kind {
	case KindString:
		switch {
		case len(v.str) > most:
			return errAt(path, clipText(v.str), "has %d bytes; a value has at most %d", len(v.str), most)
		case !utf8.ValidString(v.str):
			return errAt(path, strconv.QuoteToASCII(clipText(v.str)), "is not valid UTF-8")
		case strings.IndexByte(v.str, 0) >= 0:
			return errAt(path, v.str, "has a NUL byte, which no command line can carry")
		}
	case KindFloat:
		return checkFinite(path, v.Float())
	}
	return nil
}

func checkFinite(path string, f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errAt(path, strconv.FormatFloat(f, 'g', -1, 64), "is not a finite number")
	}
	return nil
}

// rangePath is where the job file writes the bounds.
func rangePath(path string, log bool) string {
	if log {
		return path + ".log"
	}
	return path + ".range"
}

// checkScale refuses a scale of a later release: read as linear, it would be
// another sweep.
func checkScale(path string, s volleyv1.Scale) error {
	if _, ok := volleyv1.Scale_name[int32(s)]; !ok {
		return errAt(path, s.String(), "not a scale: linear or log")
	}
	return nil
}

func floatAxis(path string, r *volleyv1.FloatRange, rules axisRules) (axis, error) {
	log := r.GetScale() == volleyv1.Scale_SCALE_LOG
	lo, hi, n := r.GetMin(), r.GetMax(), r.GetSteps()
	a := axis{shape: shapeFloat, n: n, log: log, min: lo, max: hi, decimals: -1, kinds: kindFloat}
	bounds := rangePath(path, log)
	if err := checkScale(path, r.GetScale()); err != nil {
		return axis{}, err
	}
	if err := checkFinite(bounds+"[0]", lo); err != nil {
		return axis{}, err
	}
	if err := checkFinite(bounds+"[1]", hi); err != nil {
		return axis{}, err
	}
	switch {
	case lo > hi:
		return axis{}, errAt(bounds, "", "the minimum %s is above the maximum %s", FloatValue(lo), FloatValue(hi))
	case log && lo <= 0:
		return axis{}, errAt(bounds+"[0]", FloatValue(lo).String(), "a log scale starts above 0")
	case n == 0 && !rules.sampled:
		return axis{}, errAt(path+".steps", "", "a range of numbers needs steps here: how many values, both ends included")
	}
	if err := checkSteps(path, n, lo == hi); err != nil {
		return axis{}, err
	}
	if log {
		a.logMin, a.logMax = logDet(lo), logDet(hi)
		if n > 1 && (a.logMax-a.logMin)/float64(n-1) < 1e-11 {
			return axis{}, errAt(path+".steps", utoa(n), "the range is too narrow for so many different numbers")
		}
		return a, nil
	}
	scale := max(math.Abs(lo), math.Abs(hi))
	if scale > 0 {
		a.decimals = 14 - decimalExponent(scale)
	}
	if n > 1 {
		spacing := hi/float64(n-1) - lo/float64(n-1)
		if spacing < 4*(math.Nextafter(scale, math.Inf(1))-scale) {
			return axis{}, errAt(path+".steps", utoa(n), "the range is too narrow for so many different numbers")
		}
		// Fine steps would fall together when rounded to 15 digits.
		if spacing < scale*1e-13 {
			a.decimals = -1
		}
	} else if hi-lo < scale*1e-6 {
		a.decimals = -1
	}
	return a, nil
}

// checkSteps holds for every range with steps; n is 0 when there are none.
func checkSteps(path string, n uint64, single bool) error {
	switch {
	case n > MaxPoints:
		return errAt(path+".steps", utoa(n), "more than 2^63-1 steps")
	case n == 1 && !single:
		return errAt(path+".steps", "1", "one step cannot include both ends of the range: give at least 2, or a list of one value")
	case n > 1 && single:
		return errAt(path+".steps", utoa(n), "the range has one value only, so every point would run %d times; use steps: 1", n)
	}
	return nil
}

func intAxis(path string, r *volleyv1.IntRange, rules axisRules) (axis, error) {
	log := r.GetScale() == volleyv1.Scale_SCALE_LOG
	lo, hi, step, n := r.GetMin(), r.GetMax(), r.GetStep(), r.GetSteps()
	a := axis{shape: shapeInt, first: lo, last: hi, log: log, kinds: kindInt, step: 1}
	bounds := rangePath(path, log)
	if err := checkScale(path, r.GetScale()); err != nil {
		return axis{}, err
	}
	switch {
	case lo > hi:
		return axis{}, errAt(bounds, "", "the minimum %d is above the maximum %d", lo, hi)
	case step < 0:
		return axis{}, errAt(path+".step", IntValue(step).String(), "a step is 1 or more")
	case !log && n != 0:
		return axis{}, errAt(path+".steps", utoa(n), "steps of whole numbers are for a log scale; use step")
	case !log:
		if step > 0 {
			a.step = uint64(step)
		}
		a.n = (uint64(hi)-uint64(lo))/a.step + 1
		if a.n == 0 || a.n > MaxPoints {
			return axis{}, errAt(bounds, "", "%d to %d is more than 2^63-1 values", lo, hi)
		}
		return a, nil
	case lo < 1:
		return axis{}, errAt(bounds+"[0]", IntValue(lo).String(), "a log scale of whole numbers starts at 1 or more")
	case step > 1:
		return axis{}, errAt(path+".step", IntValue(step).String(), "a log scale takes steps (how many values), not step")
	case n == 0 && !rules.sampled:
		return axis{}, errAt(path+".steps", "", "a log scale needs steps here: how many values, both ends included")
	}
	if err := checkSteps(path, n, false); err != nil && lo != hi {
		return axis{}, err
	}
	if n == 0 {
		// Half a unit wider, or the ends would get half their share.
		a.min, a.max = float64(lo)-0.5, float64(hi)+0.5
		a.logMin, a.logMax = logDet(a.min), logDet(a.max)
		return a, nil
	}
	return logInts(path, a, n)
}

// logInts lists n whole numbers, evenly spaced on the log scale, rounded,
// without repetition.
func logInts(path string, a axis, n uint64) (axis, error) {
	if n > MaxCombinations {
		return axis{}, errAt(path+".steps", utoa(n), "at most %d steps of whole numbers on a log scale", MaxCombinations)
	}
	lo, hi := logDet(float64(a.first)), logDet(float64(a.last))
	list := []Value{IntValue(a.first)}
	last := a.first
	for d := uint64(1); d < n; d++ {
		v := a.last
		if d < n-1 {
			t := float64(d) / float64(n-1)
			f := math.Round(expDet(float64(lo*(1-t)) + float64(hi*t)))
			if f < float64(a.last) {
				v = max(int64(f), a.first)
			}
		}
		if v > last {
			list = append(list, IntValue(v))
			last = v
		}
	}
	return axis{shape: shapeList, n: uint64(len(list)), values: list, kinds: kindInt}, nil
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
