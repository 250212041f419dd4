// SPDX-License-Identifier: Apache-2.0

// Package progress follows a job to its end and shows how it goes.
//
// [Follow] reads the job's watch stream. On a terminal it redraws a few lines
// in place ([Live]); elsewhere it prints a line now and then ([Plain]): every
// tenth of the job or ten seconds, whichever is later to say something new. In
// both, the first failure of each kind is printed as it happens, with the end
// of its stderr: the reader of a long sweep wants the first traceback, not the
// thousandth. [Summary] is what is left on the screen at the end.
//
// When nothing has run for two seconds, both say why, in the words of the
// coordinator: a line that stands still explains nothing.
//
// Follow blocks until the job is terminal or its context ends, in which case
// the job goes on. What it shows beyond the counts (best point, failures, log
// lines) is fetched with a deadline of a second and left out when that fails:
// the view must not hang where the job does not.
//
// Rates are those of the last half minute and leave out the points that were
// taken over from an earlier job; an estimate that counted them would promise
// a resumed sweep in no time.
//
// Time is passed to Live, Plain and Meter by the caller, so that tests need no
// clock. None of them is safe for concurrent use.
package progress
