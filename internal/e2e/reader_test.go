// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// block is one fenced block of a document.
type block struct {
	lang string
	line int // of its first line
	text []string
}

func readBlocks(t *testing.T, path string) []block {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	open := false
	for n, line := range strings.Split(string(b), "\n") {
		lang, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !open:
			blocks = append(blocks, block{lang: lang, line: n + 2})
			open = true
		case fence:
			open = false
		case open:
			last := &blocks[len(blocks)-1]
			last.text = append(last.text, line)
		}
	}
	if open {
		t.Fatalf("%s: a block is not closed", path)
	}
	blocks = slices.DeleteFunc(blocks, func(b block) bool { return len(b.text) == 0 })
	return blocks
}

// reader is somebody who follows a document.
type reader struct {
	t       *testing.T
	name    string // of the document
	dir     string
	env     []string
	port    string
	workers int

	files, commands int
}

func newReader(t *testing.T, name string) *reader {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(),
		"PATH="+filepath.Dir(volley)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "VOLLEY_ADDR=", "NO_COLOR=1")
	return &reader{t: t, name: name, dir: dir, env: env, port: port}
}

func (r *reader) command(line string) *exec.Cmd {
	// Documents name the default port; others may use it here.
	line = strings.ReplaceAll(line, "127.0.0.1:7480", "127.0.0.1:"+r.port)
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = r.dir, r.env
	return cmd
}

func (r *reader) block(b block) {
	r.t.Helper()
	if name, ok := strings.CutPrefix(b.text[0], "# "); ok && b.lang != "console" {
		if b.lang == "csv" { // which knows no comments
			b.text = b.text[1:]
		}
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(strings.Join(b.text, "\n")+"\n"), 0o600); err != nil {
			r.t.Fatal(err)
		}
		r.files++
	}
	if b.lang != "console" {
		return
	}
	for i := 0; i < len(b.text); {
		command, ok := strings.CutPrefix(b.text[i], "$ ")
		if !ok {
			r.t.Fatalf("%s:%d: output without a command", r.name, b.line+i)
		}
		at := fmt.Sprintf("%s:%d: $ %s", r.name, b.line+i, command)
		i++
		begin := i
		for i < len(b.text) && !strings.HasPrefix(b.text[i], "$ ") {
			i++
		}
		r.do(at, command, b.text[begin:i])
		r.commands++
	}
}

// do runs one command and compares its output.
func (r *reader) do(at, command string, want []string) {
	r.t.Helper()
	if set, ok := strings.CutPrefix(command, "export "); ok {
		r.env = append(r.env, strings.ReplaceAll(set, ":7480", ":"+r.port))
		return
	}
	if server, ok := strings.CutSuffix(command, " &"); ok {
		r.serve(at, server)
		return
	}
	cmd := r.command(command)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	interrupt := -1
	for i, l := range want {
		if l == "^C" {
			interrupt = i
		}
	}
	var err error
	if interrupt >= 0 {
		want = append(want[:interrupt:interrupt], want[interrupt+1:]...)
		err = r.interrupt(at, command, want[len(want)-1], &out)
	} else {
		err = cmd.Run()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && (interrupt < 0 || exit.ExitCode() != 130) || err != nil && exit == nil {
		r.t.Fatalf("%s: %v\n%s", at, err, out.String())
	}
	got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if out.Len() == 0 {
		got = nil
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		r.t.Errorf("%s (-document +program):\n%s", at, diff)
	}
}

var reached = regexp.MustCompile(`^interrupted: (\d+) of`)

// interrupt runs a command without a shell, which would get the signal in its
// place, and interrupts it when as much is done as the last line says.
func (r *reader) interrupt(at, command, last string, out *bytes.Buffer) error {
	r.t.Helper()
	m := reached.FindStringSubmatch(last)
	words := strings.Fields(command)
	if m == nil || words[0] != "volley" {
		r.t.Fatalf("%s: an interrupted command ends with %q", at, last)
	}
	cmd := exec.Command(volley, words[1:]...)
	cmd.Dir, cmd.Env = r.dir, r.env
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill() }()
	r.until(at, `"succeeded": `+m[1], "volley ls -o json --limit 1 --state running | grep succeeded")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return cmd.Wait()
}

// serve starts a server, and waits until it answers or is a node that is ready.
func (r *reader) serve(at, command string) {
	r.t.Helper()
	cmd := r.command("exec " + command)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("%s: %v", at, err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if r.t.Failed() {
			r.t.Logf("%s\n%s", at, log.String())
		}
	})
	if strings.HasPrefix(command, "volley worker") {
		r.workers++
	}
	r.until(at, strconv.Itoa(r.workers), `n=$(volley nodes -o name) && printf '%s\n' "$n" | grep -c .`)
}

// until repeats a command until it prints what is wanted, whatever its status.
func (r *reader) until(at, want, command string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out []byte
	for ctx.Err() == nil {
		out, _ = r.command(command).Output()
		if strings.Contains(string(out), want) {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	r.t.Fatalf("%s: no %q within a minute, the last output is %q", at, want, out)
}

var (
	spaces   = regexp.MustCompile(` +`)
	duration = regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s|m|h)\b( \d+s)?`)
	// progressLine is printed by runs that take longer, as on a loaded machine.
	progressLine = regexp.MustCompile(`^job \d+: (\d+ of|stopping)`)
)

// plain takes out of the output what is not the same twice: times, and the
// width of the columns that they stand in.
func plain(lines []string) []string {
	var out []string
	for s := bufio.NewScanner(strings.NewReader(strings.Join(lines, "\n"))); s.Scan(); {
		if progressLine.MatchString(s.Text()) {
			continue
		}
		text := duration.ReplaceAllString(s.Text(), "T")
		out = append(out, strings.TrimSpace(spaces.ReplaceAllString(text, " ")))
	}
	return out
}

// TestPlain holds the comparison itself: only times may differ.
func TestPlain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b string
		same bool
	}{
		{"fit  job 1  SUCCEEDED in 29ms", "fit  job 1  SUCCEEDED in 1.2s", true},
		{"fit  job 1  SUCCEEDED in 29ms", "fit  job 2  SUCCEEDED in 29ms", false},
		{"  1  hello  612ms   0s ago", "  1  hello  1m 3s  12s ago", true},
		{"6 points: 6 succeeded", "6 points: 5 succeeded", false},
		{"   1      5  0.0228    0.04", "   1      5  0.0229    0.04", false},
		{"6 tasks\njob 1: 2 of 6 done", "6 tasks", true},
	}
	for _, tt := range tests {
		same := cmp.Equal(plain(strings.Split(tt.a, "\n")), plain(strings.Split(tt.b, "\n")))
		if same != tt.same {
			t.Errorf("%q and %q: same is %v", tt.a, tt.b, same)
		}
	}
}
