// SPDX-License-Identifier: Apache-2.0

package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram gathers durations from a microsecond to an hour with three
// significant digits. It is safe for concurrent use.
type histogram struct {
	name string
	mu   sync.Mutex
	h    *hdrhistogram.Histogram
}

const (
	shortest = time.Microsecond
	longest  = time.Hour
)

func newHistogram(name string) *histogram {
	return &histogram{name: name, h: hdrhistogram.New(int64(shortest), int64(longest), 3)}
}

// add takes durations outside the bounds as the bound.
func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.h.RecordValue(int64(min(max(d, shortest), longest))); err != nil {
		panic(err) // the value is within what New was given
	}
}

// appendTo appends the distribution, if there is one.
func (h *histogram) appendTo(list []Distribution) []Distribution {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h.TotalCount() == 0 {
		return list
	}
	at := func(q float64) float64 { return float64(h.h.ValueAtQuantile(q)) / float64(time.Millisecond) }
	return append(list, Distribution{
		Name: h.name, Count: h.h.TotalCount(), P50: at(50), P99: at(99), P999: at(99.9),
		Max: float64(h.h.Max()) / float64(time.Millisecond),
	})
}
