// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrorKind says what a caller can do about an error.
type ErrorKind int

// The kinds of errors.
const (
	// Internal is a defect, of the coordinator or of this package.
	Internal ErrorKind = iota
	// Unreachable: no coordinator answers.
	Unreachable
	// NotFound: the job, child or file does not exist.
	NotFound
	// Refused: the request is well-formed and the state of things forbids it.
	Refused
	// Invalid: the request is wrong; the text names field and value.
	Invalid
	// Unauthenticated: the coordinator does not let us in.
	Unauthenticated
	// Canceled: the context ended. errors.Is knows which way.
	Canceled
)

// Error is every error of this package.
type Error struct {
	Kind ErrorKind
	// Op is what was asked, for example "submit job". It may be empty.
	Op string
	// Msg is for people.
	Msg string
	// Err is the cause; its text is not for people.
	Err error
}

func (e *Error) Error() string {
	if e.Op == "" {
		return e.Msg
	}
	return e.Op + ": " + e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

// Kind finds the kind of an error, through wrapping. An error from elsewhere
// is Internal.
func Kind(err error) ErrorKind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// wrap makes an *Error of what a call returned.
func (c *Client) wrap(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	// The context first: a call whose deadline has passed may fail with any
	// code, depending on where it was.
	if cause := ctx.Err(); cause != nil {
		return &Error{Kind: Canceled, Op: op, Msg: cause.Error(), Err: cause}
	}
	e := &Error{Op: op, Err: err}
	st, ok := status.FromError(err)
	if !ok {
		e.Msg = err.Error()
		return e
	}
	e.Msg = st.Message()
	switch st.Code() {
	case codes.Unavailable:
		e.Kind, e.Op, e.Msg = Unreachable, "", c.unreachable(st.Message())
	case codes.NotFound:
		e.Kind = NotFound
	case codes.InvalidArgument, codes.OutOfRange:
		e.Kind = Invalid
	case codes.FailedPrecondition, codes.AlreadyExists, codes.PermissionDenied, codes.ResourceExhausted, codes.Aborted:
		e.Kind = Refused
	case codes.Unauthenticated:
		e.Kind, e.Op = Unauthenticated, ""
		e.Msg = fmt.Sprintf("the coordinator%s does not let you in: %s (only the user who started it may use it)", c.at(), st.Message())
	case codes.Unimplemented:
		e.Kind = Refused
		e.Msg = fmt.Sprintf("the coordinator%s is of a version that cannot do this: %s", c.at(), st.Message())
	case codes.Canceled, codes.DeadlineExceeded:
		// Not our context: the other side gave up.
		e.Kind, e.Op, e.Msg = Unreachable, "", fmt.Sprintf("the coordinator%s ended the call: %s", c.at(), st.Message())
	}
	return e
}

func (c *Client) at() string {
	if c.addr == "" {
		return ""
	}
	return " at " + c.addr
}

// unreachable turns the text of an UNAVAILABLE into a sentence. What the
// transport itself says is cut down to its last clause ("connection refused");
// what the coordinator says is kept.
func (c *Client) unreachable(msg string) string {
	for _, own := range []string{"connection error", "error reading", "transport", "the connection", "last connection error", "closing transport", "keepalive", "name resolver"} {
		if strings.HasPrefix(msg, own) {
			return fmt.Sprintf("no coordinator answers%s: %s", c.at(), lastClause(msg))
		}
	}
	return fmt.Sprintf("the coordinator%s is not available: %s", c.at(), msg)
}

func lastClause(msg string) string {
	msg = strings.TrimRight(msg, `"`)
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		return msg[i+2:]
	}
	return msg
}

func invalid(op, format string, args ...any) error {
	return &Error{Kind: Invalid, Op: op, Msg: fmt.Sprintf(format, args...)}
}
