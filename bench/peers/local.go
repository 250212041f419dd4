// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const nothingDurable = "nothing"

// program is a contestant without a server: a command that runs n tasks.
type program struct {
	a *arena
	// prepare returns the command line that runs a shell script n times, or
	// /bin/true where the script is empty, and its standard input.
	prepare func(a *arena, script string, n int) (args []string, stdin string, err error)
}

// programs are the contestants without a server.
func programs() []contestant {
	return []contestant{
		newProgram(contestant{
			Name: "xargs", Settings: "`xargs -P SLOTS -n 1`", Durable: nothingDurable,
			tasks: map[row]int{rowProcess: 10_000, rowStart: 20},
		}, "xargs", xargs),
		newProgram(contestant{
			Name: "make", Settings: "`make -r -R -j SLOTS`, one phony target per task", Durable: nothingDurable,
			tasks: map[row]int{rowProcess: 10_000, rowStart: 20},
		}, "make", makeTargets),
		newProgram(contestant{
			Name: "GNU parallel", Settings: "`parallel -j SLOTS`, output grouped by task, `/bin/sh`", Durable: nothingDurable + "; `--joblog` is off",
			tasks: map[row]int{rowProcess: 800, rowStart: 20},
		}, "parallel", parallel),
		newProgram(contestant{
			Name: "GNU parallel -u", Settings: "`parallel -u -j SLOTS`, output not captured, `/bin/sh`", Durable: nothingDurable + "; `--joblog` is off",
			tasks: map[row]int{rowProcess: 800},
		}, "parallel", func(a *arena, script string, n int) ([]string, string, error) {
			args, in, err := parallel(a, script, n)
			return append([]string{args[0], "-u"}, args[1:]...), in, err
		}),
	}
}

func newProgram(c contestant, name string, prepare func(*arena, string, int) ([]string, string, error)) contestant {
	c.find = func(ctx context.Context, a *arena) (string, error) {
		if _, err := exec.LookPath(name); err != nil {
			return "", err
		}
		out, _, err := a.timed(ctx, nil, name, "--version")
		return firstLine(out), err
	}
	c.open = func(_ context.Context, a *arena) (instance, error) { return &program{a: a, prepare: prepare}, nil }
	return c
}

func (p *program) run(ctx context.Context, r row, n int) (sample, error) {
	if r != rowStart {
		args, stdin, err := p.prepare(p.a, "", n)
		if err != nil {
			return sample{}, err
		}
		_, s, err := p.a.timed(ctx, strings.NewReader(stdin), args[0], args[1:]...)
		return s, err
	}
	s, err := p.a.starts()
	if err != nil {
		return sample{}, err
	}
	defer s.close()
	args, stdin, err := p.prepare(p.a, s.script(), 1)
	if err != nil {
		return sample{}, err
	}
	return s.launch(ctx, n, func(ctx context.Context) *exec.Cmd {
		cmd := p.a.command(ctx, args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		return cmd
	})
}

func (p *program) close() error { return nil }

// numbers are 0 to n-1, one per line.
func numbers(n int) string {
	var b bytes.Buffer
	for i := range n {
		b.WriteString(strconv.Itoa(i))
		b.WriteByte('\n')
	}
	return b.String()
}

func xargs(a *arena, script string, n int) ([]string, string, error) {
	args := []string{"xargs", "-P", strconv.Itoa(a.slots), "-n", "1"}
	if script == "" {
		return append(args, "/bin/true"), numbers(n), nil
	}
	return append(args, "/bin/sh", "-c", script), numbers(n), nil
}

// makeTargets writes a makefile. A recipe without shell characters is executed
// by make itself, without a shell between.
func makeTargets(a *arena, script string, n int) ([]string, string, error) {
	if script == "" {
		script = "/bin/true"
	}
	targets := "t" + strings.ReplaceAll(strings.TrimSpace(numbers(n)), "\n", " t")
	text := fmt.Sprintf("TASKS := %s\n.PHONY: all $(TASKS)\nall: $(TASKS)\n$(TASKS):\n\t@%s\n", targets, script)
	path := filepath.Join(a.dir, "tasks.mk")
	err := os.WriteFile(path, []byte(text), 0o600)
	return []string{"make", "-r", "-R", "-f", path, "-j", strconv.Itoa(a.slots)}, "", err
}

func parallel(a *arena, script string, n int) ([]string, string, error) {
	if script == "" {
		script = "/bin/true"
	}
	// -N0: one task per line, and the line is no argument of it.
	return []string{"parallel", "--will-cite", "-j", strconv.Itoa(a.slots), "-N0", script}, numbers(n), nil
}

// launch measures programs without a server: the program is started, and then
// its first process.
func (s *starts) launch(ctx context.Context, samples int, program func(context.Context) *exec.Cmd) (sample, error) {
	var cmd *exec.Cmd
	return s.measure(ctx, samples, func(ctx context.Context) error {
		cmd = program(ctx)
		cmd.Stdout = io.Discard
		return cmd.Start()
	}, func(context.Context) error { return cmd.Wait() })
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
