// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/volley-batch/volley/coordinator/scheduler"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// fault does something bad, and comes again.
func (s *sim) fault() {
	if s.calm {
		return
	}
	s.after(s.between(5*millisecond, 1500*millisecond), s.fault)
	w := pick(s, s.workers...)
	switch s.rng.IntN(15) {
	case 0:
		w.overtaken()
	case 14, 1, 2, 3:
		if w.session != nil {
			s.note("the connection of worker %s breaks", w.node)
			w.session.drop()
		}
	case 4, 5:
		w.kill()
		s.after(s.between(10*millisecond, 8*second), w.start)
	case 6, 7:
		if w.alive && !w.paused {
			s.note("worker %s is paused", w.node)
			w.paused = true
			s.after(s.between(10*millisecond, 8*second), w.resume)
		}
	case 8:
		w.leave()
		s.after(s.between(10*millisecond, 8*second), w.start)
	case 9:
		if w.alive && !w.paused && w.session != nil && w.welcome {
			w.drained = true
			w.session.up(&volleyv1.ConnectRequest{Drain: true})
		}
	case 10, 11:
		s.coord.crash(s.rng.IntN(100))
	case 12:
		s.coordFault()
	default:
		if s.coord.up {
			s.coord.mem.FailSnapshots(1)
		}
	}
}

// coordFault ends a life of the coordinator from within.
func (s *sim) coordFault() {
	c := s.coord
	if !c.up {
		return
	}
	if s.chance(0.5) {
		s.note("the coordinator loses leadership")
		c.mem.Depose(c.mem.Held())
	} else {
		s.note("the coordinator's disk fails")
		c.mem.FailDisk(syscall.EIO, 0)
		c.pending = nil
	}
	c.pump()
}

// becomeCalm ends all faults: from here on everything must come to its end.
func (s *sim) becomeCalm() {
	s.note("the faults stop")
	s.calm = true
	s.coord.start()
	for _, w := range s.workers {
		s.after(0, func() {
			w.resume()
			// One that drains takes no work; a new process does.
			if w.leaving || w.drained {
				w.kill()
			}
			s.after(0, w.start)
			// The last trouble, so that no later one heals what it has done.
			if s.chance(0.5) {
				w.overtaken()
			}
		})
	}
	// Whoever submitted and was not answered asks again.
	var again func()
	again = func() {
		for _, sub := range s.client.submits {
			if sub.job == 0 && !sub.waits && !sub.refuse {
				s.client.send(sub)
			}
		}
		s.after(100*millisecond, again)
	}
	s.after(0, again)
	// An array of 10^8 would run for ever.
	s.after(second, s.cancelHuge)
}

// huge is a size that is never run to its end here.
const huge = 100_000_000

func (s *sim) cancelHuge() {
	s.after(second, s.cancelHuge)
	if !s.coord.up || !s.coord.core.Leading() {
		return
	}
	st := s.coord.core.State()
	for _, id := range st.JobIDs() {
		if j := st.Job(id); j.Size == huge && !j.Terminal() && !j.Proto().GetCancelled() {
			s.coord.do(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: id, Terminate: true}}}, nil)
		}
	}
}

// finished says that everything has come to its end.
func (s *sim) finished() bool {
	c := s.coord
	if !c.up || !c.core.Leading() || len(c.inbox) > 0 || len(c.pending) > 0 || c.core.State().LiveJobs() > 0 {
		return false
	}
	for _, sub := range s.client.submits {
		if sub.job == 0 && !sub.refuse && s.opts.Bug != BugGrantEarly {
			return false
		}
	}
	for _, w := range s.workers {
		if !w.alive || len(w.spool) > 0 || len(w.leases) > 0 {
			return false
		}
	}
	return true
}

// stuck says what has not ended, and why the scheduler thinks so.
func (s *sim) stuck() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d s after the last fault the work has not ended", (s.now-s.calmAt)/second)
	st := s.coord.state()
	for _, id := range st.JobIDs() {
		if j := st.Job(id); !j.Terminal() {
			r := scheduler.Explain(st, j, nil)
			fmt.Fprintf(&b, "\n  job %d is %s, counts %v: %s", id, r.GetState(), j.Counts(), r.GetReason())
			for _, l := range j.Leases() {
				l := st.Lease(l)
				fmt.Fprintf(&b, "\n    lease %d of worker %s: %d remain, %d run, %d asked back", l.ID, st.Worker(l.Worker).Name(), l.Remaining(), l.Running(), l.Asked())
			}
		}
	}
	for _, w := range s.workers {
		fmt.Fprintf(&b, "\n  worker %s: alive %v, connected %v, spool %d, leases %d", w.node, w.alive, w.session != nil && w.welcome, len(w.spool), len(w.leases))
	}
	return b.String()
}
