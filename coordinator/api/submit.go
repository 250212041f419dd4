// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// SubmitJob implements JobService.
func (s *Server) SubmitJob(ctx context.Context, req *volleyv1.SubmitJobRequest) (*volleyv1.SubmitJobResponse, error) {
	if err := checkKey(req.GetIdempotencyKey()); err != nil {
		return nil, err
	}
	p, err := s.check(req.GetSpec())
	if err != nil {
		return nil, err
	}
	defer p.close()
	spec := req.GetSpec()
	if spec.Queue == "" {
		spec.Queue = "default"
	}
	if err := s.checkBlobs(spec); err != nil {
		return nil, err
	}
	op := &journalv1.Submit{
		Spec: spec, Size: p.size(), Array: spec.GetSpace() != nil, IdempotencyKey: req.GetIdempotencyKey(),
	}
	if op.DependsOn, err = s.resolve(ctx, spec); err != nil {
		return nil, err
	}
	if req.GetReuse() {
		plan, err := s.planJob(ctx, p)
		if err != nil {
			return nil, toStatus(err)
		}
		op.Reuse = plan.reuse
	}
	r, err := s.engine.Do(ctx, &journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: op}})
	if err != nil {
		return nil, toStatus(err)
	}
	out := &volleyv1.SubmitJobResponse{JobId: fmt.Sprint(r.Job), Existed: r.Existed}
	if err := s.engine.View(ctx, func(st *state.State) {
		if j := st.Job(r.Job); j != nil {
			out.Job = j.Proto()
		}
	}); err != nil {
		return nil, toStatus(err)
	}
	return out, nil
}

// checkBlobs refuses a job whose files were not stored: its tasks could not
// start.
func (s *Server) checkBlobs(spec *volleyv1.JobSpec) error {
	if spec.GetWorkdir() != "" {
		return nil
	}
	for _, in := range spec.GetInputs() {
		if in.GetExternal() != "" {
			continue
		}
		has, err := s.blobs.Has(in.GetDigest())
		if err != nil {
			return toStatus(err)
		}
		if !has {
			return status.Errorf(codes.FailedPrecondition, "input %s: its content was not stored: call PutBlob first", in.GetPath())
		}
	}
	return nil
}

// resolve turns the ids and names of dependencies into jobs.
func (s *Server) resolve(ctx context.Context, spec *volleyv1.JobSpec) ([]*journalv1.Depend, error) {
	var out []*journalv1.Depend
	var refused error
	err := s.engine.View(ctx, func(st *state.State) {
		for n, d := range spec.GetDependsOn() {
			dep := &journalv1.Depend{Type: d.GetType()}
			if dep.Type == volleyv1.DependencyType_DEPENDENCY_TYPE_UNSPECIFIED {
				dep.Type = volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE
			}
			if d.GetJobId() == "" {
				if dep.Type != volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL {
					refused = status.Errorf(codes.InvalidArgument, "dependsOn[%d]: names no job", n)
					return
				}
				out = append(out, dep)
				continue
			}
			job, index, child, ok := lookup(st, d.GetJobId())
			if !ok {
				refused = status.Errorf(codes.InvalidArgument, "dependsOn[%d]: there is no job %q", n, d.GetJobId())
				return
			}
			dep.Job = job
			if child {
				dep.Index = &index
			}
			out = append(out, dep)
		}
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return out, refused
}

// lookup finds a job by id, id:index, name or name:index (the newest of it).
func lookup(st *state.State, id string) (job, index uint64, child, ok bool) {
	if job, index, child, ok := state.ParseID(id); ok && st.Job(job) != nil {
		return job, index, child, true
	}
	name, tail, child := strings.Cut(id, ":")
	ids := st.JobsNamed(name)
	if len(ids) == 0 {
		return 0, 0, false, false
	}
	job = ids[len(ids)-1]
	if child {
		if _, index, _, ok = state.ParseID(fmt.Sprintf("%d:%s", job, tail)); !ok {
			return 0, 0, false, false
		}
	}
	return job, index, child, true
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

var digitsRE = regexp.MustCompile(`^[0-9]+$`)

// Bounds of a spec. They protect the journal, not a budget.
const (
	maxSpecBytes = 32 << 20
	maxAttempts  = 100
	maxRules     = 20
	maxPattern   = 512
	maxPriority  = 9999
	maxKey       = 255
)

func checkKey(key string) error {
	if len(key) > maxKey {
		return status.Errorf(codes.InvalidArgument, "idempotency_key has %d characters, at most %d are allowed", len(key), maxKey)
	}
	return nil
}

// check validates a spec and prepares its points. The client has checked the
// job file with line and column already; this is for everybody else.
func (s *Server) check(spec *volleyv1.JobSpec) (*points, error) {
	if spec == nil {
		return nil, status.Error(codes.InvalidArgument, "spec is missing")
	}
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	p, err := newPoints(spec)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "%v", err)
	}
	if n := p.size(); n == 0 || n > 1<<63-1 {
		p.close()
		return nil, status.Errorf(codes.InvalidArgument, "the job has %d tasks: 1 to 2^63-1 are possible", n)
	}
	if err := checkTemplates(spec, p); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func checkSpec(spec *volleyv1.JobSpec) error {
	bad := func(format string, args ...any) error {
		return status.Errorf(codes.InvalidArgument, format, args...)
	}
	r := spec.GetResources()
	switch {
	case !nameRE.MatchString(spec.GetName()):
		return bad("name %q: 1 to 128 letters, digits, '-', '_' and '.', beginning with a letter or digit", spec.GetName())
	case digitsRE.MatchString(spec.GetName()):
		return bad("name %q: a name of digits alone would be taken for a job id", spec.GetName())
	case spec.GetQueue() != "" && !nameRE.MatchString(spec.GetQueue()):
		return bad("queue %q is not a name", spec.GetQueue())
	case (len(spec.GetCommand()) == 0) == (spec.GetRun() == ""):
		return bad("exactly one of command and run must be given")
	case len(spec.GetCommand()) > 0 && spec.GetCommand()[0] == "":
		return bad("command[0] is empty")
	case r.GetCpuMilli() < 0 || r.GetMemoryBytes() < 0 || r.GetGpu() < 0:
		return bad("resources must not be negative: cpu %d/1000, memory %d, gpu %d", r.GetCpuMilli(), r.GetMemoryBytes(), r.GetGpu())
	case spec.GetTimeoutMs() < 0 || spec.GetGraceMs() < 0:
		return bad("timeout and grace must not be negative: %d ms, %d ms", spec.GetTimeoutMs(), spec.GetGraceMs())
	case spec.GetPriority() < 0 || spec.GetPriority() > maxPriority:
		return bad("priority %d is not in [0, %d]", spec.GetPriority(), maxPriority)
	case spec.GetRetry().GetAttempts() < 0 || spec.GetRetry().GetAttempts() > maxAttempts:
		return bad("retry.attempts %d is not in [1, %d]", spec.GetRetry().GetAttempts(), maxAttempts)
	case len(spec.GetRetry().GetRules()) > maxRules:
		return bad("retry.rules has %d entries, at most %d are allowed", len(spec.GetRetry().GetRules()), maxRules)
	}
	for n, rule := range spec.GetRetry().GetRules() {
		for _, pattern := range []string{rule.GetOnExitCode(), rule.GetOnReason(), rule.GetOnStatusReason()} {
			if star := strings.IndexByte(pattern, '*'); len(pattern) > maxPattern || star >= 0 && star != len(pattern)-1 {
				return bad("retry.rules[%d]: pattern %q: at most %d characters, '*' only at the end", n, pattern, maxPattern)
			}
		}
		if a := rule.GetAction(); a != volleyv1.RetryAction_RETRY_ACTION_RETRY && a != volleyv1.RetryAction_RETRY_ACTION_EXIT {
			return bad("retry.rules[%d]: action must be RETRY or EXIT", n)
		}
	}
	for n, in := range spec.GetInputs() {
		if p := in.GetPath(); p == "" || path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") {
			return bad("inputs[%d]: path %q must be relative and must not lead out of the job's directory", n, p)
		}
	}
	if n := len(spec.GetSpace().GetMap().GetManifest()); n > maxSpecBytes {
		return bad("map.manifest has %d bytes, at most %d are allowed: use fewer, larger files", n, maxSpecBytes)
	}
	return nil
}

// checkTemplates refuses a placeholder that no task could fill.
func checkTemplates(spec *volleyv1.JobSpec, p *points) error {
	known := map[string]bool{}
	open := false
	if sw := spec.GetSpace().GetSweep(); sw != nil {
		for _, prm := range sw.GetParams() {
			known[prm.GetName()] = true
		}
		for _, c := range sw.GetTable().GetColumns() {
			known[c] = true
		}
	}
	if p.reader != nil {
		list, ok := p.reader.Manifest().Params()
		open = !ok
		for _, name := range list {
			known[name] = true
		}
	} else if p.shards != nil {
		open = true
	}
	check := func(field, template string) error {
		names, err := sharding.TemplateNames(template)
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "%s: %v", field, err)
		}
		for _, name := range names {
			if !known[name] && !open && !sharding.ReservedName(name) {
				return status.Errorf(codes.InvalidArgument, "%s uses {%s}, which is no parameter of the job", field, name)
			}
		}
		return nil
	}
	for n, word := range spec.GetCommand() {
		if err := check(fmt.Sprintf("command[%d]", n), word); err != nil {
			return err
		}
	}
	if err := check("run", spec.GetRun()); err != nil {
		return err
	}
	for _, e := range spec.GetEnv() {
		if err := check("env."+e.GetName(), e.GetValue()); err != nil {
			return err
		}
	}
	return nil
}
