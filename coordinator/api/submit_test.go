// SPDX-License-Identifier: Apache-2.0

package api

import (
	"math"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/engine"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	req := &volleyv1.SubmitJobRequest{Spec: array("a", 3), IdempotencyKey: "k"}
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for n := range ids {
		wg.Go(func() {
			if r, err := c.SubmitJob(c.ctx, req); err != nil {
				t.Error(err)
			} else {
				ids[n] = r.GetJobId()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != "1" {
			t.Errorf("one key made jobs %v", ids)
			break
		}
	}
	c.restart()
	// Also for a spec that would not be taken now.
	r, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: &volleyv1.JobSpec{}, IdempotencyKey: "k"})
	if err != nil || r.GetJobId() != "1" || !r.GetExisted() || r.GetJob().GetName() != "a" {
		t.Errorf("after a restart: %v, %v", r, err)
	}
	r, err = c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: array("a", 3), IdempotencyKey: "other"})
	if err != nil || r.GetJobId() != "2" || r.GetExisted() {
		t.Errorf("another key: %v, %v", r, err)
	}
	_, err = c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: array("a", 3), IdempotencyKey: strings.Repeat("k", 256)})
	wantStatus(t, err, codes.InvalidArgument, "idempotency_key", "256", "255")
}

func TestSubmitRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("ten", 10))
	digest := make([]byte, 32)
	for name, tc := range map[string]struct {
		change func(*volleyv1.JobSpec)
		code   codes.Code
		texts  []string
	}{
		"no name":          {func(s *volleyv1.JobSpec) { s.Name = "" }, 0, []string{`name ""`}},
		"long name":        {func(s *volleyv1.JobSpec) { s.Name = strings.Repeat("n", 1<<20) }, 0, []string{`name "nnn`, "…"}},
		"odd name":         {func(s *volleyv1.JobSpec) { s.Name = "a:b" }, 0, []string{`name "a:b"`}},
		"name of digits":   {func(s *volleyv1.JobSpec) { s.Name = "17" }, 0, []string{`name "17"`, "job id"}},
		"queue":            {func(s *volleyv1.JobSpec) { s.Queue = "a b" }, 0, []string{`queue "a b"`}},
		"no command":       {func(s *volleyv1.JobSpec) { s.Command = nil }, 0, []string{"command has 0 words", "run 0 bytes"}},
		"both":             {func(s *volleyv1.JobSpec) { s.Run = "true" }, 0, []string{"command has 1 words", "run 4 bytes"}},
		"empty program":    {func(s *volleyv1.JobSpec) { s.Command = []string{"", "x"} }, 0, []string{"command[0]"}},
		"NUL":              {func(s *volleyv1.JobSpec) { s.Command = []string{"a", "b\x00"} }, 0, []string{"command[1]", "NUL"}},
		"unknown name":     {func(s *volleyv1.JobSpec) { s.Command = []string{"a", "{lr}"} }, 0, []string{"command[1]", "{lr}"}},
		"records, no map":  {func(s *volleyv1.JobSpec) { s.Command = []string{"a", "{records}"} }, 0, []string{"{records}", "no map"}},
		"env template":     {func(s *volleyv1.JobSpec) { s.Env = []*volleyv1.EnvVar{{Name: "A", Value: "{b}"}} }, 0, []string{"env.A", "{b}"}},
		"env name":         {func(s *volleyv1.JobSpec) { s.Env = []*volleyv1.EnvVar{{Name: "A=B"}} }, 0, []string{"env[0]", `"A=B"`}},
		"env of ours":      {func(s *volleyv1.JobSpec) { s.Env = []*volleyv1.EnvVar{{Name: "VOLLEY_INDEX"}} }, 0, []string{"VOLLEY_INDEX"}},
		"workdir":          {func(s *volleyv1.JobSpec) { s.Workdir = "rel" }, 0, []string{`workdir "rel"`, "absolute"}},
		"negative memory":  {func(s *volleyv1.JobSpec) { s.Resources = &volleyv1.Resources{MemoryBytes: -5} }, 0, []string{"memory_bytes -5"}},
		"negative cpu":     {func(s *volleyv1.JobSpec) { s.Resources = &volleyv1.Resources{CpuMilli: -1} }, 0, []string{"cpu_milli -1"}},
		"negative gpu":     {func(s *volleyv1.JobSpec) { s.Resources = &volleyv1.Resources{Gpu: -1} }, 0, []string{"gpu -1"}},
		"negative timeout": {func(s *volleyv1.JobSpec) { s.TimeoutMs = -1 }, 0, []string{"timeout_ms -1"}},
		"endless timeout":  {func(s *volleyv1.JobSpec) { s.TimeoutMs = math.MaxInt64 }, 0, []string{"timeout_ms 9223372036854775807"}},
		"negative grace":   {func(s *volleyv1.JobSpec) { s.GraceMs = -1 }, 0, []string{"grace_ms -1"}},
		"priority":         {func(s *volleyv1.JobSpec) { s.Priority = 10_000 }, 0, []string{"priority 10000"}},
		"attempts":         {func(s *volleyv1.JobSpec) { s.Retry = &volleyv1.Retry{Attempts: 101} }, 0, []string{"retry.attempts 101"}},
		"star inside": {func(s *volleyv1.JobSpec) {
			s.Retry = &volleyv1.Retry{Rules: []*volleyv1.RetryRule{{OnReason: "a*b", Action: volleyv1.RetryAction_RETRY_ACTION_EXIT}}}
		}, 0, []string{"retry.rules[0]", `"a*b"`}},
		"exit code": {func(s *volleyv1.JobSpec) {
			s.Retry = &volleyv1.Retry{Rules: []*volleyv1.RetryRule{{OnExitCode: "one", Action: volleyv1.RetryAction_RETRY_ACTION_EXIT}}}
		}, 0, []string{"on_exit_code", `"one"`}},
		"no condition": {func(s *volleyv1.JobSpec) {
			s.Retry = &volleyv1.Retry{Rules: []*volleyv1.RetryRule{{Action: volleyv1.RetryAction_RETRY_ACTION_EXIT}}}
		}, 0, []string{"retry.rules[0]", "no condition"}},
		"no action": {func(s *volleyv1.JobSpec) {
			s.Retry = &volleyv1.Retry{Rules: []*volleyv1.RetryRule{{OnReason: "*"}}}
		}, 0, []string{"retry.rules[0].action"}},
		"metric goal": {func(s *volleyv1.JobSpec) { s.Metric = &volleyv1.Metric{Name: "loss"} }, 0, []string{"metric.goal"}},
		"input leads out": {func(s *volleyv1.JobSpec) {
			s.Inputs = []*volleyv1.Input{{Path: "../x", Digest: digest}}
		}, 0, []string{"inputs[0]", `"../x"`}},
		"input digest": {func(s *volleyv1.JobSpec) { s.Inputs = []*volleyv1.Input{{Path: "x", Digest: []byte{1}}} }, 0, []string{"inputs[0] x", "1 bytes"}},
		"input twice": {func(s *volleyv1.JobSpec) {
			s.Inputs = []*volleyv1.Input{{Path: "x", Digest: digest, External: "/x"}, {Path: "x", Digest: digest, External: "/x"}}
		}, 0, []string{"inputs[1]", `"x"`, "twice"}},
		"input not stored":  {func(s *volleyv1.JobSpec) { s.Inputs = []*volleyv1.Input{{Path: "x", Digest: digest}} }, codes.FailedPrecondition, []string{"inputs[0] x", "not stored"}},
		"label":             {func(s *volleyv1.JobSpec) { s.Labels = []*volleyv1.Label{{Key: "a=b"}} }, 0, []string{"labels[0]", `"a=b"`}},
		"label twice":       {func(s *volleyv1.JobSpec) { s.Labels = []*volleyv1.Label{{Key: "a"}, {Key: "a"}} }, 0, []string{"labels[1]", `"a"`}},
		"depends on none":   {func(s *volleyv1.JobSpec) { s.DependsOn = []*volleyv1.Dependency{{}} }, 0, []string{"dependsOn[0]"}},
		"depends, unknown":  {func(s *volleyv1.JobSpec) { s.DependsOn = []*volleyv1.Dependency{{JobId: "99"}} }, 0, []string{"dependsOn[0]", `"99"`}},
		"depends, no index": {func(s *volleyv1.JobSpec) { s.DependsOn = []*volleyv1.Dependency{{JobId: "ten:10"}} }, 0, []string{"dependsOn[0]", "no index 10"}},
		"unequal": {func(s *volleyv1.JobSpec) {
			s.DependsOn = []*volleyv1.Dependency{{JobId: "ten", Type: volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N}}
			s.Space = array("", 11).GetSpace()
		}, 0, []string{"dependsOn[0]", "10 children, this one 11"}},
		"sequential single": {func(s *volleyv1.JobSpec) {
			s.DependsOn = []*volleyv1.Dependency{{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL}}
		}, 0, []string{"dependsOn[0]", "SEQUENTIAL"}},
		"space of nothing": {func(s *volleyv1.JobSpec) { s.Space = &volleyv1.Space{} }, 0, []string{"space is empty"}},
		"empty array":      {func(s *volleyv1.JobSpec) { s.Space = array("", 0).GetSpace() }, 0, []string{"0 tasks"}},
		"2^64-1 tasks":     {func(s *volleyv1.JobSpec) { s.Space = array("", math.MaxUint64).GetSpace() }, 0, []string{"18446744073709551615 tasks"}},
		"NaN": {func(s *volleyv1.JobSpec) {
			s.Space = sweep("", 1).GetSpace()
			s.Space.GetSweep().Params[0].Axis = &volleyv1.Param_FloatRange{FloatRange: &volleyv1.FloatRange{Min: math.NaN(), Max: 1, Steps: 3}}
		}, 0, []string{"sweep.params.x"}},
		"case": {func(s *volleyv1.JobSpec) {
			s.Space = sweep("", 1).GetSpace()
			p := proto.CloneOf(s.Space.GetSweep().Params[0])
			p.Name = "X"
			s.Space.GetSweep().Params = append(s.Space.GetSweep().Params, p)
		}, 0, []string{`"x" and "X"`, "VOLLEY_PARAM_X"}},
		"malformed manifest": {func(s *volleyv1.JobSpec) {
			s.Space = &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: &volleyv1.Map{Manifest: []byte("rubbish")}}}
		}, 0, []string{"manifest"}},
		"huge manifest": {func(s *volleyv1.JobSpec) {
			s.Space = &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: &volleyv1.Map{Manifest: make([]byte, maxManifest+1)}}}
		}, 0, []string{"map.manifest has 33554433 bytes"}},
		"huge": {func(s *volleyv1.JobSpec) { s.Command = []string{"a", strings.Repeat("x", maxSpec)} }, 0, []string{"the job has", "bytes, at most"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := single("bad")
			tc.change(spec)
			if tc.code == 0 {
				tc.code = codes.InvalidArgument
			}
			_, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: spec})
			wantStatus(t, err, tc.code, tc.texts...)
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	_, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{})
	wantStatus(t, err, codes.InvalidArgument, "spec is missing")
	if r, err := c.ListJobs(c.ctx, &volleyv1.ListJobsRequest{}); err != nil || len(r.GetJobs()) != 1 {
		t.Errorf("a refused submit left a job behind: %v, %v", r, err)
	}
}

func TestSubmitTakes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("ten", 10))
	for name, spec := range map[string]*volleyv1.JobSpec{
		"10^18":     array("a", 1e18),
		"all names": {Name: "a", Run: "echo {x} {index} {attempt} {job} {size} {{}}", Space: sweep("", 1).GetSpace()},
		"depends": {Name: "a", Command: []string{"true"}, Space: array("", 10).GetSpace(), DependsOn: []*volleyv1.Dependency{
			{JobId: "ten"},
			{JobId: "1:9"},
			{JobId: "ten:3"},
			{JobId: "1", Type: volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N},
			{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL},
		}},
		"external": {Name: "a", Command: []string{"true"}, Inputs: []*volleyv1.Input{{Path: "x/y", Digest: make([]byte, 32), External: "/big"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: spec})
			if err != nil {
				t.Fatal(err)
			}
			if r.GetJob().GetQueue() != "default" || r.GetJob().GetCreatedAt() == 0 || r.GetExisted() {
				t.Errorf("answer is %v", r)
			}
			for _, d := range c.describe(r.GetJobId()).GetDependsOn() {
				if d.GetType() != volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL && !strings.HasPrefix(d.GetJobId(), "1") {
					t.Errorf("dependency is not resolved: %v", d)
				}
			}
		})
	}
}
