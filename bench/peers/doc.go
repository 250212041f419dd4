// SPDX-License-Identifier: Apache-2.0

// Command peers runs the same work on volley and on what a user would take
// instead, and writes the comparison into docs/performance.md. Run it with
// `make bench-peers`, as root for all contestants.
//
// # Order and time
//
// Contestants take turns: every round runs each of them once, and each round
// begins with another one, so that a slow minute of the machine falls on all.
// What a contestant needs running (servers, workers) is started before its turn
// and killed after it; starting is timed apart from the rows. Nothing of one
// contestant runs during the turn of another. The rounds together are bounded
// by -limit; a round that cannot be finished in it is dropped whole, because
// half a round compares some contestants at another time than others.
//
// # Isolation
//
// The rounds run in namespaces of their own for processes, mounts, host name
// and network. The network has loopback only, so that nothing of Slurm, Ray or
// HyperQueue can be reached from outside whatever address it listens on. The
// command is the first process there: when it ends, also by kill -9, the kernel
// ends all daemons. Cleaning up by a list of process ids would miss those that
// daemonise. Data lies on the disk of the working copy, under .bench, and is
// removed at the end: a journal on a tmpfs would make fsync free.
//
// # What is counted
//
// Only tasks whose success the tool has confirmed count; fewer than were asked
// for are an error and no figure. CPU time is that of the control group, with
// all daemons and the tasks themselves. Memory is the sum of resident sizes,
// sampled ten times a second; pages that processes share count in each. A
// figure that cannot be read is left out, never zero.
package main
