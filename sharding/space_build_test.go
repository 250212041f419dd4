// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Short constructors for sweeps in tests.

const (
	gridSampler   = volleyv1.Sampler_SAMPLER_GRID
	zipSampler    = volleyv1.Sampler_SAMPLER_ZIP
	randomSampler = volleyv1.Sampler_SAMPLER_RANDOM
	sobolSampler  = volleyv1.Sampler_SAMPLER_SOBOL
	lhsSampler    = volleyv1.Sampler_SAMPLER_LHS
	listSampler   = volleyv1.Sampler_SAMPLER_LIST
	fileSampler   = volleyv1.Sampler_SAMPLER_FILE
	logScale      = volleyv1.Scale_SCALE_LOG
)

func pv(v any) *volleyv1.Value {
	switch v := v.(type) {
	case string:
		return &volleyv1.Value{Kind: &volleyv1.Value_StringValue{StringValue: v}}
	case int:
		return &volleyv1.Value{Kind: &volleyv1.Value_IntValue{IntValue: int64(v)}}
	case float64:
		return &volleyv1.Value{Kind: &volleyv1.Value_DoubleValue{DoubleValue: v}}
	case bool:
		return &volleyv1.Value{Kind: &volleyv1.Value_BoolValue{BoolValue: v}}
	}
	return &volleyv1.Value{}
}

func choices(name string, values ...any) *volleyv1.Param {
	c := &volleyv1.Choices{}
	for _, v := range values {
		c.Values = append(c.Values, pv(v))
	}
	return &volleyv1.Param{Name: name, Axis: &volleyv1.Param_Choices{Choices: c}}
}

func floats(name string, lo, hi float64, steps uint64) *volleyv1.Param {
	return &volleyv1.Param{Name: name, Axis: &volleyv1.Param_FloatRange{FloatRange: &volleyv1.FloatRange{Min: lo, Max: hi, Steps: steps}}}
}

func logFloats(name string, lo, hi float64, steps uint64) *volleyv1.Param {
	p := floats(name, lo, hi, steps)
	p.GetFloatRange().Scale = logScale
	return p
}

func ints(name string, lo, hi, step int64) *volleyv1.Param {
	return &volleyv1.Param{Name: name, Axis: &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Min: lo, Max: hi, Step: step}}}
}

func logInts2(name string, lo, hi int64, steps uint64) *volleyv1.Param {
	return &volleyv1.Param{Name: name, Axis: &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Min: lo, Max: hi, Steps: steps, Scale: logScale}}}
}

func repeats(name string, n uint64) *volleyv1.Param {
	return &volleyv1.Param{Name: name, Axis: &volleyv1.Param_Repeat{Repeat: n}}
}

func when(p *volleyv1.Param, cond string) *volleyv1.Param {
	p.When = cond
	return p
}

func sweep(s volleyv1.Sampler, params ...*volleyv1.Param) *volleyv1.Sweep {
	return &volleyv1.Sweep{Sampler: s, Params: params}
}

func drawn(s volleyv1.Sampler, points uint64, params ...*volleyv1.Param) *volleyv1.Sweep {
	return &volleyv1.Sweep{Sampler: s, Params: params, Points: points, Seed: 7}
}

func excluding(sw *volleyv1.Sweep, expression string) *volleyv1.Sweep {
	sw.Exclude = expression
	return sw
}

func table(s volleyv1.Sampler, columns []string, cells ...any) *volleyv1.Sweep {
	t := &volleyv1.Table{Columns: columns}
	for _, c := range cells {
		t.Cells = append(t.Cells, pv(c))
	}
	return &volleyv1.Sweep{Sampler: s, Table: t}
}

func mustSpace(tb testing.TB, sw *volleyv1.Sweep) *Space {
	tb.Helper()
	s, err := NewSpace(sw)
	if err != nil {
		tb.Fatalf("NewSpace: %v", err)
	}
	return s
}

func allPoints(tb testing.TB, s *Space) []string {
	tb.Helper()
	list := make([]string, 0, s.Len())
	for i := range s.Len() {
		p, err := s.At(i)
		if err != nil {
			tb.Fatalf("At(%d): %v", i, err)
		}
		list = append(list, p.String())
	}
	return list
}
