// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/sha256"
	"fmt"
	"math"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

var (
	nameRE     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	digitsRE   = regexp.MustCompile(`^[0-9]+$`)
	envRE      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	exitCodeRE = regexp.MustCompile(`^([0-9]{1,10}\*?|\*)$`)
)

// Bounds of a spec. They protect the journal and the workers, not a budget.
const (
	// maxManifest and maxSpec leave room for what else is in a journal record.
	maxManifest   = 32 << 20
	maxSpec       = 44 << 20
	maxAttempts   = 100
	maxRules      = 32
	maxPattern    = 512
	maxPriority   = 9999
	maxKey        = 255
	maxLabels     = 64
	maxLabelKey   = 128
	maxLabelValue = 256
	maxDepends    = 64
	maxInputMode  = 0o7777
	// maxMillis is what a time.Duration can hold.
	maxMillis = math.MaxInt64 / 1_000_000
)

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func checkKey(key string) error {
	if n := utf8.RuneCountInString(key); n > maxKey {
		return invalid("idempotency_key has %d characters, at most %d are allowed", n, maxKey)
	}
	return nil
}

// check validates a spec and prepares its points. The client has checked the
// job file with line and column already; this is for everybody else.
func (s *Server) check(spec *volleyv1.JobSpec) (*points, error) {
	if spec == nil {
		return nil, invalid("spec is missing")
	}
	for _, check := range []func(*volleyv1.JobSpec) error{
		checkSize, checkCommand, checkLimits, checkRetry, checkDepends, checkInputs, checkLabels,
	} {
		if err := check(spec); err != nil {
			return nil, err
		}
	}
	if sp := spec.GetSpace(); sp != nil && sp.GetKind() == nil {
		return nil, invalid("space is empty: give it array, sweep or map, or leave it out for a single task")
	}
	p, err := newPoints(spec)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if n := p.size(); n == 0 || n > math.MaxInt64 {
		p.close()
		return nil, invalid("the job has %d tasks: 1 to 2^63-1 are possible", n)
	}
	if err := checkNames(spec, p); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func checkSize(spec *volleyv1.JobSpec) error {
	if n := len(spec.GetSpace().GetMap().GetManifest()); n > maxManifest {
		return invalid("map.manifest has %d bytes, at most %d are allowed: use fewer, larger files", n, maxManifest)
	}
	if n := proto.Size(spec); n > maxSpec {
		return invalid("the job has %d bytes, at most %d are allowed: put long tables into a file and map over it", n, maxSpec)
	}
	return nil
}

func checkCommand(spec *volleyv1.JobSpec) error {
	switch {
	case !nameRE.MatchString(spec.GetName()):
		return invalid("name %q: 1 to 128 letters, digits, '-', '_' and '.', beginning with a letter or digit", clip(spec.GetName()))
	case digitsRE.MatchString(spec.GetName()):
		return invalid("name %q: a name of digits alone would be taken for a job id", spec.GetName())
	case spec.GetQueue() != "" && !nameRE.MatchString(spec.GetQueue()):
		return invalid("queue %q: 1 to 128 letters, digits, '-', '_' and '.', beginning with a letter or digit", clip(spec.GetQueue()))
	case (len(spec.GetCommand()) == 0) == (spec.GetRun() == ""):
		return invalid("exactly one of command and run must be given: command has %d words, run %d bytes", len(spec.GetCommand()), len(spec.GetRun()))
	case len(spec.GetCommand()) > 0 && spec.GetCommand()[0] == "":
		return invalid("command[0] is empty: it names the program")
	case strings.Contains(spec.GetRun(), "\x00"):
		return invalid("run %q has a NUL byte, which no program can be given", clip(spec.GetRun()))
	}
	for n, word := range spec.GetCommand() {
		if strings.Contains(word, "\x00") {
			return invalid("command[%d] %q has a NUL byte, which no program can be given", n, clip(word))
		}
	}
	for n, e := range spec.GetEnv() {
		switch {
		case !envRE.MatchString(e.GetName()):
			return invalid("env[%d] %q is not the name of an environment variable: a letter or '_', then letters, digits and '_'", n, clip(e.GetName()))
		case strings.HasPrefix(e.GetName(), "VOLLEY_"):
			return invalid("env[%d] %s: names that begin with VOLLEY_ are set by volley itself: choose another", n, clip(e.GetName()))
		case strings.Contains(e.GetValue(), "\x00"):
			return invalid("env.%s %q has a NUL byte, which no program can be given", e.GetName(), clip(e.GetValue()))
		}
	}
	for _, dir := range []struct{ field, value string }{{"workdir", spec.GetWorkdir()}, {"submit_dir", spec.GetSubmitDir()}} {
		if dir.value != "" && !path.IsAbs(dir.value) || strings.Contains(dir.value, "\x00") {
			return invalid("%s %q must be an absolute path", dir.field, clip(dir.value))
		}
	}
	return nil
}

func checkLimits(spec *volleyv1.JobSpec) error {
	for _, f := range []struct {
		field      string
		value, max int64
	}{
		{"resources.cpu_milli", spec.GetResources().GetCpuMilli(), math.MaxInt64},
		{"resources.memory_bytes", spec.GetResources().GetMemoryBytes(), math.MaxInt64},
		{"resources.gpu", spec.GetResources().GetGpu(), math.MaxInt64},
		{"timeout_ms", spec.GetTimeoutMs(), maxMillis},
		{"grace_ms", spec.GetGraceMs(), maxMillis},
		{"priority", int64(spec.GetPriority()), maxPriority},
		{"retry.attempts", int64(spec.GetRetry().GetAttempts()), maxAttempts},
	} {
		if f.value < 0 {
			return invalid("%s %d must not be negative", f.field, f.value)
		}
		if f.value > f.max {
			return invalid("%s %d is too large: at most %d", f.field, f.value, f.max)
		}
	}
	m := spec.GetMetric()
	switch g := m.GetGoal(); {
	case m == nil:
	case m.GetName() == "" || len(m.GetName()) > maxLabelKey:
		return invalid("metric.name %q must have 1 to %d bytes", clip(m.GetName()), maxLabelKey)
	case g != volleyv1.Goal_GOAL_MIN && g != volleyv1.Goal_GOAL_MAX:
		return invalid("metric.goal %s must be GOAL_MIN or GOAL_MAX", g)
	}
	return nil
}

func checkRetry(spec *volleyv1.JobSpec) error {
	if n := len(spec.GetRetry().GetRules()); n > maxRules {
		return invalid("retry.rules has %d entries, at most %d are allowed", n, maxRules)
	}
	for n, rule := range spec.GetRetry().GetRules() {
		patterns := []string{rule.GetOnExitCode(), rule.GetOnReason(), rule.GetOnStatusReason()}
		for _, pattern := range patterns {
			if star := strings.IndexByte(pattern, '*'); len(pattern) > maxPattern || star >= 0 && star != len(pattern)-1 {
				return invalid("retry.rules[%d]: pattern %q: at most %d characters, '*' only at the end", n, clip(pattern), maxPattern)
			}
		}
		if strings.Join(patterns, "") == "" {
			return invalid("retry.rules[%d] has no condition: give one of on_exit_code, on_reason and on_status_reason", n)
		}
		if p := rule.GetOnExitCode(); p != "" && !exitCodeRE.MatchString(p) {
			return invalid("retry.rules[%d].on_exit_code %q must be a number, '*' at its end stands for any rest", n, clip(p))
		}
		if a := rule.GetAction(); a != volleyv1.RetryAction_RETRY_ACTION_RETRY && a != volleyv1.RetryAction_RETRY_ACTION_EXIT {
			return invalid("retry.rules[%d].action %s must be RETRY or EXIT", n, a)
		}
	}
	return nil
}

func checkDepends(spec *volleyv1.JobSpec) error {
	if n := len(spec.GetDependsOn()); n > maxDepends {
		return invalid("dependsOn has %d entries, at most %d are allowed", n, maxDepends)
	}
	for n, d := range spec.GetDependsOn() {
		switch d.GetType() {
		case volleyv1.DependencyType_DEPENDENCY_TYPE_UNSPECIFIED, volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE:
		case volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N:
			if spec.GetSpace() == nil {
				return invalid("dependsOn[%d]: N_TO_N is for array jobs, and this is a single job", n)
			}
		case volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL:
			if d.GetJobId() != "" {
				return invalid("dependsOn[%d]: SEQUENTIAL is about the children of this job: it takes no job, not %q", n, clip(d.GetJobId()))
			}
			if spec.GetSpace() == nil {
				return invalid("dependsOn[%d]: SEQUENTIAL is for array jobs, and this is a single job", n)
			}
			continue
		default:
			return invalid("dependsOn[%d]: type %s is not known", n, d.GetType())
		}
		if d.GetJobId() == "" {
			return invalid("dependsOn[%d] names no job", n)
		}
	}
	return nil
}

func checkInputs(spec *volleyv1.JobSpec) error {
	seen := map[string]bool{}
	for n, in := range spec.GetInputs() {
		p := in.GetPath()
		switch {
		case p == "" || path.IsAbs(p) || path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../") || strings.Contains(p, "\x00"):
			return invalid("inputs[%d]: path %q must be relative and must not lead out of the job's directory", n, clip(p))
		case seen[p]:
			return invalid("inputs[%d]: path %q is there twice", n, clip(p))
		case len(in.GetDigest()) != sha256.Size:
			return invalid("inputs[%d] %s: the digest has %d bytes, a SHA-256 has %d", n, clip(p), len(in.GetDigest()), sha256.Size)
		case in.GetSize() < 0:
			return invalid("inputs[%d] %s: size %d is negative", n, clip(p), in.GetSize())
		case in.GetMode() > maxInputMode:
			return invalid("inputs[%d] %s: mode %#o has more than permission bits", n, clip(p), in.GetMode())
		case in.GetExternal() != "" && !path.IsAbs(in.GetExternal()) || strings.Contains(in.GetExternal(), "\x00"):
			return invalid("inputs[%d] %s: external %q must be an absolute path", n, clip(p), clip(in.GetExternal()))
		}
		seen[p] = true
	}
	return nil
}

func checkLabels(spec *volleyv1.JobSpec) error {
	if n := len(spec.GetLabels()); n > maxLabels {
		return invalid("labels has %d entries, at most %d are allowed", n, maxLabels)
	}
	seen := map[string]bool{}
	for n, l := range spec.GetLabels() {
		switch {
		case l.GetKey() == "" || len(l.GetKey()) > maxLabelKey || strings.Contains(l.GetKey(), "="):
			return invalid("labels[%d]: key %q must have 1 to %d bytes and no '='", n, clip(l.GetKey()), maxLabelKey)
		case len(l.GetValue()) > maxLabelValue:
			return invalid("labels[%d] %s: the value has %d bytes, at most %d are allowed", n, l.GetKey(), len(l.GetValue()), maxLabelValue)
		case seen[l.GetKey()]:
			return invalid("labels[%d]: key %q is there twice", n, l.GetKey())
		}
		seen[l.GetKey()] = true
	}
	return nil
}

// checkBlobs refuses a job whose files were not stored: its tasks could not
// start.
func (s *Server) checkBlobs(spec *volleyv1.JobSpec) error {
	if spec.GetWorkdir() != "" {
		return nil // inputs are used where they lie
	}
	for n, in := range spec.GetInputs() {
		if in.GetExternal() != "" {
			continue
		}
		has, err := s.blobs.Keep(in.GetDigest())
		if err != nil {
			return toStatus(fmt.Errorf("inputs[%d] %s: %w", n, clip(in.GetPath()), err))
		}
		if !has {
			return status.Errorf(codes.FailedPrecondition, "inputs[%d] %s: its content %x was not stored: call PutBlob first", n, clip(in.GetPath()), in.GetDigest())
		}
	}
	return nil
}
