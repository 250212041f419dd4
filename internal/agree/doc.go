// SPDX-License-Identifier: Apache-2.0

// Package agree proves that coordinator and worker agree: its tests run both,
// as they are, over connections that break at every moment, and count what was
// executed and what was recorded. Neither may import the other, so the proof
// has a place of its own.
//
// Everything random follows from a seed, but for what the scheduler of the
// operating system adds. A failure prints the command that runs the seed again
// and the last messages.
package agree
