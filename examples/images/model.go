// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const modelVersion = 1

// model holds the middle of each class, in features that are scaled to the
// same spread: without it the feature with the largest numbers would decide.
type model struct {
	Version   int       `json:"version"`
	Mean      []float64 `json:"mean"`
	Deviation []float64 `json:"deviation"`
	Classes   []class   `json:"classes"`
}

type class struct {
	Label    string    `json:"label"`
	Images   int       `json:"images"`
	Centroid []float64 `json:"centroid"`
}

// example is one labelled image.
type example struct {
	label    string
	features []float64
}

// readExamples describes every file in the folders of a folder; the name of a
// folder is the label.
func readExamples(folder string) ([]example, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	if err != nil {
		return nil, fmt.Errorf("read examples: %w", err)
	}
	var list []example
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), ".") {
			continue
		}
		p, err := readPicture(file)
		if err != nil {
			return nil, err
		}
		list = append(list, example{filepath.Base(filepath.Dir(file)), describe(p.pixels).features()})
	}
	return list, nil
}

// fit computes the model. Examples in another order give the same model but for
// rounding; Glob sorts, so that the same folder gives the same file.
func fit(examples []example) (*model, error) {
	m := &model{Version: modelVersion, Mean: make([]float64, features), Deviation: make([]float64, features)}
	n := float64(len(examples))
	for _, e := range examples {
		for i, v := range e.features {
			m.Mean[i] += v / n
		}
	}
	for _, e := range examples {
		for i, v := range e.features {
			m.Deviation[i] += (v - m.Mean[i]) * (v - m.Mean[i]) / n
		}
	}
	for i, variance := range m.Deviation {
		m.Deviation[i] = math.Sqrt(variance)
		// A feature that never changes says nothing and must not divide by 0.
		if m.Deviation[i] < 1e-9 {
			m.Deviation[i] = 1
		}
	}
	for _, e := range examples {
		at := slices.IndexFunc(m.Classes, func(c class) bool { return c.Label == e.label })
		if at < 0 {
			at = len(m.Classes)
			m.Classes = append(m.Classes, class{Label: e.label, Centroid: make([]float64, features)})
		}
		c := &m.Classes[at]
		c.Images++
		for i, v := range m.scaled(e.features) {
			c.Centroid[i] += v
		}
	}
	if len(m.Classes) < 2 {
		return nil, fmt.Errorf("%d labels with images, want at least 2 folders", len(m.Classes))
	}
	for _, c := range m.Classes {
		for i := range c.Centroid {
			c.Centroid[i] /= float64(c.Images)
		}
	}
	slices.SortFunc(m.Classes, func(a, b class) int { return strings.Compare(a.Label, b.Label) })
	return m, nil
}

func (m *model) scaled(v []float64) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = (v[i] - m.Mean[i]) / m.Deviation[i]
	}
	return out
}

// classify is the nearest class and how clearly it is the nearest.
func (m *model) classify(v []float64) (label string, score float64) {
	first, second := math.Inf(1), math.Inf(1)
	scaled := m.scaled(v)
	for _, c := range m.Classes {
		sum := 0.0
		for i, x := range c.Centroid {
			sum += (scaled[i] - x) * (scaled[i] - x)
		}
		switch d := math.Sqrt(sum); {
		case d < first:
			first, second, label = d, first, c.Label
		case d < second:
			second = d
		}
	}
	// Two classes on one spot: no reason to prefer either.
	if second == 0 {
		return label, 0
	}
	return label, 1 - first/second
}

func readModel(name string) (*model, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	m, err := parseModel(text)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", name, err)
	}
	return m, nil
}

func parseModel(text []byte) (*model, error) {
	m := &model{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	if m.Version != modelVersion {
		return nil, fmt.Errorf("version %d, want %d: train it again", m.Version, modelVersion)
	}
	if len(m.Mean) != features || len(m.Deviation) != features {
		return nil, fmt.Errorf("%d means and %d deviations, want %d: train it again", len(m.Mean), len(m.Deviation), features)
	}
	if slices.ContainsFunc(m.Deviation, func(d float64) bool { return d <= 0 }) {
		return nil, errors.New("a deviation is not above 0")
	}
	if len(m.Classes) < 2 {
		return nil, fmt.Errorf("%d classes, want at least 2", len(m.Classes))
	}
	for _, c := range m.Classes {
		if c.Label == "" || len(c.Centroid) != features {
			return nil, fmt.Errorf("class %q has %d features, want a label and %d", c.Label, len(c.Centroid), features)
		}
	}
	return m, nil
}
