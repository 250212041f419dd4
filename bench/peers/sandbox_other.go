// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var errLinux = errors.New("comparing with other systems needs the namespaces of Linux; -report works everywhere")

func sandbox(context.Context, string, ...string) error { return errLinux }
func enterSandbox() (string, error)                    { return "", errLinux }
func killAll() error                                   { return nil }

type group struct{}

func newGroup(string) (*group, error)        { return nil, errLinux }
func (g *group) leave() error                { return nil }
func (g *group) cpu() (time.Duration, error) { return 0, errLinux }

func stopSignals() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}
