// SPDX-License-Identifier: Apache-2.0

// Package bench measures whole paths through the real binary and the real
// server, and compares them with what a user would do instead.
//
// Every comparison is a pair in one iteration: ours and the other, one after
// the other on the same machine in the same minute, reported as a ratio. On a
// machine that others use, a ratio of two such runs means something and a
// single time does not. No test passes or fails by these figures.
//
// Benchmarks of single functions stand beside the functions.
package bench
