// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"fmt"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func goldenSpec() *volleyv1.JobSpec {
	return &volleyv1.JobSpec{
		Name:    "not part of it",
		Queue:   "nor this",
		Command: []string{"python3", "train.py", "--lr", "{lr}"},
		Env:     []*volleyv1.EnvVar{{Name: "B", Value: "2"}, {Name: "A", Value: "1"}},
		Inputs:  []*volleyv1.Input{{Path: "train.py", Digest: make([]byte, 32), Size: 7, Mode: 0o644}},
	}
}

func goldenPoint(t *testing.T) Point {
	t.Helper()
	p, err := NewPoint([]string{"lr", "depth", "opt", "nesterov", "gone"},
		[]Value{FloatValue(0.001), IntValue(-8), StringValue("sgd"), BoolValue(true), {}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// These values are a promise: finished points are found again by them. When
// this test fails, the encoding has drifted, and every sweep of every user
// would run from the start. A deliberate change needs a new version string.
func TestIdentityGolden(t *testing.T) {
	t.Parallel()
	h := NewHasher(goldenSpec())
	for _, tt := range []struct {
		name string
		got  ID
		want string
	}{
		{"point", h.Point(goldenPoint(t)), "116d12483a93eed128451890bcb5b613"},
		{"no parameters", h.Point(Point{}), "7b776c9f759492bb2b34eb6d4d7f0e26"},
		{"index", h.Index(12345678901), "e1e51e30232f844ed9715d6536aaea49"},
		{"material", h.Material([]byte("rows")), "447002ff31a4da47fab3826e13510ad2"},
		{"parameters", ParamsIdentity(goldenPoint(t)), "a01012f9dcf61521f5ebb484c9bbc494"},
		{"empty job", NewHasher(&volleyv1.JobSpec{}).Point(Point{}), "c8832411e85f73fc09d20ee21d330f4e"},
	} {
		if tt.got.String() != tt.want {
			t.Errorf("identity of %s is %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}

// The values of the samplers are a promise as well: a worker of another
// release must compute the same point.
func TestPointsGolden(t *testing.T) {
	t.Parallel()
	params := []*volleyv1.Param{
		floats("x", -1, 1, 0), logFloats("lr", 1e-5, 0.1, 0), ints("n", 0, 1000, 1), logInts2("w", 1, 4096, 0), choices("c", "a", "b", "c"),
	}
	for _, tt := range []struct {
		sampler volleyv1.Sampler
		want    [2]string
	}{
		{randomSampler, [2]string{
			`{"x":0.89318320163846,"lr":2.62494838232e-05,"n":919,"w":250,"c":"a"}`,
			`{"x":-0.95470773976965,"lr":0.005270456868028,"n":808,"w":166,"c":"c"}`,
		}},
		{sobolSampler, [2]string{
			`{"x":0.71490607825977,"lr":1.481282858723e-05,"n":23,"w":2895,"c":"c"}`,
			`{"x":-0.16595329674023,"lr":0.03808853311801,"n":187,"w":249,"c":"b"}`,
		}},
		{lhsSampler, [2]string{
			`{"x":0.04549402059675,"lr":0.0004256409203441,"n":849,"w":1,"c":"b"}`,
			`{"x":-0.38580698063087,"lr":1.221495372809e-05,"n":278,"w":2,"c":"c"}`,
		}},
	} {
		s := mustSpace(t, drawn(tt.sampler, 1000, params...))
		for k, i := range []uint64{0, 777} {
			p, err := s.At(i)
			if err != nil {
				t.Fatal(err)
			}
			if p.String() != tt.want[k] {
				t.Errorf("%s point %d is %s, want %s", samplerName(tt.sampler), i, p, tt.want[k])
			}
		}
	}
}

// Everything that the task sees changes the identity, and nothing else does.
func TestIdentityCovers(t *testing.T) {
	t.Parallel()
	base := NewHasher(goldenSpec()).Point(goldenPoint(t))
	seen := map[ID]string{base: "base"}
	for name, change := range map[string]func(*volleyv1.JobSpec){
		"command word":       func(s *volleyv1.JobSpec) { s.Command[1] = "eval.py" },
		"words joined":       func(s *volleyv1.JobSpec) { s.Command = []string{"python3", "train.py--lr", "{lr}"} },
		"run instead":        func(s *volleyv1.JobSpec) { s.Command, s.Run = nil, "python3 train.py --lr {lr}" },
		"env value":          func(s *volleyv1.JobSpec) { s.Env[0].Value = "3" },
		"env moved to name":  func(s *volleyv1.JobSpec) { s.Env[0].Name, s.Env[0].Value = "B2", "" },
		"env less":           func(s *volleyv1.JobSpec) { s.Env = s.Env[:1] },
		"input digest":       func(s *volleyv1.JobSpec) { s.Inputs[0].Digest[3] = 1 },
		"input path":         func(s *volleyv1.JobSpec) { s.Inputs[0].Path = "train2.py" },
		"input as env":       func(s *volleyv1.JobSpec) { s.Inputs = nil; s.Env = append(s.Env, &volleyv1.EnvVar{Name: "train.py"}) },
		"workdir":            func(s *volleyv1.JobSpec) { s.Workdir = "/srv/a" },
		"no inputs":          func(s *volleyv1.JobSpec) { s.Inputs = nil },
		"one word, no words": func(s *volleyv1.JobSpec) { s.Command = []string{""} },
	} {
		spec := goldenSpec()
		change(spec)
		id := NewHasher(spec).Point(goldenPoint(t))
		if other, dup := seen[id]; dup {
			t.Errorf("%s has the identity of %s", name, other)
		}
		seen[id] = name
	}
	spec := goldenSpec()
	spec.Name, spec.Queue, spec.Concurrency, spec.Resources = "x", "y", 3, &volleyv1.Resources{Gpu: 1}
	spec.Env[0], spec.Env[1] = spec.Env[1], spec.Env[0]
	spec.Inputs[0].Mode = 0o755
	if NewHasher(spec).Point(goldenPoint(t)) != base {
		t.Error("name, queue, resources or the order of env change the identity")
	}
}

func TestIdentityOfValues(t *testing.T) {
	t.Parallel()
	id := func(v Value) ID {
		p, err := NewPoint([]string{"v"}, []Value{v})
		if err != nil {
			t.Fatal(err)
		}
		return ParamsIdentity(p)
	}
	different := []Value{
		{},
		IntValue(0), IntValue(1), StringValue("1"), BoolValue(true), StringValue("true"), FloatValue(1.5), StringValue("1.5"),
		StringValue(""), IntValue(1 << 53), IntValue(1<<53 + 1), BoolValue(false),
	}
	seen := map[ID]Value{}
	for _, v := range different {
		if other, dup := seen[id(v)]; dup {
			t.Errorf("%#v and %#v have one identity", v, other)
		}
		seen[id(v)] = v
	}
	if id(FloatValue(2)) != id(IntValue(2)) {
		t.Error("2.0 and 2 differ, though no task can tell")
	}
	a, _ := NewPoint([]string{"a", "b"}, []Value{IntValue(1), IntValue(2)})
	b, _ := NewPoint([]string{"b", "gone", "a"}, []Value{IntValue(2), {}, IntValue(1)})
	if ParamsIdentity(a) != ParamsIdentity(b) {
		t.Error("the order of declaration changes the identity")
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	id := NewHasher(goldenSpec()).Index(1)
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("ParseID(%s) = %s, %v", id, got, err)
	}
	for _, s := range []string{"", "00", id.String() + "00", id.String()[1:] + "g"} {
		var e *Error
		if _, err := ParseID(s); !errors.As(err, &e) {
			t.Errorf("ParseID(%q) = %v", s, err)
		}
	}
}

func TestNewPointErrors(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"a"}, {"a", "a"}, {"a", "b-c"}, {"a", "job"}} {
		if _, err := NewPoint(names, []Value{IntValue(1), IntValue(2)}); err == nil {
			t.Errorf("NewPoint(%q) is no error", names)
		}
	}
}

func TestIdentityAllocations(t *testing.T) {
	h, p := NewHasher(goldenSpec()), goldenPoint(t)
	if n := testing.AllocsPerRun(100, func() { h.Point(p) }); n > 0 {
		t.Errorf("an identity allocates %v times", n)
	}
	if got := fmt.Sprint(h.Point(p)); len(got) != 32 {
		t.Errorf("identity %s", got)
	}
}
