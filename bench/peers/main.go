// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	rounds  int
	limit   time.Duration
	only    string
	install bool
	force   bool
	report  string
	volley  string
	scratch string
	results string
	doc     string
}

func main() {
	// A closed pipe behind standard output must not leave data lying about.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := stopSignals()
	defer stop()
	if err := run(ctx); err != nil {
		switch {
		case ctx.Err() == nil:
			fmt.Fprintln(os.Stderr, "peers:", err)
		case !sandboxed(): // the outer process speaks for both
			fmt.Fprintln(os.Stderr, "peers: interrupted; everything is stopped and removed, nothing was written")
		}
		stop()
		os.Exit(1) // stop has been called
	}
}

func run(ctx context.Context) error {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each contestant has its turn")
	flag.DurationVar(&o.limit, "limit", 12*time.Minute, "time for all rounds")
	flag.StringVar(&o.only, "only", "", "regular `expression` for the names of contestants")
	flag.BoolVar(&o.install, "install", true, "install what is missing: Debian packages as root, Python packages into -scratch")
	flag.BoolVar(&o.force, "force", false, "publish although others used the machine")
	flag.StringVar(&o.report, "report", "", "run nothing; write the page from this results `file`")
	flag.StringVar(&o.volley, "volley", "bin/volley", "the volley `binary`")
	flag.StringVar(&o.scratch, "scratch", ".bench", "`directory` for the virtual environment and for data during the run")
	flag.StringVar(&o.results, "results", "bench/results", "`directory` for results")
	flag.StringVar(&o.doc, "doc", "docs/performance.md", "`page` to write the tables into")
	flag.Parse()
	only, err := regexp.Compile(o.only)
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("argument %q: want flags only", flag.Arg(0))
	case err != nil:
		return fmt.Errorf("-only %q: %w", o.only, err)
	case o.rounds < 1 || o.rounds > 100:
		return fmt.Errorf("-rounds %d: want 1 to 100", o.rounds)
	case o.limit <= 0:
		return fmt.Errorf("-limit %v: want more than nothing", o.limit)
	case o.report != "":
		r, err := readResults(o.report)
		if err != nil {
			return err
		}
		return publish(r, o.doc)
	case os.Getenv(sandboxEnv) != "":
		return inside(ctx, o, only)
	}
	return outside(ctx, o)
}

// outside installs, runs this program in the sandbox, and publishes.
func outside(ctx context.Context, o options) (err error) {
	if o.volley, err = filepath.Abs(o.volley); err != nil {
		return err
	}
	if _, err := os.Stat(o.volley); err != nil {
		return fmt.Errorf("-volley: %w; `make build` makes it", err)
	}
	if o.scratch, err = filepath.Abs(o.scratch); err != nil {
		return err
	}
	if err := os.MkdirAll(o.scratch, 0o755); err != nil {
		return err
	}
	if o.install {
		install(ctx, o.scratch)
	}
	unlock, err := lock(filepath.Join(o.scratch, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	// What a run that was killed has left.
	old, err := filepath.Glob(filepath.Join(o.scratch, "run-*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(o.scratch, "run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The daemons of Slurm look through it.
	if err := os.Chmod(dir, 0o755); err != nil { // see above
		return err
	}
	if err := sandbox(ctx, dir, "-volley="+o.volley, "-scratch="+o.scratch, "-rounds="+strconv.Itoa(o.rounds),
		"-limit="+o.limit.String(), "-only="+o.only); err != nil {
		return err
	}
	r, err := readResults(filepath.Join(dir, resultsFile))
	if err != nil {
		return err
	}
	fmt.Print("\n", tables(r))
	quiet := r.quiet()
	into := o.results
	if quiet != nil && !o.force {
		into = o.scratch
	}
	path := filepath.Join(into, r.name()+".json")
	if err := writeResults(path, r); err != nil {
		return err
	}
	fmt.Println("wrote", path)
	switch {
	case quiet != nil && !o.force:
		return fmt.Errorf("not published: %w; to publish all the same: -report %s", quiet, path)
	case o.only != "":
		fmt.Println("not published: -only leaves contestants out; to publish all the same: -report", path)
		return nil
	}
	return publish(r, o.doc)
}

// lock keeps a second run out: the two would measure each other.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another run is going on (%s is locked): %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// resultsFile is where the inner process leaves the results for the outer one.
const resultsFile = "results.json"

func writeResults(path string, r *Results) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644) // meant to be published
}

// inside is the run itself.
func inside(ctx context.Context, o options, only *regexp.Regexp) error {
	dir, err := enterSandbox()
	if err != nil {
		return err
	}
	p := paths{volley: o.volley}
	if python := filepath.Join(o.scratch, "venv", "bin", "python"); isFile(python) {
		p.python = python
	}
	r, err := compete(ctx, dir, p, o, only)
	if err != nil {
		return err
	}
	return writeResults(filepath.Join(dir, resultsFile), r)
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// install gets what is missing. What cannot be installed is said; its
// contestant is skipped later, with the reason.
func install(ctx context.Context, scratch string) {
	var packages []string
	for _, p := range []struct{ program, pkg string }{
		{"parallel", "parallel"}, {"make", "make"}, {"slurmctld", "slurm-wlm"}, {"munged", "munge"}, {"ps", "procps"}, {"python3", "python3-venv"},
	} {
		// Daemons are in sbin, which is not on everybody's path.
		if _, err := exec.LookPath(p.program); err != nil && !isFile("/usr/sbin/"+p.program) {
			packages = append(packages, p.pkg)
		}
	}
	if len(packages) > 0 {
		if err := installDebian(ctx, packages); err != nil {
			fmt.Fprintf(os.Stderr, "skipped installing %s: %v\n", strings.Join(packages, ", "), err)
		}
	}
	venv := filepath.Join(scratch, "venv")
	if !isFile(filepath.Join(venv, "bin", "pip")) {
		fmt.Println("making a virtual environment in", venv)
		if err := call(ctx, "python3", "-m", "venv", venv); err != nil {
			fmt.Fprintln(os.Stderr, "skipped the virtual environment for Python:", err)
			return
		}
	}
	for _, p := range []struct{ module, pkg string }{{"distributed", "dask[distributed]"}, {"ray", "ray"}, {"hyperqueue", "hyperqueue"}} {
		if call(ctx, filepath.Join(venv, "bin", "python"), "-c", "import "+p.module) == nil {
			continue
		}
		fmt.Println("installing", p.pkg)
		if err := call(ctx, filepath.Join(venv, "bin", "pip"), "install", "--quiet", p.pkg); err != nil {
			fmt.Fprintf(os.Stderr, "skipped installing %s: %v\n", p.pkg, err)
		}
	}
}

// policy makes Debian's packages not start their daemons when installed.
const policy = "/usr/sbin/policy-rc.d"

func installDebian(ctx context.Context, packages []string) (err error) {
	if os.Getuid() != 0 {
		return errors.New("this needs root")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return err
	}
	fmt.Println("installing", strings.Join(packages, ", "))
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) // it is a program
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, os.Remove(policy)) }()
		_, werr := f.WriteString("#!/bin/sh\nexit 101\n")
		if err := errors.Join(werr, f.Close()); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrExist): // whoever has a policy keeps it
		return err
	}
	if err := call(ctx, "apt-get", "update", "-q"); err != nil {
		return err
	}
	return call(ctx, "apt-get", append([]string{"install", "-q", "-y", "--no-install-recommends"}, packages...)...)
}

// call runs a program and returns what it says only when it fails.
func call(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, strings.TrimSpace(said.String()))
	}
	return nil
}
