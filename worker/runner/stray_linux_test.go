// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// strayVar marks the processes of these tests.
const strayVar = "STRAY_TEST"

// orphans runs a shell script that prints the ids of what it leaves behind.
// When it has ended, they are nobody's children.
func orphans(t *testing.T, script string, env ...string) []int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for f := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// carries says whether the process lives and has the mark.
func carries(pid int, mark string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, b...), []byte("\x00"+mark+"\x00"))
}

func mark(t *testing.T, n int) string {
	return strayVar + "=" + t.Name() + "/" + strconv.Itoa(os.Getpid()) + "/" + strconv.Itoa(n)
}

// killStraysOf ends what a test has started, also when it fails.
func killStraysOf(t *testing.T, marks ...string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if found, err := KillStrays(ctx, marks); err != nil || len(found.Left) > 0 {
			t.Errorf("processes of the test still run: %+v %v", found, err)
		}
	})
}

const quiet = "</dev/null >/dev/null 2>&1"

func TestKillStrays(t *testing.T) {
	t.Parallel()
	for name, noPidfd := range map[string]bool{"by descriptor": false, "by number and age": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine, alsoMine, other := mark(t, 1), mark(t, 2), mark(t, 12)
			killStraysOf(t, mine, alsoMine, other)
			dead := orphans(t, `
				sleep 600 `+quiet+` & echo $!
				setsid sleep 601 `+quiet+` & echo $!
				(trap '' TERM HUP INT; exec sleep 602 `+quiet+`) & echo $!
				(cd /; sh -c 'sleep 603; true' `+quiet+`) & echo $!`, mine)
			dead = append(dead, orphans(t, "sleep 604 "+quiet+" & echo $!", "A=b", alsoMine)...)
			// Another directory's, a longer value, a longer name, no mark at all.
			alive := orphans(t, "sleep 605 "+quiet+" & echo $!", other)
			alive = append(alive, orphans(t, "sleep 606 "+quiet+" & echo $!", mine+"0", other)...)
			alive = append(alive, orphans(t, "sleep 607 "+quiet+" & echo $!", "X"+mine, other)...)
			// A child of this process: not left behind by anybody.
			child := exec.Command("/bin/sleep", "608")
			child.Env = []string{mine}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = child.Process.Kill() // it may be dead: reported below
				_ = child.Wait()
			}()

			h := newHunt([]string{mine, alsoMine}, new(atomic.Int64))
			h.noPidfd = noPidfd
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			found, err := h.run(ctx)
			if err != nil || len(found.Left) != 0 {
				t.Fatalf("%+v, %v", found, err)
			}
			// The fourth has a child, if it came to it.
			if n := found.Killed; n != len(dead) && n != len(dead)+1 {
				t.Errorf("killed %d, want %d or one more", n, len(dead))
			}
			if h.noPidfd != noPidfd {
				t.Log("this system has no process descriptors")
			}
			for i, pid := range dead {
				if carries(pid, mine) || carries(pid, alsoMine) {
					t.Errorf("process %d is alive", i)
				}
			}
			for i, pid := range alive {
				if !carries(pid, other) {
					t.Errorf("process %d of others is dead", i)
				}
			}
			if !carries(child.Process.Pid, mine) {
				t.Error("a child of this process is dead")
			}
		})
	}
}

// TestKillStraysThatMultiply: what is started while others are killed is found
// by the next look.
func TestKillStraysThatMultiply(t *testing.T) {
	t.Parallel()
	m := mark(t, 1)
	killStraysOf(t, m)
	first := orphans(t, `sh -c 'while :; do sleep 600 & sleep 0.01; done' `+quiet+` & echo $!
		sh -c 'while :; do sleep 601 & sleep 0.01; done' `+quiet+` & echo $!`, m)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	found, err := KillStrays(ctx, []string{m})
	if err != nil || len(found.Left) != 0 || found.Killed < len(first) {
		t.Fatalf("%+v, %v", found, err)
	}
	if found, err = KillStrays(ctx, []string{m}); err != nil || found.Killed != 0 {
		t.Errorf("after that: %+v, %v", found, err)
	}
}

// TestKillStraysOverTime: with no time left it kills all the same, and says
// what it did not see end.
func TestKillStraysOverTime(t *testing.T) {
	t.Parallel()
	m := mark(t, 1)
	killStraysOf(t, m)
	pids := orphans(t, "sleep 600 "+quiet+" & echo $!", m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	found, err := KillStrays(ctx, []string{m})
	if err != nil || found.Killed+len(found.Left) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, p := range found.Left {
		if p.PID != pids[0] || p.Mark != m {
			t.Errorf("left: %+v, want process %d with %q", p, pids[0], m)
		}
	}
}

// TestKillStraysSparesAncestors: a worker that is started by a task of its
// predecessor kills that task's other processes, not those above itself.
func TestKillStraysSparesAncestors(t *testing.T) {
	t.Parallel()
	m := mark(t, 1)
	killStraysOf(t, m)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `(sleep 600 `+quiet+` & echo $!); "$0" "$1"; echo survived`, exe, m)
	cmd.Env = append(os.Environ(), helperVar+"=killstrays", m)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f := strings.Fields(string(out))
	if len(f) != 3 || f[1] != "killed=1" || f[2] != "survived" {
		t.Fatalf("output %q", out)
	}
	if pid, err := strconv.Atoi(f[0]); err != nil || carries(pid, m) {
		t.Errorf("process %s is alive (%v)", f[0], err)
	}
}

// TestKillHitsOnlyTheMarked: a number that passes to another process between
// the look and the kill is let go.
func TestKillHitsOnlyTheMarked(t *testing.T) {
	t.Parallel()
	m, other := mark(t, 1), mark(t, 2)
	killStraysOf(t, other)
	pid := orphans(t, "sleep 600 "+quiet+" & echo $!", other)[0]
	for _, noPidfd := range []bool{false, true} {
		h := newHunt([]string{m}, new(atomic.Int64))
		h.noPidfd = noPidfd
		if err := h.kill(pid); !errors.Is(err, unix.ESRCH) {
			t.Errorf("kill of another process: %v", err)
		}
		if !carries(pid, other) {
			t.Fatal("another process was killed")
		}
	}
}

func TestKillStraysWithoutMarks(t *testing.T) {
	t.Parallel()
	if found, err := KillStrays(t.Context(), nil); err != nil || found.Killed != 0 || len(found.Left) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	const tail = " 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 987654 0 0 18446744073709551615"
	for _, tc := range []struct {
		in   string
		want stat
		bad  bool
	}{
		{in: "7 (sh) S 3" + tail, want: stat{3, 987654}},
		{in: "7 (a ) R 9 (b) S 3" + tail, want: stat{3, 987654}},
		{in: "7 (sh) S 3", bad: true},
		{in: "7 (sh) S x" + tail, bad: true},
		{in: "7 sh S 3" + tail, bad: true},
		{in: "", bad: true},
	} {
		got, err := parseStat([]byte(tc.in))
		if got != tc.want || (err != nil) != tc.bad {
			t.Errorf("%q: %+v, %v", tc.in, got, err)
		}
	}
	if st, err := readStat(os.Getpid()); err != nil || st.parent != os.Getppid() || st.start == 0 {
		t.Errorf("this process: %+v, %v", st, err)
	}
}

// BenchmarkKillStrays is what a start after an unclean end pays when nothing is
// left.
func BenchmarkKillStrays(b *testing.B) {
	for b.Loop() {
		if _, err := KillStrays(b.Context(), []string{strayVar + "=nobody"}); err != nil {
			b.Fatal(err)
		}
	}
}
