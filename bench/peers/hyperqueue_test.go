// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeHQ understands what we use of the command line, and nothing else: its
// server and worker run until they are stopped, and a submitted array runs one
// process per task.
const fakeHQ = `#!/bin/sh
case "$1" in
--version) echo "hyperqueue v9"; exit 0 ;;
--server-dir=*) dir=${1#--server-dir=}; shift ;;
*) echo "no server directory" >&2; exit 2 ;;
esac
case "$1 $2" in
"server start") echo "$@" >"$HOME/server"; mkdir "$dir"; exec sleep 600 ;;
"server info") test -d "$dir"; exit ;;
"worker start") echo "$@" >"$HOME/worker"; exec sleep 600 ;;
esac
test "$1" = submit && shift || { echo "unknown command" >&2; exit 2; }
n=1
while [ "$1" != -- ]; do
  case "$1" in
  --wait|--stdout=none|--stderr=none) ;;
  --array=1-*) n=${1#--array=1-} ;;
  *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
shift
while [ "$n" -gt 0 ]; do
  "$@" || exit 1
  echo >>"$HOME/ran"
  n=$((n - 1))
done
`

func TestHyperQueueCommand(t *testing.T) { // not parallel: it sets the path
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "hq"), []byte(fakeHQ), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, journal := range []bool{false, true} {
		ctx := t.Context()
		a := &arena{dir: t.TempDir(), slots: 3}
		c := newHyperQueue(contestant{}, journal)
		if version, err := c.find(ctx, a); err != nil || version != "hyperqueue v9" {
			t.Fatalf("version %q, %v", version, err)
		}
		in, err := c.open(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := in.run(ctx, rowProcess, 5); err != nil || s.seconds <= 0 {
			t.Errorf("5 tasks: %v s, %v", s.seconds, err)
		}
		if s, err := in.run(ctx, rowStart, 2); err != nil || len(s.latencies) != 2 {
			t.Errorf("2 starts: %v, %v", s.latencies, err)
		}
		begin := time.Now()
		if err := in.close(); err != nil || time.Since(begin) > 9*time.Second {
			t.Errorf("stopped after %v: %v", time.Since(begin), err)
		}
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join(a.dir, name))
			if err != nil {
				t.Error(err)
			}
			return string(b)
		}
		if got := strings.Count(read("ran"), "\n"); got != 1+5+2 { // the first one to see that the worker is there
			t.Errorf("%d tasks have run, want 8", got)
		}
		if got := strings.Contains(read("server"), "--journal="); got != journal {
			t.Errorf("journal %v, want %v", got, journal)
		}
		if got := read("worker"); !strings.Contains(got, "--cpus=3") {
			t.Errorf("the worker was started with %q", got)
		}
	}
}
