// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/volley-batch/volley/sharding"
	"github.com/volley-batch/volley/worker/runner"
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
