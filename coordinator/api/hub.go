// SPDX-License-Identifier: Apache-2.0

package api

import (
	"sync"

	"github.com/volley-batch/volley/coordinator/state"
)

// hub tells watchers that a job has changed. It is level-triggered: a watcher
// gets one token however much has changed, and reads the job itself. Queues of
// changes would grow with the slowest watcher.
type hub struct {
	mu       sync.Mutex
	watchers map[uint64]map[chan struct{}]struct{}
	closed   chan struct{}
	once     sync.Once
}

func newHub() *hub {
	return &hub{watchers: map[uint64]map[chan struct{}]struct{}{}, closed: make(chan struct{})}
}

func (h *hub) close() { h.once.Do(func() { close(h.closed) }) }

func (h *hub) release(effects []state.Effect) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) == 0 {
		return
	}
	for _, e := range effects {
		var job uint64
		switch e := e.(type) {
		case state.JobEffect:
			job = e.Job
		case state.ForgetEffect:
			job = e.Job
		default:
			continue
		}
		for c := range h.watchers[job] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

// watch returns a channel that has a token after every change of the job, and
// a function that ends the watch.
func (h *hub) watch(job uint64) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers[job] == nil {
		h.watchers[job] = map[chan struct{}]struct{}{}
	}
	h.watchers[job][c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers[job], c)
		if len(h.watchers[job]) == 0 {
			delete(h.watchers, job)
		}
	}
}
