// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainExit()) }

// mainExit is main for tests, which have their own way to exit.
func mainExit() int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	ctx, stop := interruptible(context.Background(), a.abandon)
	defer stop()
	return a.main(ctx, os.Args[1:])
}

// interruptible ends the context at the first SIGINT, SIGTERM or SIGHUP, and
// the process at the next SIGINT or SIGTERM, after abandon: a coordinator that
// does not answer must not keep a user from leaving.
//
// A terminal that closes sends SIGHUP, often twice (the shell and the kernel):
// the second one leaves the clean stop alone. Under nohup it is ignored from
// the start and stays so.
func interruptible(parent context.Context, abandon func()) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		cancel(errInterrupted)
		for s := range signals {
			if s != syscall.SIGHUP {
				break
			}
		}
		abandon()
		os.Exit(exitInterrupted)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
