// SPDX-License-Identifier: Apache-2.0

//go:build unix

package journal_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/volley-batch/volley/coordinator/journal"
)

// childEnv makes the test binary play another process: kind, then arguments.
const childEnv = "VOLLEY_JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	kind, dir, _ := strings.Cut(os.Getenv(childEnv), ":")
	var err error
	switch kind {
	case "":
		flag.Parse()
		// They wait for the disk and for elections, not for the CPU.
		if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
			err = f.Value.Set("8")
		}
		if err == nil {
			os.Exit(m.Run())
		}
	case "append":
		err = childAppend(dir)
	case "fill":
		err = childFill(dir)
	default:
		err = fmt.Errorf("unknown child %q", kind)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, kind, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+kind+":"+dir)
	return cmd
}

// childAppend proposes numbered records, keeps 32 in flight, snapshots every 500,
// and writes each number to stdout when its record is committed. It goes on until
// it is killed.
func childAppend(dir string) error {
	j, err := journal.OpenRaft(journal.RaftConfig{Dir: dir, TrailingRecords: 10})
	if err != nil {
		return err
	}
	var state, next, snapped, flight int
	leading := false
	for {
		<-j.Ready()
		for ev, ok := j.Next(); ok; ev, ok = j.Next() {
			switch ev.Kind {
			case journal.EventRestore:
				if _, err := fmt.Fscan(ev.Snapshot, &state); err != nil {
					return err
				}
				if err := ev.Snapshot.Close(); err != nil {
					return err
				}
			case journal.EventCommitted:
				for _, r := range ev.Records {
					n, err := strconv.Atoi(string(r.Data))
					if err != nil {
						return fmt.Errorf("record %q where %d belongs: %w", r.Data, state, err)
					}
					if n != state {
						return fmt.Errorf("record %d where %d belongs", n, state)
					}
					state++
					if ev.Own {
						flight--
						// One write(2): when it returns, the reader has it, killed or not.
						if _, err := fmt.Fprintln(os.Stdout, n); err != nil {
							return err
						}
					}
				}
			case journal.EventLeading:
				leading, next, snapped = true, state, state
			default:
				return fmt.Errorf("event %v: %w", ev.Kind, ev.Err)
			}
		}
		if !leading {
			continue
		}
		if flight == 0 && state-snapped >= 500 {
			frozen := state
			err := j.Snapshot(func(w io.Writer) error {
				_, err := fmt.Fprint(w, frozen)
				return err
			}, func(error) {}) // a failed one shows in the parent, as records that are missing
			if err == nil {
				snapped = frozen
			}
		}
		// Drained now and then, so that a snapshot can be cut.
		for target := 32; flight < target && (state-snapped < 500 || flight > 0 && next%32 != 0); flight++ {
			if err := j.Propose(strconv.AppendInt(nil, int64(next), 10)); err != nil {
				return err
			}
			next++
		}
		if flight == 0 {
			for range 2 {
				if err := j.Propose(strconv.AppendInt(nil, int64(next), 10)); err != nil {
					return err
				}
				next++
				flight++
			}
		}
	}
}

// TestKill kills a process that appends, again and again, on one directory. What
// it printed before must be there after, in order, each number once.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	acknowledged := 0 // numbers below are durable
	snapshots := 0
	for round := range 14 {
		cmd := child(t, "append", dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The first rounds kill during creation and election, before any record.
		lines := bufio.NewScanner(out)
		limit := rand.IntN(1200)
		if stages := []string{"LOCK", "raft.db", "snapshots", "FORMAT"}; round < len(stages) {
			limit = 0
			awaitFile(t, filepath.Join(dir, stages[round]))
		}
		for n := 0; n < limit && lines.Scan(); n++ {
			acknowledged = number(t, lines.Text(), acknowledged)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it wrote before it died
			acknowledged = number(t, lines.Text(), acknowledged)
		}
		if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
			t.Fatalf("round %d: child ended with %v: %s", round, err, &stderr)
		}
		present, restored := contents(t, dir)
		if round < 3 { // creation again
			// Where the kill came late there are records, but never fewer than
			// were acknowledged.
			if present < acknowledged {
				t.Fatalf("round %d: %d records were acknowledged, %d are there", round, acknowledged, present)
			}
			acknowledged = 0
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if present < acknowledged {
			t.Fatalf("round %d: %d records were acknowledged, %d are there", round, acknowledged, present)
		}
		if restored {
			snapshots++
		}
		acknowledged = present // the undecided ones that made it are delivered now
	}
	if snapshots == 0 || acknowledged < 1000 {
		t.Fatalf("%d records and %d restored snapshots prove little", acknowledged, snapshots)
	}
	t.Logf("%d records, %d of 14 opens from a snapshot", acknowledged, snapshots)
}

// awaitFile spins until a file is there: any pause would miss the moment.
func awaitFile(t *testing.T, name string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is not there after 30 s", name)
		}
	}
}

// number checks that line acknowledges the next number. After a kill the child
// goes on behind what survived, which the parent has counted.
func number(t *testing.T, line string, next int) int {
	t.Helper()
	n, err := strconv.Atoi(line)
	if err != nil || n != next {
		t.Fatalf("child acknowledged %q, next is %d", line, next)
	}
	return n + 1
}

// contents counts the records of a journal and checks their order.
func contents(t *testing.T, dir string) (n int, restored bool) {
	t.Helper()
	j, err := journal.OpenRaft(journal.RaftConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for {
		ev := await(t, j)
		switch ev.Kind {
		case journal.EventRestore:
			if _, err := fmt.Fscan(ev.Snapshot, &n); err != nil {
				t.Fatal(err)
			}
			if err := ev.Snapshot.Close(); err != nil {
				t.Fatal(err)
			}
			restored = true
		case journal.EventCommitted:
			for _, r := range ev.Records {
				n = number(t, string(r.Data), n)
			}
		case journal.EventLeading:
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			return n, restored
		default:
			t.Fatalf("event %v: %v", ev.Kind, ev.Err)
		}
	}
}

const fillLimit = 24 << 20

// childFill appends under a limit on file sizes until the journal fails, and
// prints how many records were committed.
func childFill(dir string) error {
	signal.Ignore(syscall.SIGXFSZ) // so that the write fails, with EFBIG
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: fillLimit, Max: fillLimit}); err != nil {
		return err
	}
	j, err := journal.OpenRaft(journal.RaftConfig{Dir: dir})
	if err != nil {
		return err
	}
	data := make([]byte, 1<<20)
	for n := 0; ; {
		<-j.Ready()
		for ev, ok := j.Next(); ok; ev, ok = j.Next() {
			switch ev.Kind {
			case journal.EventCommitted:
				n += len(ev.Records)
			case journal.EventFailed:
				refused := j.Propose(data)
				closed := j.Close()
				fmt.Printf("%d\n%v\n%v\n%v\n", n, ev.Err, refused, closed)
				return nil
			}
		}
		if err := j.Propose(data); err != nil && n > 0 {
			continue // EventFailed is on its way
		}
	}
}

// TestFullDisk runs into a limit of the operating system: the failure is an event
// that names the file, and everything acknowledged is there afterwards.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	var stderr bytes.Buffer
	cmd := child(t, "fill", dir)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v: %s", err, &stderr)
	}
	lines := strings.Split(string(out), "\n")
	n, err := strconv.Atoi(lines[0])
	if err != nil || n == 0 {
		t.Fatalf("child printed %q", out)
	}
	for _, line := range lines[1:3] {
		if !strings.Contains(line, "file too large") || !strings.Contains(line, filepath.Join(dir, "raft.db")) {
			t.Errorf("error %q does not say why and where", line)
		}
	}
	if lines[3] != "<nil>" {
		t.Errorf("close: %s", lines[3])
	}
	_, records := openLeading(t, journal.RaftConfig{Dir: dir})
	if len(records) < n {
		t.Fatalf("%d records were acknowledged, %d are there", n, len(records))
	}
}
