// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstLook is the age at which a task's memory is first looked at. To
	// shorter ones the 20 µs of a look would matter.
	firstLook = 10 * time.Millisecond
	// maxPause is the longest time between two looks at a task. The kernel keeps
	// the peak, and pauses grow by half: a look at two thirds of the task's life
	// or later sees all that came before.
	maxPause = time.Second
	// idleLooks is after how many looks without a task the meter sleeps.
	idleLooks = 100
)

// meter looks at the memory of the tasks of all slots. A timer for each task
// would cost every short task some microseconds.
type meter struct {
	mu    sync.Mutex
	slots map[*Slot]struct{}
	// asleep: nothing runs. Invariant: who sets it looks at the slots after;
	// who starts a task looks at it after.
	asleep atomic.Bool
	wake   chan struct{}
	stop   chan struct{}
}

func newMeter() *meter {
	m := &meter{slots: make(map[*Slot]struct{}), wake: make(chan struct{}, 1), stop: make(chan struct{})}
	m.asleep.Store(true)
	return m
}

func (m *meter) add(s *Slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots[s] = struct{}{}
}

func (m *meter) remove(s *Slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.slots, s)
}

// started wakes the meter for a task that its slot holds already.
func (m *meter) started() {
	if m.asleep.Load() && m.asleep.CompareAndSwap(true, false) {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// run looks until stop is closed.
func (m *meter) run() {
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	var tasks []*Task
	for idle := idleLooks; ; {
		if idle >= idleLooks {
			m.asleep.Store(true)
			if len(m.running(tasks)) == 0 {
				select {
				case <-m.wake:
				case <-m.stop:
					return
				}
			}
			m.asleep.Store(false)
			idle = 0
			timer.Reset(firstLook)
		}
		select {
		case <-timer.C:
		case <-m.stop:
			return
		}
		tasks = m.running(tasks)
		now := time.Now()
		for _, t := range tasks {
			t.look(now)
		}
		if idle++; len(tasks) > 0 {
			idle = 0
		}
		clear(tasks)
		timer.Reset(firstLook)
	}
}

// running lists the tasks of all slots in the memory of tasks.
func (m *meter) running(tasks []*Task) []*Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	tasks = tasks[:0]
	for s := range m.slots {
		if t := s.current.Load(); t != nil {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// look samples the task's memory when it is time to.
func (t *Task) look(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exited || now.Before(t.nextLook) {
		return // once it has ended the id may be another's
	}
	t.sampled = max(t.sampled, treePeak(t.pid))
	t.pause = min(t.pause+t.pause/2, maxPause)
	t.nextLook = now.Add(t.pause)
}
