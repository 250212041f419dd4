// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/volley-batch/volley/sharding"
	"github.com/volley-batch/volley/worker/runner"
	"github.com/volley-batch/volley/worker/stage"
)

const (
	// maxVariable bounds one variable: Linux refuses 128 KiB and more in one
	// string, and the task would not start. Larger values are left out; the
	// file of records has them.
	maxVariable = 96 << 10
	// maxResults bounds results.json and what comes through the socket.
	maxResults  = 64 << 10
	resultsName = "results.json"
)

// arrange fills s.spec: command line and environment.
func (s *processSlot) arrange(c *one) error {
	p := s.prep
	s.environment(c)
	s.args = s.args[:0]
	if p.shell != nil {
		line, err := s.expand(p.shell, c)
		if err != nil {
			return fmt.Errorf("run: %w", err)
		}
		s.args = append(s.args, shellPath, "-c", line)
	} else {
		for i, w := range p.words {
			word, err := s.expand(w, c)
			if err != nil {
				return fmt.Errorf("command[%d]: %w", i, err)
			}
			s.args = append(s.args, word)
		}
	}
	for _, e := range p.env {
		v, err := s.expand(e.value, c)
		if err != nil {
			return fmt.Errorf("env %s: %w", e.name, err)
		}
		s.env.Set(e.name, v)
	}
	program := p.program
	if program == "" {
		path := p.path
		for _, item := range s.env.Env() {
			if v, ok := strings.CutPrefix(item, "PATH="); ok {
				path = v
			}
		}
		var err error
		if program, err = s.p.lookup.LookPath(s.args[0], c.dir, path); err != nil {
			return err
		}
	}
	s.spec = runner.Spec{
		Path:    program,
		Args:    s.args,
		Env:     s.env.Env(),
		Dir:     c.dir,
		Limits:  p.limits,
		Timeout: p.timeout,
		Grace:   p.grace,
	}
	return nil
}

func (s *processSlot) expand(t *sharding.Template, c *one) (string, error) {
	var err error
	s.buf, err = t.AppendPoint(s.buf[:0], c.parameters, func(dst []byte, name string) ([]byte, bool) {
		switch name {
		case nameIndex:
			return strconv.AppendUint(dst, c.index, 10), true
		case nameAttempt:
			return strconv.AppendUint(dst, uint64(c.task.Attempt), 10), true
		case nameJob:
			return append(dst, c.task.JobID...), true
		case nameSize:
			return strconv.AppendUint(dst, c.task.Size, 10), true
		case nameRecords:
			return append(dst, c.recordsPath...), true
		case nameFirst:
			return strconv.AppendUint(dst, c.records.First, 10), true
		case nameCount:
			return strconv.AppendUint(dst, c.records.Count, 10), true
		}
		return dst, false
	})
	return string(s.buf), err
}

// environment sets what differs from task to task.
func (s *processSlot) environment(c *one) {
	t := c.task
	s.env.Reset()
	index := strconv.FormatUint(c.index, 10)
	attempt := strconv.FormatUint(uint64(t.Attempt), 10)
	s.env.Add("VOLLEY_INDEX=" + index)
	s.env.Add("VOLLEY_ATTEMPT=" + attempt)
	s.env.Add("VOLLEY_LEASE=" + strconv.FormatUint(t.Lease, 10))
	s.env.Add("VOLLEY_WORKDIR=" + c.dir)
	s.env.Add("AWS_BATCH_JOB_ATTEMPT=" + attempt)
	if t.job.array {
		s.env.Add("AWS_BATCH_JOB_ID=" + t.JobID + ":" + index)
		s.env.Add("AWS_BATCH_JOB_ARRAY_INDEX=" + index)
	} else {
		s.env.Add("AWS_BATCH_JOB_ID=" + t.JobID)
	}
	if s.sock != nil {
		s.env.Add(s.sock.variable)
	}
	if c.recordsPath != "" {
		s.env.Add("VOLLEY_RECORDS=" + c.recordsPath)
	}
	if c.parameters.Len() == 0 {
		s.env.Add("VOLLEY_PARAMS={}")
		return
	}
	s.buf = append(s.buf[:0], "VOLLEY_PARAMS="...)
	s.buf = c.parameters.AppendJSON(s.buf)
	if len(s.buf) <= maxVariable {
		s.env.Add(string(s.buf))
	}
	for name, value := range c.parameters.All() {
		prefix, ok := s.prep.envPrefix[name]
		if !ok {
			prefix = paramVariable(name)
		}
		s.buf = append(s.buf[:0], prefix...)
		s.buf = value.AppendText(s.buf)
		if len(s.buf) <= maxVariable {
			s.env.Add(string(s.buf))
		}
	}
}

// enterDir makes the task's working directory, with its inputs and records.
func (s *processSlot) enterDir(c *one) error {
	if dir := c.task.Spec.GetWorkdir(); dir != "" {
		c.dir = dir
	} else if err := s.makeDir(c); err != nil {
		return err
	}
	if c.own {
		if err := stage.Link(c.dir, s.prep.inputs, s.prep.targets); err != nil {
			return err
		}
	}
	if !s.prep.writeRecords {
		return nil
	}
	c.recordsPath = filepath.Join(c.dir, s.prep.recordsName)
	if !c.own {
		// Tasks share the directory: the file has a name of its own.
		ext := filepath.Ext(s.prep.recordsName)
		c.recordsPath = filepath.Join(c.dir, fmt.Sprintf(".volley-records-%s-%d.%d%s", c.task.JobID, c.index, c.task.Lease, ext))
	}
	f, err := os.OpenFile(c.recordsPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	err = sharding.WriteRecords(f, s.reader, c.records)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// makeDir makes a directory of the task's own: work/JOB/INDEX.ATTEMPT, large
// arrays with a level of a thousand each between.
func (s *processSlot) makeDir(c *one) error {
	parent := filepath.Join(s.p.work, c.task.JobID)
	if s.prep.fanOut {
		parent = filepath.Join(parent, strconv.FormatUint(c.index/1000, 10))
	}
	name := strconv.FormatUint(c.index, 10) + "." + strconv.FormatUint(uint64(c.task.Attempt), 10)
	c.dir = filepath.Join(parent, name)
	if s.bucket != parent {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return fmt.Errorf("working directory: %w", err)
		}
		s.bucket = parent
	}
	err := os.Mkdir(c.dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) { // removed with the kept directories of its job
		if err = os.MkdirAll(parent, 0o755); err == nil {
			err = os.Mkdir(c.dir, 0o755)
		}
	}
	// An attempt runs again after a preemption, or in parts of a fused process:
	// it must not find what the run before has left.
	for i := 2; errors.Is(err, fs.ErrExist) && i < 10000; i++ {
		c.dir = filepath.Join(parent, name+"."+strconv.Itoa(i))
		err = os.Mkdir(c.dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	c.own = true
	return nil
}

// leaveDir removes what the worker has put into the directory, and the
// directory itself when the task has left nothing there.
func (s *processSlot) leaveDir(c *one) {
	if c.recordsPath != "" {
		// The task may have removed it.
		_ = os.Remove(c.recordsPath)
	}
	if !c.own {
		return
	}
	if len(s.prep.inputs) > 0 {
		stage.Unlink(c.dir, s.prep.inputs, s.prep.targets)
	}
	_ = os.Remove(c.dir) // not empty: kept
}

// readResults takes results.json of the working directory into m. In a
// directory that tasks share it could be another task's, unless the job has
// one task and the file is newer than its start.
func (s *processSlot) readResults(c *one, r *Result, m *report) {
	if c.own {
		// For most tasks this is all that is done: an empty directory goes.
		if os.Remove(c.dir) == nil {
			c.own = false
			return
		}
	} else if c.task.Size > 1 {
		return
	}
	path := filepath.Join(c.dir, resultsName)
	b, modified, err := readRegular(path, maxResults)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		m.note(resultsName + ": " + err.Error())
		return
	case !c.own && modified.Before(r.StartedAt.Truncate(time.Second)):
		return
	}
	if err := m.merge(b); err != nil {
		m.note(resultsName + ": " + err.Error())
		return
	}
	if c.own {
		// It is recorded: a million points must not leave a million
		// directories that hold nothing else. It stays where other files do.
		if only, err := onlyFile(c.dir, resultsName, s.prep.inputs); err == nil && only {
			_ = os.Remove(path)
		}
	}
}
