// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reason is what the end of a session says to an operator. Of a connection that
// broke the transport only knows that its context was cancelled.
func reason(err error) string {
	if err == nil {
		return "the worker said goodbye"
	}
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		if errors.Is(err, context.Canceled) {
			return lostConnection
		}
		return err.Error()
	}
	st := s.GRPCStatus()
	switch {
	case st.Code() == codes.Canceled && strings.HasSuffix(st.Message(), context.Canceled.Error()):
		return lostConnection
	case st.Code() == codes.Unavailable && strings.HasPrefix(st.Message(), "transport"):
		return lostConnection
	}
	return st.Message()
}

const lostConnection = "the connection was lost"
