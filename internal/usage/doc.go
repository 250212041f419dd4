// SPDX-License-Identifier: Apache-2.0

// Package usage reads what a process has used of the machine: CPU time, memory
// and writes, as the operating system counts them.
//
// Every call reads the counters anew and blocks for no longer than a system
// call takes. Counters grow from the start of the process, so a difference of
// two readings is what happened between them. What a system does not tell is
// zero.
package usage
