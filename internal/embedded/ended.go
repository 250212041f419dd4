// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/volley-batch/volley/client"
)

// Error says that the coordinator or the worker of this process could not start
// or had to stop: the disk is full, the state is damaged.
type Error struct {
	// What has ended; empty where it did not begin.
	What string
	Err  error
}

func (e *Error) Error() string {
	if e.What == "" {
		return e.Err.Error()
	}
	// "the coordinator has stopped: coordinator: …" says it twice.
	text := strings.TrimPrefix(e.Err.Error(), "open the ")
	return e.What + ": " + strings.TrimPrefix(text, "coordinator: ")
}

func (e *Error) Unwrap() error { return e.Err }

// failed leaves the errors of calls as they are: their kind says more.
func failed(what string, err error) error {
	if _, ok := errors.AsType[*client.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{What: what, Err: err}
}

// ended is how the parts of an instance say that they ended by themselves.
type ended struct {
	once sync.Once
	// done is closed when first is set.
	done  chan struct{}
	first error
	errs  chan error
}

func newEnded() ended { return ended{done: make(chan struct{}), errs: make(chan error, 1)} }

// fail keeps the first error: the others follow from it.
func (e *ended) fail(what string, err error) {
	e.once.Do(func() {
		e.first = &Error{What: what, Err: err}
		close(e.done)
		e.errs <- e.first
	})
}

// Err gives an error when the coordinator or the worker of this process ends
// by itself.
func (e *ended) Err() <-chan error { return e.errs }

// afterthought is how long Reason waits: the calls that wait are answered a
// moment before the coordinator tells its owner.
const afterthought = time.Second

// Reason takes an error of a call and answers with what stands behind it. A
// call to a coordinator that a full disk has stopped only says that it stops.
// Reason blocks for at most a second, and only on such an error.
func (in *Instance) Reason(err error) error {
	if in.owner == nil || client.Kind(err) != client.Unreachable {
		return err
	}
	t := time.NewTimer(afterthought)
	defer t.Stop()
	select {
	case <-in.done:
		return in.first
	case <-t.C:
		return err
	}
}
