// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/volley-batch/volley/internal/jobfile"
	"github.com/volley-batch/volley/internal/render"
)

// duration is a flag that takes what the job file takes; pflag's own takes no
// days, and prints thirty of them as 720h0m0s.
type duration time.Duration

var _ pflag.Value = (*duration)(nil)

func durationFlag(f *pflag.FlagSet, p *time.Duration, name string, value time.Duration, usage string) {
	*p = value
	f.Var((*duration)(p), name, usage)
}

func (d *duration) Set(s string) error {
	v, err := jobfile.ParseDuration(s)
	if err == nil {
		*d = duration(v)
	}
	return err
}

// String is also what the help prints as the default; empty for none.
func (d *duration) String() string { return durationText(time.Duration(*d)) }

func (*duration) Type() string { return "duration" }

func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return ""
	case d%day == 0:
		return strconv.Itoa(int(d/day)) + "d"
	}
	return render.Duration(d)
}
