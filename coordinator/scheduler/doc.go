// SPDX-License-Identifier: Apache-2.0

// Package scheduler decides what should happen next: which indexes of which
// job are leased to which worker, and which are taken back.
//
// Plan reads the state and emits decisions as journal entries, one at a time;
// the caller applies each before Plan goes on, so that Plan always looks at
// the truth and keeps no second account of it. Decisions are journaled: a
// replay never runs the scheduler, so it may change between versions. It has
// no clock and no randomness.
//
// # What it looks at
//
// Work is looked at by class (queue, priority, shape), never by task, and
// workers only when something about them has changed. A class that found no
// room is not tried again on workers that have gained none. The cost of Plan
// therefore depends on what has changed, not on how much waits.
//
// # How much a lease holds
//
// A lease holds what may run at once, and beyond that a backlog which covers
// Options.Target of work by the measured mean duration of the job's tasks:
// thousands of tasks of a microsecond, none of tasks longer than Target. It is
// topped up when half of the backlog is used. Near the end of a job no lease
// gets more than its share of half of what is left (guided self-scheduling,
// Polychronopoulos and Kuck, 1987), and what an idle worker could run is taken
// back from the backlog of others.
//
// # Order
//
// Higher priority first, then older jobs first, whatever their shape. While an
// older job waits for room, later ones are not topped up on workers which the
// older one could use, so that their slots come free; and one worker is kept
// for the first class that found no room, so that a task which needs a whole
// node is not passed over for ever by small ones that fit into the gaps.
package scheduler
