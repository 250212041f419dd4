// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Rest waits for what runs and for what was granted, and lets nothing begin
// after it.
func TestRest(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	r := c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, 100, nil)}, Grants: []*volleyv1.Grant{grantOf(7, 1, 0, 2)}})
	first := g.next()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.agent.Rest(gone, func() {}); !errors.Is(err, context.Canceled) {
		t.Fatalf("rest beside a task: %v", err)
	}
	waits, rested := make(chan struct{}, 2), make(chan error, 1)
	go func() { rested <- r.agent.Rest(t.Context(), func() { waits <- struct{}{} }) }()
	<-waits
	first.succeed()
	second := g.next() // work goes on meanwhile
	select {
	case err := <-rested:
		t.Fatalf("rests beside a task: %v", err)
	default:
	}
	second.succeed()
	if err := <-rested; err != nil {
		t.Fatal(err)
	}
	s.send(&volleyv1.ConnectResponse{Grants: []*volleyv1.Grant{grantOf(7, 1, 5, 1)}})
	l := newLedger(t)
	s.collect(l, true, "return", func() bool { return size(l.returned, 7) == 1 && l.finished(7) == 2 })
	if len(g.tasks) > 0 || len(waits) > 0 {
		t.Errorf("%d tasks began after the rest, %d more waits", len(g.tasks), len(waits))
	}
	if err := r.agent.Rest(gone, func() { t.Error("waits again") }); err != nil {
		t.Error(err)
	}
}

// Kill stops what runs and answers how much it was.
func TestKill(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	r := c.start(Config{Executor: g, Capacity: cpus(2)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, 100, nil)}, Grants: []*volleyv1.Grant{grantOf(7, 2, 0, 9)}})
	g.next()
	g.next()
	if n := r.agent.Kill(); n != 2 || len(g.tasks) > 0 {
		t.Errorf("%d killed, want 2; %d began", n, len(g.tasks))
	}
	if n := r.agent.Kill(); n != 0 {
		t.Errorf("%d killed where nothing runs", n)
	}
}

// What an earlier process left is delivered; nothing starts, and bye is the end
// although the stream ends.
func TestDeliver(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	dir := t.TempDir()
	r := c.start(Config{Executor: g, Capacity: cpus(1), DataDir: dir})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{Jobs: []*volleyv1.WorkerJob{jobOf(1, 100, nil)}, Grants: []*volleyv1.Grant{grantOf(7, 1, 0, 1)}})
	g.next().succeed()
	s.await("report", func(m *volleyv1.ConnectRequest) bool { return m.GetReport() != nil })
	s.end <- errors.New("gone") // the report is not acknowledged
	r.cancel()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}

	open := func() *Agent {
		a, err := New(Config{Executor: g, Capacity: cpus(1), DataDir: dir, Dial: c.dial})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	if n := a.Pending(); n != 1 {
		t.Fatalf("%d reports pending, want 1", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- a.Deliver(ctx) }()
	for s = c.next(); len(s.hello.GetHeld()) == 0; s = c.next() {
		s.end <- nil // a stream of the first agent's
	}
	s.send(&volleyv1.ConnectResponse{Welcome: &volleyv1.Welcome{LeaseTtlMs: 30000}, Jobs: []*volleyv1.WorkerJob{jobOf(1, 100, nil)}, Grants: []*volleyv1.Grant{grantOf(8, 1, 5, 1)}})
	l := newLedger(t)
	s.collect(l, true, "results", func() bool { return l.finished(7) == 1 && size(l.returned, 8) == 1 })
	s.await("bye", func(m *volleyv1.ConnectRequest) bool { return m.GetBye() })
	s.end <- nil
	if err := <-delivered; err != nil {
		t.Fatal(err)
	}
	if len(c.sessions) > 0 || len(g.tasks) > 0 {
		t.Error("it came back, or began a task")
	}
	a = open()
	if n := a.Pending(); n != 0 {
		t.Errorf("%d reports pending after the delivery", n)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}

	// With nothing to deliver nobody has to answer.
	a = open()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Deliver(soon); err != nil {
		t.Errorf("nothing to deliver: %v", err)
	}
}
