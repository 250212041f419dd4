// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// report is what a task says about itself: one JSON object, merged from lines
// on its socket and results.json.
type report struct {
	members []member
	notes   []string
}

type member struct {
	key   string
	value json.RawMessage
}

// errTooLarge reports an object above maxResults.
var errTooLarge = fmt.Errorf("larger than %d bytes", maxResults)

// merge takes the members of a JSON object; of the same key the later holds.
// "metrics" is merged by its own members. On an error nothing is taken.
func (m *report) merge(object []byte) error {
	members, err := parseObject(object)
	if err != nil {
		return err
	}
	next := slices.Clone(m.members)
	for _, x := range members {
		i := slices.IndexFunc(next, func(o member) bool { return o.key == x.key })
		switch {
		case i < 0:
			next = append(next, x)
		case x.key == "metrics":
			next[i].value = mergeObjects(next[i].value, x.value)
		default:
			next[i].value = x.value
		}
	}
	if sizeOf(next) > maxResults {
		return errTooLarge
	}
	m.members = next
	return nil
}

// mergeLine takes one line of the socket: {"metrics": {…}} or {"result": {…}},
// whose members are those of results.json.
func (m *report) mergeLine(line []byte) error {
	members, err := parseObject(line)
	if err != nil {
		return err
	}
	if len(members) == 0 {
		return errors.New(`empty object; want {"metrics": {…}} or {"result": {…}}`)
	}
	for _, x := range members {
		if x.key != "metrics" && x.key != "result" {
			return fmt.Errorf(`unknown key %q; want "metrics" or "result"`, x.key)
		}
		if _, err := parseObject(x.value); err != nil {
			return fmt.Errorf("%s: %w", x.key, err)
		}
	}
	next := report{members: m.members}
	for _, x := range members {
		body := []byte(x.value)
		if x.key == "metrics" {
			body = slices.Concat([]byte(`{"metrics":`), x.value, []byte(`}`))
		}
		if err := next.merge(body); err != nil {
			return err
		}
	}
	m.members = next.members
	return nil
}

// note adds a remark for the reason of the attempt.
func (m *report) note(text string) {
	if len(m.notes) < 3 {
		m.notes = append(m.notes, text)
	}
}

// finish puts the object and the metric into the result. Neither changes the
// outcome: the task is done, whatever it says about itself.
func (m *report) finish(metric string, r *Result) {
	if len(m.members) > 0 {
		r.Output = encode(m.members)
	}
	if metric != "" {
		if err := m.metric(metric, r); err != nil {
			m.note(err.Error())
		}
	}
	if len(m.notes) > 0 {
		if r.Reason != "" {
			r.Reason += "; "
		}
		r.Reason += strings.Join(m.notes, "; ")
	}
}

// metric looks for a number of that name at the top and in "metrics".
func (m *report) metric(name string, r *Result) error {
	value, ok := find(m.members, name)
	if !ok {
		if nested, has := find(m.members, "metrics"); has {
			if members, err := parseObject(nested); err == nil {
				value, ok = find(members, name)
			}
		}
	}
	if !ok {
		return nil
	}
	var f float64
	if err := json.Unmarshal(value, &f); err != nil || bytes.Equal(value, []byte("null")) || math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Errorf("metric %q is no finite number: %s", name, clip(value))
	}
	r.Metric, r.HasMetric = f, true
	return nil
}

func clip(b []byte) string {
	if len(b) > 40 {
		return string(b[:40]) + "…"
	}
	return string(b)
}

func find(members []member, key string) (json.RawMessage, bool) {
	for _, m := range members {
		if m.key == key {
			return m.value, true
		}
	}
	return nil, false
}

// parseObject splits a JSON object into its members, in their order. Numbers
// stay as they were written: a map of float64 would change 2^53+1. Python's
// NaN and Infinity are no JSON; they are told by name.
func parseObject(b []byte) ([]member, error) {
	if len(b) > maxResults {
		return nil, errTooLarge
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	t, err := dec.Token()
	if err != nil {
		return nil, jsonError(b, err)
	}
	if t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object: %s", clip(bytes.TrimSpace(b)))
	}
	var members []member
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, jsonError(b, err)
		}
		var x member
		x.key, _ = t.(string) // a key is always a string
		if err := dec.Decode(&x.value); err != nil {
			return nil, jsonError(b, err)
		}
		if i := slices.IndexFunc(members, func(o member) bool { return o.key == x.key }); i >= 0 {
			members[i].value = x.value
			continue
		}
		members = append(members, x)
	}
	if _, err := dec.Token(); err != nil {
		return nil, jsonError(b, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("invalid JSON: more follows the object")
	}
	return members, nil
}

func jsonError(b []byte, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("invalid JSON: it ends too early")
	}
	for _, word := range []string{"NaN", "Infinity"} {
		if bytes.Contains(b, []byte(word)) {
			return fmt.Errorf("invalid JSON: %w (JSON has no %s)", err, word)
		}
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

// mergeObjects merges b into a when both are objects; else b holds.
func mergeObjects(a, b json.RawMessage) json.RawMessage {
	x, err := parseObject(a)
	y, yerr := parseObject(b)
	if err != nil || yerr != nil {
		return b
	}
	for _, m := range y {
		if i := slices.IndexFunc(x, func(o member) bool { return o.key == m.key }); i >= 0 {
			x[i].value = m.value
			continue
		}
		x = append(x, m)
	}
	return encode(x)
}

func sizeOf(members []member) int {
	n := 2
	for _, m := range members {
		n += len(m.key) + len(m.value) + 4
	}
	return n
}

func encode(members []member) json.RawMessage {
	out := append(make([]byte, 0, sizeOf(members)), '{')
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			continue // a string always encodes
		}
		out = append(append(out, key...), ':')
		var compact bytes.Buffer
		if json.Compact(&compact, m.value) == nil {
			out = append(out, compact.Bytes()...)
		} else {
			out = append(out, "null"...) // values were parsed before
		}
	}
	return append(out, '}')
}

// readRegular reads a file of at most limit bytes. A pipe or a link that a task
// has put there must not block the worker or make it read another file.
func readRegular(path string, limit int64) ([]byte, time.Time, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) {
			err = errors.New("is a symbolic link")
		}
		return nil, time.Time{}, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("is not a regular file")
	}
	if info.Size() > limit {
		return nil, time.Time{}, errTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errTooLarge
	}
	return b, info.ModTime(), err
}

// onlyFile reports whether dir holds nothing but name, links to inputs, and
// the file of records.
func onlyFile(dir, name string, inputs []*volleyv1.Input) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		ours := e.Name() == name || strings.HasPrefix(e.Name(), "records.") && e.Type().IsRegular()
		for _, in := range inputs {
			top, _, _ := strings.Cut(filepath.ToSlash(filepath.Clean(in.GetPath())), "/")
			ours = ours || e.Name() == top
		}
		if !ours {
			return false, nil
		}
	}
	return true, nil
}
