// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"sync"
	"time"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// hub tells watchers what has become of their jobs. Each watched job has one
// topic, which reads the job once for all its watchers: a view for each of a
// thousand watchers would keep the engine from its work. It is level-triggered:
// a topic holds the newest reading only, since queues of changes would grow
// with the slowest watcher.
type hub struct {
	engine Engine

	mu     sync.Mutex
	topics map[uint64]*topic
	// readings numbers the readings in the order in which the engine made them.
	readings uint64

	closed chan struct{}
	once   sync.Once
}

// reading is one look at a job.
type reading struct {
	number   uint64
	job      *volleyv1.Job
	terminal bool
	// err: the job cannot be read any more, because it was purged or the
	// engine has stopped. It is the topic's last.
	err error
}

// topic is one watched job.
type topic struct {
	hub  *hub
	job  uint64
	stop context.CancelFunc

	// Guarded by hub.mu.
	watchers map[*watcher]struct{}
	last     reading
	// published is closed and replaced with every reading.
	published chan struct{}

	// changed and ended have room for one token: the job is not what it was,
	// and it may have come to its end or be gone.
	changed, ended chan struct{}
	// joined has a token after a watcher came, who may be less patient.
	joined chan struct{}
}

// watcher is one subscription.
type watcher struct {
	topic    *topic
	interval time.Duration
}

func newHub(e Engine) *hub {
	return &hub{engine: e, topics: map[uint64]*topic{}, closed: make(chan struct{})}
}

func (h *hub) close() {
	h.once.Do(func() {
		close(h.closed)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, t := range h.topics {
			t.stop()
		}
	})
}

func (h *hub) release(effects []state.Effect) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.topics) == 0 {
		return
	}
	for _, e := range effects {
		switch e := e.(type) {
		case state.JobEffect:
			if t := h.topics[e.Job]; t != nil {
				token(t.changed)
				if e.Terminal {
					token(t.ended)
				}
			}
		case state.ForgetEffect:
			if t := h.topics[e.Job]; t != nil {
				token(t.ended)
			}
		}
	}
}

func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// watch subscribes to a job. Call it inside of a view, so that nothing can
// happen between what the view reads and the first change that is told; the
// reading is that of this view.
func (h *hub) watch(j *state.Job, interval time.Duration) (*watcher, reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[j.ID]
	if t == nil {
		ctx, cancel := context.WithCancel(context.Background())
		t = &topic{
			hub: h, job: j.ID, stop: cancel, watchers: map[*watcher]struct{}{}, published: make(chan struct{}),
			changed: make(chan struct{}, 1), ended: make(chan struct{}, 1), joined: make(chan struct{}, 1),
		}
		h.topics[j.ID] = t
		select {
		case <-h.closed:
			cancel()
		default:
		}
		go t.run(ctx)
	}
	w := &watcher{topic: t, interval: interval}
	t.watchers[w] = struct{}{}
	token(t.joined)
	return w, h.read(j)
}

// read looks at a job. Called inside of a view, with mu held.
func (h *hub) read(j *state.Job) reading {
	h.readings++
	return reading{number: h.readings, job: j.Proto(), terminal: j.Terminal()}
}

func (w *watcher) close() {
	t := w.topic
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	delete(t.watchers, w)
	if len(t.watchers) == 0 {
		t.stop()
		if t.hub.topics[t.job] == t {
			delete(t.hub.topics, t.job)
		}
	}
}

// newest returns the topic's last reading and a channel that is closed with
// the next one.
func (w *watcher) newest() (reading, <-chan struct{}) {
	w.topic.hub.mu.Lock()
	defer w.topic.hub.mu.Unlock()
	return w.topic.last, w.topic.published
}

// run reads the job after changes until the last watcher has gone: at once
// when it may have ended, else no more often than the most impatient watcher
// wants to know.
func (t *topic) run(ctx context.Context) {
	defer t.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.ended:
		case <-t.changed:
		}
		r := t.read(ctx)
		if ctx.Err() != nil {
			return
		}
		if t.publish(r); r.err != nil {
			return
		}
		if !t.rest(ctx, time.Now()) {
			return
		}
	}
}

// rest waits until the next reading is due for one watcher at least, or at
// once. It answers false when ctx has ended.
func (t *topic) rest(ctx context.Context, since time.Time) bool {
	for {
		pause := time.NewTimer(time.Until(since.Add(t.interval())))
		select {
		case <-pause.C:
			return true
		case <-t.ended:
			token(t.ended) // for run
			pause.Stop()
			return true
		case <-t.joined:
			pause.Stop()
		case <-ctx.Done():
			pause.Stop()
			return false
		}
	}
}

func (t *topic) read(ctx context.Context) (r reading) {
	err := t.hub.engine.View(ctx, func(st *state.State) {
		j := st.Job(t.job)
		if j == nil {
			r.err = notFound(formatID(t.job))
			return
		}
		t.hub.mu.Lock()
		defer t.hub.mu.Unlock()
		r = t.hub.read(j)
	})
	if err != nil {
		r.err = toStatus(err)
	}
	return r
}

func (t *topic) publish(r reading) {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	if r.err != nil {
		// Whoever comes now begins anew.
		if t.hub.topics[t.job] == t {
			delete(t.hub.topics, t.job)
		}
		r.number = t.last.number
	}
	t.last = r
	close(t.published)
	t.published = make(chan struct{})
}

func (t *topic) interval() time.Duration {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	shortest := maxInterval
	for w := range t.watchers {
		shortest = min(shortest, w.interval)
	}
	return shortest
}
