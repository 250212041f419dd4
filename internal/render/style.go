// SPDX-License-Identifier: Apache-2.0

package render

import volleyv1 "github.com/volley-batch/volley/proto/volley/v1"

// Style colours text, or leaves it alone: the zero value is plain.
type Style struct{ Color bool }

func (s Style) wrap(code, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold, Dim, Red, Green, Yellow and Cyan colour a text.
func (s Style) Bold(t string) string { return s.wrap("1", t) }

// Dim is for what matters less.
func (s Style) Dim(t string) string { return s.wrap("2", t) }

// Red is for failures.
func (s Style) Red(t string) string { return s.wrap("31", t) }

// Green is for success.
func (s Style) Green(t string) string { return s.wrap("32", t) }

// Yellow is for what needs a look.
func (s Style) Yellow(t string) string { return s.wrap("33", t) }

// Cyan is for what goes on.
func (s Style) Cyan(t string) string { return s.wrap("36", t) }

// State colours the name of a job state.
func (s Style) State(st volleyv1.JobState) string {
	name := Enum(st)
	switch st {
	case volleyv1.JobState_JOB_STATE_SUCCEEDED:
		return s.Green(name)
	case volleyv1.JobState_JOB_STATE_FAILED:
		return s.Red(name)
	case volleyv1.JobState_JOB_STATE_RUNNING, volleyv1.JobState_JOB_STATE_STARTING:
		return s.Cyan(name)
	}
	return s.Dim(name)
}
