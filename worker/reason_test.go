// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestReason(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"no such file":        errors.New("no such file"),
		"connection refused":  status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:7999: connect: connection refused"`),
		"the server stops: 3": fmt.Errorf("serve: %w", status.Error(codes.Unavailable, "the server stops: 3")),
		"no such node: a: b":  fmt.Errorf("worker: connect: %w", status.Error(codes.FailedPrecondition, "no such node: a: b")),
		"connection error":    status.Error(codes.Unavailable, "connection error"),
	} {
		if got := reason(err); got != want {
			t.Errorf("reason(%v) = %q, want %q", err, got, want)
		}
	}
}
