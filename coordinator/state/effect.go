// SPDX-License-Identifier: Apache-2.0

package state

import volleyv1 "github.com/volley-batch/volley/proto/volley/v1"

// Effect is something that the world outside must be told, once the entry that
// caused it is durable.
type Effect interface{ effect() }

// GrantEffect gives indexes to a worker.
type GrantEffect struct {
	Worker uint32
	Grant  *volleyv1.Grant
}

// RevokeEffect takes indexes away from a worker.
type RevokeEffect struct {
	Worker uint32
	Revoke *volleyv1.Revoke
}

// AckEffect tells a worker that its report is durable.
type AckEffect struct {
	Worker uint32
	Epoch  uint64
	Seq    uint64
}

// HelloEffect tells a worker's session that its Hello was taken in.
type HelloEffect struct {
	Worker uint32
	// Hello is the message itself: two streams of one worker may be open for a
	// moment, and only the one that this Hello came in may be told what
	// follows from it.
	Hello   *volleyv1.Hello
	Session uint64
}

// LostEffect says that a worker was given up: what it holds is not its own any
// more.
type LostEffect struct{ Worker uint32 }

// JobEffect says that a job has changed.
type JobEffect struct {
	Job uint64
	// Terminal: with this change every child has ended.
	Terminal bool
}

// ForgetEffect says that a job was purged.
type ForgetEffect struct{ Job uint64 }

func (GrantEffect) effect()  {}
func (RevokeEffect) effect() {}
func (AckEffect) effect()    {}
func (HelloEffect) effect()  {}
func (LostEffect) effect()   {}
func (JobEffect) effect()    {}
func (ForgetEffect) effect() {}
