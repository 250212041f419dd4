// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// shortDir is short enough for a socket path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, DirName)
}

func open(t *testing.T, c Config) *Instance {
	t.Helper()
	in, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if in.client != nil {
			_ = in.Close()
		}
	})
	return in
}

func closeNow(t *testing.T, in *Instance) {
	t.Helper()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	in.client = nil
}

func submit(t *testing.T, in *Instance, spec *volleyv1.JobSpec) string {
	t.Helper()
	r, err := in.Client().Submit(t.Context(), client.Submission{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return r.JobId
}

func wait(t *testing.T, c *client.Client, id string) *volleyv1.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last *volleyv1.Job
	for j, err := range c.Watch(ctx, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = j
	}
	return last
}

func logs(t *testing.T, in *Instance, ref client.Ref, req *volleyv1.ReadLogsRequest) (out, errs string, err error) {
	t.Helper()
	for m, err := range in.Logs(t.Context(), ref, req) {
		if err != nil {
			return out, errs, err
		}
		if m.Stream == volleyv1.LogStream_LOG_STREAM_STDOUT {
			out += string(m.Data)
		} else {
			errs += string(m.Data)
		}
	}
	return out, errs, nil
}

// The first one owns the directory, the second joins, and whoever comes after
// the owner finds what it left.
func TestOwnJoinAndSucceed(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	first := open(t, Config{Dir: dir, Worker: true, Version: "1"})
	if !first.Owner() || !first.Working() || first.Dir() != dir || !strings.HasPrefix(first.Addr(), "unix:") {
		t.Fatalf("owner %v, working %v, %s", first.Owner(), first.Working(), first.Addr())
	}
	id := submit(t, first, &volleyv1.JobSpec{Name: "a", Command: []string{"/bin/sh", "-c", "echo out; echo err >&2"}})
	second := open(t, Config{Dir: dir, Worker: true})
	if second.Owner() || second.worker != nil || !second.Working() {
		t.Fatal("the second is no guest")
	}
	if j := wait(t, second.Client(), id); j.State != volleyv1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("state %v: %s", j.State, j.StatusReason)
	}
	if out, errs, err := logs(t, second, client.Ref{ID: id}, &volleyv1.ReadLogsRequest{}); out != "out\n" || errs != "err\n" || err != nil {
		t.Errorf("logs: %q, %q, %v", out, errs, err)
	}
	closeNow(t, second)
	closeNow(t, first)
	if _, err := os.Stat(filepath.Join(dir, "endpoint.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the endpoint is left: %v", err)
	}

	third := open(t, Config{Dir: dir})
	if !third.Owner() || third.Working() {
		t.Fatal("the third does not own the directory, or works")
	}
	d, err := third.Client().Job(t.Context(), client.Ref{ID: id})
	if err != nil || d.Job.State != volleyv1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("%v, %v", d, err)
	}
	if out, errs, err := logs(t, third, client.Ref{ID: id}, &volleyv1.ReadLogsRequest{}); out != "out\n" || errs != "err\n" || err != nil {
		t.Errorf("local logs: %q, %q, %v", out, errs, err)
	}
	if out, errs, err := logs(t, third, client.Ref{ID: id}, &volleyv1.ReadLogsRequest{TailBytes: 2, Streams: []volleyv1.LogStream{volleyv1.LogStream_LOG_STREAM_STDERR}}); out != "" || errs != "r\n" || err != nil {
		t.Errorf("local tail: %q, %q, %v", out, errs, err)
	}
	for _, ref := range []client.Ref{{ID: "99"}, {ID: id, Index: 5, Child: true}} {
		if _, _, err := logs(t, third, ref, &volleyv1.ReadLogsRequest{}); client.Kind(err) != client.NotFound {
			t.Errorf("logs of %s: %v", ref, err)
		}
	}
	if _, _, err := logs(t, third, client.Ref{ID: id}, &volleyv1.ReadLogsRequest{Attempt: 9}); client.Kind(err) != client.NotFound {
		t.Errorf("logs of attempt 9: %v", err)
	}
	waiting := submit(t, third, &volleyv1.JobSpec{Name: "b", Command: []string{"true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: 3}}})
	if _, _, err := logs(t, third, client.Ref{ID: waiting, Index: 1, Child: true}, &volleyv1.ReadLogsRequest{}); client.Kind(err) != client.NotFound || !strings.Contains(err.Error(), "has not started, so it has no output") {
		t.Errorf("logs of what waits: %v", err)
	}
	if _, _, err := logs(t, third, client.Ref{ID: waiting}, &volleyv1.ReadLogsRequest{}); client.Kind(err) != client.Invalid {
		t.Errorf("logs of an array: %v", err)
	}
}

// Who wants to run tasks while the owner does not brings a worker along.
func TestJoinWithWorker(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	owner := open(t, Config{Dir: dir})
	id := submit(t, owner, &volleyv1.JobSpec{Name: "a", Command: []string{"/bin/true"}})
	guest := open(t, Config{Dir: dir, Worker: true})
	if guest.Owner() || guest.worker == nil {
		t.Fatal("no worker was started")
	}
	if j := wait(t, owner.Client(), id); j.State != volleyv1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("state %v", j.State)
	}
}

// Before sees the journal before anything of it runs, and can keep it shut.
func TestBefore(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	in := open(t, Config{Dir: dir})
	id := submit(t, in, &volleyv1.JobSpec{Name: "a", Command: []string{"/bin/true"}})
	closeNow(t, in)
	refuse := errors.New("not now")
	if _, err := Open(t.Context(), Config{Dir: dir, Worker: true, Before: func(context.Context, *client.Client) error { return refuse }}); !errors.Is(err, refuse) {
		t.Fatalf("Open: %v", err)
	}
	in = open(t, Config{Dir: dir, Worker: true, Before: func(ctx context.Context, c *client.Client) error {
		return c.Terminate(ctx, id, "not any more")
	}})
	if j := wait(t, in.Client(), id); j.FinishedAttempts != 0 || j.State != volleyv1.JobState_JOB_STATE_FAILED {
		t.Errorf("the job ran: %v", j)
	}
}

// A path that is too long for a socket is served on loopback.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), DirName)
	owner := open(t, Config{Dir: dir})
	if !strings.HasPrefix(owner.Addr(), "127.0.0.1:") {
		t.Errorf("address %s", owner.Addr())
	}
	if guest := open(t, Config{Dir: dir}); guest.Owner() || guest.Addr() != owner.Addr() {
		t.Error("the guest is elsewhere")
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	owner := open(t, Config{Dir: shortDir(t), Listen: "127.0.0.1:0", Token: "secret"})
	c, err := client.Dial(t.Context(), client.Options{Addr: owner.Listen(), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := client.Dial(t.Context(), client.Options{Addr: owner.Listen(), Token: "guess"}); client.Kind(err) != client.Unauthenticated {
		t.Errorf("wrong token: %v", err)
	}
}

// The state is the user's alone, and no part of a repository.
func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	open(t, Config{Dir: dir})
	for name, mode := range map[string]fs.FileMode{"": 0o700, "endpoint.json": 0o600, "socket": 0o600, "lock": 0o600} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v; want %04o", name, st.Mode(), err, mode)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, ".gitignore")); string(b) != "*\n" {
		t.Errorf(".gitignore: %q, %v", b, err)
	}
	below := filepath.Join(filepath.Dir(dir), "a", "b")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(below); got != dir || err != nil {
		t.Errorf("Find = %s, %v; want %s", got, err, dir)
	}
	if _, err := Find(string(filepath.Separator)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Find in the root: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: filepath.Join(file, DirName)}); err == nil {
		t.Error("opened below a file")
	}
	dir := shortDir(t)
	open(t, Config{Dir: dir})
	// The endpoint is gone while its owner lives: the wait ends with the context.
	if err := os.Remove(filepath.Join(dir, "endpoint.json")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Dir: dir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no endpoint: %v", err)
	}
	// An endpoint that others can read is no endpoint.
	if err := os.WriteFile(filepath.Join(dir, "endpoint.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "endpoint.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "other users may read it") {
		t.Errorf("open endpoint: %v", err)
	}
}
