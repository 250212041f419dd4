// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
	"github.com/volley-batch/volley/worker/runner"
)

const shellPath = "/bin/sh"

// defaultPath is the tasks' PATH when the worker itself has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inherited are the only variables that a task gets from the worker's own
// environment: credentials of the node must not leak into tasks.
var inherited = []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR"}

// placeholders beside the parameters.
const (
	nameIndex   = "index"
	nameAttempt = "attempt"
	nameJob     = "job"
	nameSize    = "size"
	nameRecords = "records"
	nameFirst   = "first"
	nameCount   = "count"
)

// prepared is what the tasks of a job share, worked out once. It is immutable.
type prepared struct {
	// err: every task fails with it. again: preparing once more may help.
	err   error
	again bool

	words []*sharding.Template // command; nil for a shell line
	shell *sharding.Template
	// program is the resolved command; empty: it depends on the task.
	program string

	space  *sharding.Space // sweep
	shards *sharding.Shards
	data   *sharding.Manifest // map
	dir    string             // of the manifest's relative paths

	base      []string // environment of every task
	env       []envTemplate
	path      string            // PATH of base
	envPrefix map[string]string // parameter name to "VOLLEY_PARAM_X="

	inputs  []*volleyv1.Input
	targets []string
	// writeRecords: a file with the task's records is made.
	writeRecords bool
	recordsName  string
	fusable      bool
	// isolate: an attempt that fails is not repeated (for some reasons at
	// least), so a fused process is taken apart here.
	isolate bool
	fanOut  bool // work directories lie in directories of a thousand

	limits         runner.Limits
	timeout, grace time.Duration
}

type envTemplate struct {
	name  string
	value *sharding.Template
}

// prepare works j out in a goroutine of its own: a space may take seconds to
// enumerate, an input minutes to arrive.
func (p *processes) prepare(j *job) bool {
	p.wg.Go(func() {
		prep, err := p.prepareJob(p.ctx, j)
		if err != nil {
			p.log.Error("job cannot be prepared; its tasks fail", "job", j.id, "error", err)
			// Only what comes from elsewhere can be better next time.
			prep = &prepared{err: err, again: errors.Is(err, errFetch)}
		}
		p.keep.remove(j.number)
		if !p.agent.jobReady(j, prep) && prep.err == nil {
			// Forgotten meanwhile; forget could not know of the inputs.
			if err := p.stage.Release(prep.inputs); err != nil {
				p.log.Warn("input files not removed", "job", j.id, "error", err)
			}
		}
	})
	return false
}

func (p *processes) prepareJob(ctx context.Context, j *job) (*prepared, error) {
	spec := j.spec
	prep := &prepared{
		timeout: time.Duration(spec.GetTimeoutMs()) * time.Millisecond,
		grace:   time.Duration(spec.GetGraceMs()) * time.Millisecond,
		// A CPU limit is kept only where the job asks for CPUs by number.
		limits: runner.Limits{
			CPUMilli:    spec.GetResources().GetCpuMilli(),
			MemoryBytes: spec.GetResources().GetMemoryBytes(),
		},
		fanOut:  j.size > 1000,
		isolate: spec.GetRetry().GetAttempts() <= 1,
		dir:     spec.GetSubmitDir(),
	}
	for _, r := range spec.GetRetry().GetRules() {
		prep.isolate = prep.isolate || r.GetAction() == volleyv1.RetryAction_RETRY_ACTION_EXIT
	}
	if err := prep.command(spec); err != nil {
		return nil, err
	}
	if err := prep.points(spec); err != nil {
		return nil, err
	}
	if err := prep.environment(p.agent, j); err != nil {
		return nil, err
	}
	prep.records(spec)
	if err := p.fetchInputs(ctx, j, prep); err != nil {
		return nil, err
	}
	prep.resolve(&p.lookup, spec)
	return prep, nil
}

func (p *prepared) command(spec *volleyv1.JobSpec) error {
	if spec.GetRun() != "" {
		t, err := sharding.ParseShellTemplate(spec.GetRun())
		if err != nil {
			return fmt.Errorf("run: %w", err)
		}
		p.shell = t
		return nil
	}
	if len(spec.GetCommand()) == 0 {
		return errors.New("the job has neither a command nor a run line")
	}
	for i, w := range spec.GetCommand() {
		t, err := sharding.ParseTemplate(w)
		if err != nil {
			return fmt.Errorf("command[%d]: %w", i, err)
		}
		p.words = append(p.words, t)
	}
	return nil
}

// points prepares what the indexes mean.
func (p *prepared) points(spec *volleyv1.JobSpec) (err error) {
	switch kind := spec.GetSpace().GetKind().(type) {
	case *volleyv1.Space_Sweep:
		p.space, err = sharding.NewSpace(kind.Sweep)
		if err == nil {
			p.paramNames(p.space.Names())
		}
	case *volleyv1.Space_Map:
		if p.data, err = sharding.ParseManifest(kind.Map.GetManifest()); err != nil {
			return err
		}
		p.shards, err = sharding.Split(p.data, kind.Map.GetShard())
		if names, ok := p.data.Params(); ok {
			p.paramNames(names)
		}
	}
	return err
}

func (p *prepared) paramNames(names []string) {
	p.envPrefix = make(map[string]string, len(names))
	for _, n := range names {
		p.envPrefix[n] = paramVariable(n)
	}
}

func paramVariable(name string) string { return "VOLLEY_PARAM_" + strings.ToUpper(name) + "=" }

// environment lays out what all tasks of the job have.
func (p *prepared) environment(a *Agent, j *job) error {
	spec := j.spec
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			p.base = append(p.base, name+"="+v)
		}
	}
	p.path = os.Getenv("PATH")
	if p.path == "" {
		p.path = defaultPath
		p.base = append(p.base, "PATH="+p.path)
	}
	for i, e := range spec.GetEnv() {
		t, err := sharding.ParseTemplate(e.GetValue())
		if err != nil {
			return fmt.Errorf("env[%d] %s: %w", i, e.GetName(), err)
		}
		if len(t.Names()) > 0 {
			p.env = append(p.env, envTemplate{e.GetName(), t})
			continue
		}
		v, err := t.Execute(func(string) (string, bool) { return "", false })
		if err != nil {
			return fmt.Errorf("env[%d] %s: %w", i, e.GetName(), err)
		}
		p.base = append(p.base, e.GetName()+"="+v)
		if e.GetName() == "PATH" {
			p.path = v
		}
	}
	size := strconv.FormatUint(j.size, 10)
	queue := spec.GetQueue()
	if queue == "" {
		queue = "default"
	}
	p.base = append(p.base,
		"VOLLEY_JOB_ID="+j.id,
		"VOLLEY_JOB_NAME="+spec.GetName(),
		"VOLLEY_SIZE="+size,
		"VOLLEY_SUBMIT_DIR="+spec.GetSubmitDir(),
		"VOLLEY_NODE="+a.cfg.Name,
		workerVariable+"="+a.home.identity(),
		"AWS_BATCH_JQ_NAME="+queue,
		"AWS_BATCH_CE_NAME=volley",
		"AWS_EXECUTION_ENV=VOLLEY")
	if j.array {
		p.base = append(p.base, "AWS_BATCH_JOB_ARRAY_SIZE="+size)
	}
	return nil
}

// records decides whether tasks get a file of records, and whether one process
// may take several indexes.
func (p *prepared) records(spec *volleyv1.JobSpec) {
	if p.data == nil {
		return
	}
	shard := spec.GetSpace().GetMap().GetShard()
	p.writeRecords = shard.GetBy() != nil
	p.recordsName = recordsName(p.data.Format())
	// A template that names a parameter or an index means one record.
	p.fusable = shard.GetTargetMs() > 0
	for _, t := range p.templates() {
		for _, n := range t.Names() {
			switch n {
			case nameRecords:
				p.writeRecords = true
			case nameFirst, nameCount, nameJob, nameSize, nameAttempt:
			default:
				p.fusable = false
			}
		}
	}
}

func recordsName(f volleyv1.MapFormat) string {
	switch f {
	case volleyv1.MapFormat_MAP_FORMAT_CSV:
		return "records.csv"
	case volleyv1.MapFormat_MAP_FORMAT_JSONL:
		return "records.jsonl"
	default:
		return "records.txt"
	}
}

func (p *prepared) templates() []*sharding.Template {
	ts := slices.Clone(p.words)
	if p.shell != nil {
		ts = append(ts, p.shell)
	}
	for _, e := range p.env {
		ts = append(ts, e.value)
	}
	return ts
}

// resolve looks up the program once when it is the same for all tasks. An
// error is left to the tasks: the program may be there by then, and each says
// why it could not start.
func (p *prepared) resolve(lookup *runner.Lookup, spec *volleyv1.JobSpec) {
	if p.shell != nil {
		p.program = shellPath
		return
	}
	if len(p.words[0].Names()) > 0 {
		return
	}
	for _, e := range p.env {
		if e.name == "PATH" {
			return
		}
	}
	word, err := p.words[0].Execute(func(string) (string, bool) { return "", false })
	if err != nil {
		return
	}
	dir := spec.GetWorkdir()
	if strings.ContainsRune(word, '/') && !filepath.IsAbs(word) && dir == "" {
		// In the directory of each task: an input, usually.
		for i, in := range p.inputs {
			if filepath.Clean(word) == filepath.FromSlash(filepath.Clean(in.GetPath())) {
				p.program = p.targets[i]
			}
		}
		return
	}
	if found, err := lookup.LookPath(word, dir, p.path); err == nil {
		p.program = found
	}
}
