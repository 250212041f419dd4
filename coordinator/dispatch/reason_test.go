// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestReason(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, "the worker said goodbye"},
		{errReplaced, "the worker has connected again"},
		{fmt.Errorf("send: %w", errStopping), "the coordinator is stopping"},
		{status.Error(codes.Canceled, "the worker closed the stream"), "the worker closed the stream"},
		{status.Error(codes.Canceled, "context canceled"), "the connection was lost"},
		{status.Error(codes.Unavailable, "transport is closing"), "the connection was lost"},
		{context.Canceled, "the connection was lost"},
		{errors.New("broken pipe"), "broken pipe"},
	} {
		if got := reason(tt.err); got != tt.want {
			t.Errorf("reason(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}
