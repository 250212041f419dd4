// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// split is strings.Fields that keeps "quoted words" together.
func split(line string) []string {
	var words []string
	var w strings.Builder
	quoted := false
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			if w.Len() > 0 {
				words = append(words, w.String())
			}
			w.Reset()
		default:
			w.WriteRune(r)
		}
	}
	return words
}

// args are the words after a command: positional ones and name=value.
type args struct {
	t    *testing.T
	d    *datadriven.TestData
	line string
	pos  []string
}

func (a args) fail(format string, v ...any) {
	a.d.Fatalf(a.t, "%s: %s", a.line, fmt.Sprintf(format, v...))
}

func (a args) num(i int) uint64 {
	if i >= len(a.pos) {
		a.fail("argument %d is missing", i+1)
	}
	return a.parse(a.pos[i])
}

func (a args) parse(s string) uint64 {
	n, err := strconv.ParseUint(strings.ReplaceAll(s, "_", ""), 10, 64)
	if err != nil {
		a.fail("%v", err)
	}
	return n
}

func (a args) get(name string) (string, bool) {
	for _, w := range a.pos {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

func (a args) flag(name string) bool {
	return slices.Contains(a.pos, name)
}

func (a args) numOf(name string, def uint64) uint64 {
	if v, ok := a.get(name); ok {
		return a.parse(v)
	}
	return def
}

// runs reads "0-3,7".
func (a args) runs(text string) []uint64 {
	var flat []uint64
	for p := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(p, "-")
		n := a.parse(first)
		end := n
		if isRange {
			end = a.parse(last)
		}
		flat = append(flat, n, end-n+1)
	}
	return flat
}

func (a args) runsOf(name string) []uint64 {
	if v, ok := a.get(name); ok {
		return a.runs(v)
	}
	return nil
}

// child reads "3" or "3:7".
func (a args) child(i int) (job uint64, index *uint64) {
	if i >= len(a.pos) {
		a.fail("argument %d is missing", i+1)
	}
	head, tail, ok := strings.Cut(a.pos[i], ":")
	if ok {
		n := a.parse(tail)
		index = &n
	}
	return a.parse(head), index
}

func (a args) entry(s *script, cmd string) *journalv1.Entry {
	switch cmd {
	case "submit":
		return &journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: a.submit()}}
	case "hello":
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: a.hello(s)}}}
	case "grant":
		job := a.numOf("job", 0)
		return &journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: &journalv1.Grant{
			NodeId: a.pos[0], Job: job, LeaseId: a.numOf("lease", 0), Attempt: uint32(a.numOf("attempt", 1)),
			Parallel: uint32(a.numOf("parallel", 1)), Runs: a.runsOf("runs"),
		}}}
	case "report":
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: a.report(s)}}
	case "lost":
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: a.pos[0], Epoch: a.numOf("epoch", a.epoch(s))}}}
	case "left":
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerLeft{WorkerLeft: &journalv1.WorkerLeft{NodeId: a.pos[0], Epoch: a.numOf("epoch", a.epoch(s))}}}
	case "drain":
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerDrain{WorkerDrain: &journalv1.WorkerDrain{NodeId: a.pos[0], Drain: !a.flag("off")}}}
	case "cancel", "terminate":
		job, index := a.child(0)
		why, _ := a.get("reason")
		return &journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: job, Index: index, Terminate: cmd == "terminate", Reason: why}}}
	case "rerun":
		return &journalv1.Entry{Op: &journalv1.Entry_Rerun{Rerun: &journalv1.Rerun{Job: a.num(0), FailedOnly: a.flag("failed")}}}
	case "takeback":
		return &journalv1.Entry{Op: &journalv1.Entry_TakeBack{TakeBack: &journalv1.TakeBack{LeaseId: a.num(0), Runs: a.runsOf("runs")}}}
	case "purge":
		op := &journalv1.Purge{}
		for i := range a.pos {
			op.Jobs = append(op.Jobs, a.num(i))
		}
		return &journalv1.Entry{Op: &journalv1.Entry_Purge{Purge: op}}
	case "init":
		return &journalv1.Entry{Op: &journalv1.Entry_Init{Init: &journalv1.Init{ClusterId: a.pos[0]}}}
	}
	a.fail("unknown command")
	return nil
}

func (a args) epoch(s *script) uint64 {
	if w := s.st.WorkerByNode(a.pos[0]); w != nil {
		return w.Epoch
	}
	return 1
}

func (a args) submit() *journalv1.Submit {
	name, _ := a.get("name")
	key, _ := a.get("key")
	op := &journalv1.Submit{Size: a.numOf("size", 1), IdempotencyKey: key, Spec: &volleyv1.JobSpec{
		Name: name, Concurrency: a.numOf("concurrency", 0), Priority: int32(a.numOf("priority", 0)),
		Resources: &volleyv1.Resources{CpuMilli: int64(a.numOf("cpu", 1000))},
		Retry:     &volleyv1.Retry{Attempts: int32(a.numOf("retry", 0))},
		Metric:    &volleyv1.Metric{Name: "loss", Goal: volleyv1.Goal_GOAL_MIN},
	}}
	_, op.Array = a.get("size")
	if v, ok := a.get("deps"); ok {
		for p := range strings.SplitSeq(v, ",") {
			d := &journalv1.Depend{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE}
			switch {
			case p == "seq":
				d.Type = volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL
			case strings.HasPrefix(p, "n"):
				d.Type, d.Job = volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N, a.parse(p[1:])
			default:
				d.Job, d.Index = args{t: a.t, d: a.d, line: a.line, pos: []string{p}}.child(0)
			}
			op.DependsOn = append(op.DependsOn, d)
		}
	}
	if v, ok := a.get("rules"); ok { // exit:137=RETRY;reason:*=EXIT
		for p := range strings.SplitSeq(v, ";") {
			cond, action, _ := strings.Cut(p, "=")
			rule := &volleyv1.RetryRule{Action: volleyv1.RetryAction(volleyv1.RetryAction_value["RETRY_ACTION_"+action])}
			switch what, pattern, _ := strings.Cut(cond, ":"); what {
			case "exit":
				rule.OnExitCode = pattern
			case "reason":
				rule.OnReason = pattern
			case "status":
				rule.OnStatusReason = pattern
			}
			op.Spec.Retry.Rules = append(op.Spec.Retry.Rules, rule)
		}
	}
	for _, w := range a.pos { // reuse=0-2@1:5 takes over children 5.. of job 1
		v, ok := strings.CutPrefix(w, "reuse=")
		if !ok {
			continue
		}
		to, from, _ := strings.Cut(v, "@")
		job, first, _ := strings.Cut(from, ":")
		r := a.runs(to)
		op.Reuse = append(op.Reuse, &journalv1.Reuse{First: r[0], Count: r[1], FromJob: a.parse(job), FromFirst: a.parse(first)})
	}
	return op
}

// hello NODE cpu=2 epoch=1 seq=3 held=LEASE:u0-3:r0-1:f4
func (a args) hello(s *script) *volleyv1.Hello {
	h := &volleyv1.Hello{
		NodeId: a.pos[0], Name: a.pos[0], Epoch: a.numOf("epoch", a.epoch(s)), LastSeq: a.numOf("seq", s.seqs[a.pos[0]]),
		Capacity: &volleyv1.Resources{CpuMilli: int64(a.numOf("cpu", 4)) * 1000, MemoryBytes: 1 << 30},
	}
	for _, w := range a.pos {
		v, ok := strings.CutPrefix(w, "held=")
		if !ok {
			continue
		}
		parts := strings.Split(v, ":")
		hl := &volleyv1.HeldLease{LeaseId: a.parse(parts[0])}
		for _, p := range parts[1:] {
			switch p[0] {
			case 'u':
				hl.Unfinished = a.runs(p[1:])
			case 'r':
				hl.Running = a.runs(p[1:])
			case 'f':
				hl.Finished = a.runs(p[1:])
			}
		}
		h.Held = append(h.Held, hl)
	}
	return h
}

// report NODE LEASE finished=0-3 exit=1 outcome=FAILED reason="…" started=… returned=… preempted=…
func (a args) report(s *script) *journalv1.WorkerReport {
	node := a.pos[0]
	s.seqs[node]++
	lr := &volleyv1.LeaseReport{
		LeaseId: a.num(1), Finished: a.runsOf("finished"), Started: a.runsOf("started"), Returned: a.runsOf("returned"), Preempted: a.runsOf("preempted"),
	}
	n := 0
	for i := 1; i < len(lr.GetFinished()); i += 2 {
		n += int(min(lr.GetFinished()[i], 1000))
	}
	why, hasWhy := a.get("reason")
	outcome, failed := a.get("outcome")
	exit, exited := a.get("exit")
	if hasWhy {
		lr.Reasons = []string{why}
	}
	for k := range n {
		switch {
		case failed:
			lr.Outcome = append(lr.Outcome, uint32(volleyv1.Outcome_value["OUTCOME_"+outcome]))
		case exited && exit != "0":
			lr.Outcome = append(lr.Outcome, uint32(volleyv1.Outcome_OUTCOME_FAILED))
		}
		if exited {
			lr.ExitCode = append(lr.ExitCode, uint32(a.parse(exit)))
		}
		if hasWhy {
			lr.Reason = append(lr.Reason, 1)
		}
		if v, ok := a.get("metric"); ok {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				f = math.NaN()
			}
			lr.Metric = append(lr.Metric, f+float64(k))
		}
	}
	session := uint64(0)
	if w := s.st.WorkerByNode(node); w != nil {
		session = w.Session
	}
	return &journalv1.WorkerReport{
		NodeId: node, Epoch: a.numOf("epoch", a.epoch(s)), Session: a.numOf("session", session),
		Report: &volleyv1.Report{Seq: a.numOf("seq", s.seqs[node]), Leases: []*volleyv1.LeaseReport{lr}},
	}
}
