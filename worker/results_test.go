// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMergeResults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lines  []string
		file   string
		want   string
		metric float64
		has    bool
		reason string
	}{
		{file: `{"loss": 1e-3}`, want: `{"loss":1e-3}`, metric: 1e-3, has: true},
		{lines: []string{`{"metrics": {"loss": 3, "acc": 1}}`, `{"metrics": {"loss": 2}}`}, want: `{"metrics":{"loss":2,"acc":1}}`, metric: 2, has: true},
		{lines: []string{`{"result": {"loss": 3}}`}, file: `{"loss": 4}`, want: `{"loss":4}`, metric: 4, has: true},
		{file: `{"loss": null}`, want: `{"loss":null}`, reason: `metric "loss" is no finite number: null`},
		{file: `{"loss": 1e999}`, want: `{"loss":1e999}`, reason: "no finite number"},
		{file: `[1]`, reason: "not a JSON object"},
		{file: ``, reason: "ends too early"},
		{file: `{"a": 1} {"b": 2}`, reason: "more follows"},
		{file: `{"a": 1, "a": 2}`, want: `{"a":2}`},
		{file: `{}`, want: ""},
	} {
		var m report
		for _, l := range tc.lines {
			if err := m.mergeLine([]byte(l)); err != nil {
				t.Errorf("%s: %v", l, err)
			}
		}
		if tc.file != "" || len(tc.lines) == 0 {
			if err := m.merge([]byte(tc.file)); err != nil {
				m.note(err.Error())
			}
		}
		var r Result
		m.finish("loss", &r)
		if string(r.Output) != tc.want || r.Metric != tc.metric || r.HasMetric != tc.has || !strings.Contains(r.Reason, tc.reason) || tc.reason == "" && r.Reason != "" {
			t.Errorf("%v %s: output %s metric %v %v reason %q", tc.lines, tc.file, r.Output, r.Metric, r.HasMetric, r.Reason)
		}
	}
}

func TestMergedResultsAreBounded(t *testing.T) {
	t.Parallel()
	var m report
	line := `{"result": {"k%": "` + strings.Repeat("x", 30<<10) + `"}}`
	for i, want := range []bool{true, true, false} {
		err := m.mergeLine([]byte(strings.Replace(line, "%", string(rune('0'+i)), 1)))
		if (err == nil) != want {
			t.Errorf("line %d: %v", i, err)
		}
	}
	if len(m.members) != 2 {
		t.Errorf("%d members, want the two that fit", len(m.members))
	}
}

func FuzzMergeLine(f *testing.F) {
	f.Add([]byte(`{"metrics": {"a": 1}}`), []byte(`{"result": {"metrics": 3}}`))
	f.Add([]byte(`{"metrics": {"a": NaN}}`), []byte("{\"\\ud800\": [1, {}]}"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var m report
		for _, line := range [][]byte{a, b} {
			// Refused or taken; what was taken is a JSON object either way.
			_ = m.mergeLine(line)
			_ = m.merge(line)
		}
		var r Result
		m.finish("a", &r)
		if len(r.Output) == 0 {
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(r.Output, &object); err != nil {
			t.Fatalf("output %q: %v", r.Output, err)
		}
	})
}
