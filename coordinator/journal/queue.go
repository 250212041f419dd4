// SPDX-License-Identifier: Apache-2.0

package journal

import "fmt"

// maxWaiting is how many bytes of records wait in Next before applying stops.
const maxWaiting = 64 << 20

// queue holds events between the one who emits and Next, merging committed
// records while nobody takes them. The owner's lock guards it, but for ready.
type queue struct {
	events []Event
	bytes  int // of records in events
	ready  chan struct{}
	// space is closed when bytes falls; nil while nobody waits for that.
	space chan struct{}

	delivered         uint64 // index of the last record or snapshot taken
	deliveredTerm     uint64 // and its term
	records, records0 uint64 // records taken, and at the newest snapshot
	size, size0       uint64 // bytes taken, and at the newest snapshot
}

func newQueue() queue {
	return queue{ready: make(chan struct{}, 1)}
}

func (q *queue) push(ev Event) {
	for _, r := range ev.Records {
		q.bytes += len(r.Data)
	}
	if n := len(q.events); n > 0 && ev.Kind == EventCommitted {
		if last := &q.events[n-1]; last.Kind == EventCommitted && last.Own == ev.Own && last.Term == ev.Term {
			last.Records = append(last.Records, ev.Records...)
			return // the token for it is there
		}
	}
	q.events = append(q.events, ev)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) pop() (Event, bool) {
	if len(q.events) == 0 {
		return Event{}, false
	}
	ev := q.events[0]
	q.events[0] = Event{}
	switch {
	case len(q.events) > 1:
		q.events = q.events[1:]
	case cap(q.events) > 64:
		q.events = nil // let go of a large array
	default:
		q.events = q.events[:0]
	}
	switch ev.Kind {
	case EventCommitted:
		n := 0
		for _, r := range ev.Records {
			n += len(r.Data)
		}
		q.bytes -= n
		q.records += uint64(len(ev.Records))
		q.size += uint64(n)
		q.delivered, q.deliveredTerm = ev.Records[len(ev.Records)-1].Index, ev.Term
		q.freed()
	case EventRestore:
		q.delivered, q.deliveredTerm = ev.Index, ev.Term
		q.records0, q.size0 = q.records, q.size
	}
	return ev, true
}

// waitSpace returns what is closed when bytes falls next.
func (q *queue) waitSpace() <-chan struct{} {
	if q.space == nil {
		q.space = make(chan struct{})
	}
	return q.space
}

// freed wakes who waits for space.
func (q *queue) freed() {
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
}

// mayCut says why Snapshot must refuse at this point, the same for every
// implementation: writing tells of a snapshot that is not done yet, proposed
// counts own records that are not delivered.
func (q *queue) mayCut(closed bool, failure error, writing bool, proposed int) error {
	switch {
	case closed:
		return ErrClosed
	case failure != nil:
		return failure
	case writing:
		return fmt.Errorf("%w: another one is being written", ErrBusy)
	case proposed > 0:
		return fmt.Errorf("%w: %d own records are not delivered", ErrBusy, proposed)
	case len(q.events) > 0:
		return fmt.Errorf("%w: %d events wait in Next", ErrBusy, len(q.events))
	case q.delivered == 0:
		return ErrEmpty
	}
	return nil
}
