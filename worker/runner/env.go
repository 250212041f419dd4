// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"slices"
	"strings"
)

// EnvBuilder builds the environments of the tasks of one job: the base is laid
// out once, each task adds its own names in the same memory. Not safe for
// concurrent use: one per slot.
//
//	b := NewEnvBuilder(base)
//	for … {
//		b.Reset()
//		b.Set("VOLLEY_INDEX", …)
//		spec.Env = b.Env()      // valid until the next Reset
//	}
type EnvBuilder struct {
	env  []string
	base int
	// Where a name of the base sits, so that a task's value replaces it: with
	// both present getenv finds the first, the shell the last.
	pos map[string]int
	// Base entries that the current task replaced.
	undo []replaced
}

type replaced struct {
	at   int
	item string
}

// NewEnvBuilder copies base. Of a name that occurs twice the last value holds;
// entries without "=" are dropped.
func NewEnvBuilder(base []string) *EnvBuilder {
	b := &EnvBuilder{env: make([]string, 0, len(base)+32), pos: make(map[string]int, len(base))}
	for _, item := range base {
		name, _, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			continue
		}
		if at, ok := b.pos[name]; ok {
			b.env[at] = item
			continue
		}
		b.pos[name] = len(b.env)
		b.env = append(b.env, item)
	}
	b.base = len(b.env)
	return b
}

// Reset drops what the last task added.
func (b *EnvBuilder) Reset() {
	for _, r := range slices.Backward(b.undo) {
		b.env[r.at] = r.item
	}
	b.undo = b.undo[:0]
	clear(b.env[b.base:])
	b.env = b.env[:b.base]
}

// Set gives name a value for this task. The name must not have been set for
// this task before; a name of the base is replaced.
func (b *EnvBuilder) Set(name, value string) {
	b.Add(name + "=" + value)
}

// Add is Set with "NAME=value" in one string, for values that many tasks share.
func (b *EnvBuilder) Add(item string) {
	name, _, ok := strings.Cut(item, "=")
	if !ok || name == "" {
		return
	}
	if at, ok := b.pos[name]; ok {
		b.undo = append(b.undo, replaced{at, b.env[at]})
		b.env[at] = item
		return
	}
	b.env = append(b.env, item)
}

// Env is the environment of the current task, valid until Reset.
func (b *EnvBuilder) Env() []string { return b.env }
