// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reason is what an error of a call says to an operator: `rpc error: code =
// Unavailable desc = connection error: desc = "transport: … connection
// refused"` is "connection refused".
func reason(err error) string {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return err.Error()
	}
	msg := s.GRPCStatus().Message()
	if s.GRPCStatus().Code() != codes.Unavailable || !strings.HasPrefix(msg, "connection error") {
		return msg
	}
	msg = strings.TrimRight(msg, `"`)
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		msg = msg[i+len(": "):]
	}
	return msg
}
