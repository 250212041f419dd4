// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// TestScripts runs testdata/scripts; see testdata/README.md for the language.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{t: t, st: New(), seqs: map[string]uint64{}}
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "run" {
				d.Fatalf(t, "unknown directive %q", d.Cmd)
			}
			s.out.Reset()
			for line := range strings.Lines(d.Input) {
				if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
					s.line(d, line)
				}
			}
			return s.out.String()
		})
		s.replay()
	})
}

// script is one run of a file.
type script struct {
	t       *testing.T
	st      *State
	now     int64
	seqs    map[string]uint64 // last report of each node
	entries [][]byte          // taken
	out     strings.Builder
}

func (s *script) line(d *datadriven.TestData, line string) {
	w := split(line)
	a := args{d: d, t: s.t, pos: w[1:], line: line}
	switch w[0] {
	case "wait":
		s.now += int64(a.num(0))
	case "jobs":
		s.jobs()
	case "children":
		s.children(a.num(0))
	case "leases":
		s.leases()
	case "workers":
		for _, w := range s.st.Workers() {
			fmt.Fprintf(&s.out, "worker %s: %s, epoch %d, session %d, used %d of %d milli CPU\n", w.Name(), strings.TrimPrefix(w.Proto(s.st).GetState().String(), "NODE_STATE_"), w.Epoch, w.Session, w.Used.CPUMilli, w.Capacity.CPUMilli)
		}
	case "snapshot":
		s.st = s.reread()
	default:
		s.apply(a, a.entry(s, w[0]))
	}
	if err := s.st.CheckInvariants(); err != nil {
		d.Fatalf(s.t, "%s: %v", line, err)
	}
}

func (s *script) apply(a args, e *journalv1.Entry) {
	e.TimeMs = 1_000_000 + s.now
	data, err := proto.Marshal(e)
	if err != nil {
		a.d.Fatalf(s.t, "%s: %v", a.line, err)
	}
	before := s.dump(s.st)
	r, effects, err := s.st.Apply(e)
	if err != nil {
		fmt.Fprintf(&s.out, "%s\n  refused: %v\n", a.line, err)
		if !bytes.Equal(before, s.dump(s.st)) {
			a.d.Fatalf(s.t, "%s: it was refused and has changed the state", a.line)
		}
		return
	}
	s.entries = append(s.entries, data)
	fmt.Fprintf(&s.out, "%s\n", a.line)
	switch {
	case r.Existed:
		fmt.Fprintf(&s.out, "  job %d existed\n", r.Job)
	case r.Job > 0:
		fmt.Fprintf(&s.out, "  job %d\n", r.Job)
	case e.GetRerun() != nil:
		fmt.Fprintf(&s.out, "  %d children\n", r.Count)
	}
	for _, e := range effects {
		if text := s.effect(e); text != "" {
			fmt.Fprintf(&s.out, "  %s\n", text)
		}
	}
}

func (s *script) effect(e Effect) string {
	name := func(n uint32) string { return s.st.Worker(n).Name() }
	switch e := e.(type) {
	case GrantEffect:
		g := e.Grant
		return fmt.Sprintf("grant to %s: lease %d, job %d, attempt %d, parallel %d: %s", name(e.Worker), g.GetLeaseId(), g.GetJob(), g.GetAttempt(), g.GetParallel(), runs(g.GetRuns()))
	case RevokeEffect:
		text := fmt.Sprintf("revoke from %s: lease %d", name(e.Worker), e.Revoke.GetLeaseId())
		if len(e.Revoke.GetRuns()) > 0 {
			text += ": " + runs(e.Revoke.GetRuns())
		}
		if e.Revoke.GetKill() {
			text += ", kill"
		}
		if e.Revoke.GetDrop() {
			text += ", drop"
		}
		return text
	case AckEffect:
		return fmt.Sprintf("ack to %s: %d", name(e.Worker), e.Seq)
	case LostEffect:
		return "lost: " + name(e.Worker)
	case ForgetEffect:
		return fmt.Sprintf("forget job %d", e.Job)
	case JobEffect:
		if e.Terminal {
			return fmt.Sprintf("job %d has ended: %s", e.Job, word(s.st.Job(e.Job).State()))
		}
	}
	return ""
}

func (s *script) jobs() {
	for _, id := range s.st.JobIDs() {
		j := s.st.Job(id)
		p := j.Proto()
		fmt.Fprintf(&s.out, "job %d %s %s:", id, j.Name(), word(j.State()))
		c := p.GetCounts()
		for _, n := range []struct {
			name string
			n    uint64
		}{{"pending", c.GetPending()}, {"runnable", c.GetRunnable()}, {"starting", c.GetStarting()}, {"running", c.GetRunning()}, {"succeeded", c.GetSucceeded()}, {"failed", c.GetFailed()}, {"skipped", c.GetSkipped()}, {"lost", p.GetLostAttempts()}, {"stale", p.GetStaleResults()}} {
			if n.n > 0 {
				fmt.Fprintf(&s.out, " %s=%d", n.name, n.n)
			}
		}
		if p.GetStatusReason() != "" {
			fmt.Fprintf(&s.out, " (%s)", p.GetStatusReason())
		}
		s.out.WriteString("\n")
	}
}

func (s *script) children(id uint64) {
	j := s.st.Job(id)
	for i := range j.Size {
		c := s.st.Child(j, i)
		fmt.Fprintf(&s.out, "child %d:%d %s", id, i, word(c.GetState()))
		if c.GetStatusReason() != "" {
			fmt.Fprintf(&s.out, " (%s)", c.GetStatusReason())
		}
		for _, a := range c.GetAttempts() {
			fmt.Fprintf(&s.out, " [%d on %s", a.GetAttempt(), a.GetNode())
			if a.ExitCode != nil {
				fmt.Fprintf(&s.out, " exit %d", a.GetExitCode())
			}
			if a.GetStatusReason() != "" && a.GetStatusReason() != c.GetStatusReason() {
				fmt.Fprintf(&s.out, " %s", a.GetStatusReason())
			}
			s.out.WriteString("]")
		}
		if c.GetReusedFrom() != "" {
			fmt.Fprintf(&s.out, " reused from %s", c.GetReusedFrom())
		}
		s.out.WriteString("\n")
	}
}

func (s *script) leases() {
	for id := range s.st.nextLease {
		if l := s.st.Lease(id); l != nil {
			fmt.Fprintf(&s.out, "lease %d: job %d to %s, attempt %d, parallel %d: %s", id, l.Job, s.st.Worker(l.Worker).Name(), l.Attempt, l.Parallel, runs(l.remaining.AppendPacked(nil)))
			for _, p := range []struct {
				name string
				set  *sharding.Set
			}{{"running", l.running}, {"asked", l.asked}} {
				if !p.set.Empty() {
					fmt.Fprintf(&s.out, " %s %s", p.name, runs(p.set.AppendPacked(nil)))
				}
			}
			s.out.WriteString("\n")
		}
	}
}

func (s *script) dump(st *State) []byte {
	var b bytes.Buffer
	if err := st.Freeze().Write(&b); err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes()
}

// reread writes a snapshot and reads it.
func (s *script) reread() *State {
	data := s.dump(s.st)
	st, err := Read(bytes.NewReader(data))
	if err != nil {
		s.t.Fatalf("read the snapshot: %v", err)
	}
	if !bytes.Equal(data, s.dump(st)) {
		s.t.Fatal("a snapshot that was read writes another one")
	}
	return st
}

// replay applies what was taken to a new state, which must come out the same,
// whether there was a snapshot in between or not.
func (s *script) replay() {
	st := New()
	for _, data := range s.entries {
		var e journalv1.Entry
		if err := proto.Unmarshal(data, &e); err != nil {
			s.t.Fatal(err)
		}
		if _, _, err := st.Apply(&e); err != nil {
			s.t.Fatalf("the replay refuses %v: %v", &e, err)
		}
	}
	if !bytes.Equal(s.dump(st), s.dump(s.st)) {
		s.t.Error("the replay ends in another state")
	}
}

func word(st volleyv1.JobState) string { return strings.TrimPrefix(st.String(), "JOB_STATE_") }

// runs writes pairs as "0-3,7".
func runs(flat []uint64) string {
	var parts []string
	for i := 0; i+1 < len(flat); i += 2 {
		if flat[i+1] == 1 {
			parts = append(parts, strconv.FormatUint(flat[i], 10))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", flat[i], flat[i]+flat[i+1]-1))
		}
	}
	return strings.Join(parts, ",")
}
