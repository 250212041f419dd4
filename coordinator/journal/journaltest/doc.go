// SPDX-License-Identifier: Apache-2.0

// Package journaltest holds an implementation of journal.Journal to its contract.
// Run executes one subtest per promise in the package comment of journal, each on
// storage of its own. The suite waits on events alone, with a limit of a minute
// per event, and starts no goroutine that outlives a subtest.
package journaltest
