// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	header = "authorization"
	scheme = "Bearer "
)

// PerRPC sends the token with every call. It allows connections without TLS:
// the caller must use it on loopback and unix sockets only.
func PerRPC(token string) credentials.PerRPCCredentials { return bearer(token) }

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{header: scheme + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }

// UnaryServer refuses calls without the token, with UNAUTHENTICATED. With an
// empty token it refuses every call: a server that lost its token must not be
// an open one.
func UnaryServer(token string) grpc.UnaryServerInterceptor {
	c := newChecker(token)
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := c.check(ctx); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// StreamServer is UnaryServer for streams. The token is checked when the
// stream begins.
func StreamServer(token string) grpc.StreamServerInterceptor {
	c := newChecker(token)
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if err := c.check(ss.Context()); err != nil {
			return err
		}
		return next(srv, ss)
	}
}

// checker compares hashes: the time of a comparison then depends neither on
// the place of the first wrong byte nor on the length of the token.
type checker struct {
	want  [sha256.Size]byte
	empty bool
}

func newChecker(token string) *checker {
	return &checker{want: sha256.Sum256([]byte(token)), empty: token == ""}
}

func (c *checker) check(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get(header)
	if len(values) == 0 {
		return status.Error(codes.Unauthenticated, "no credential was sent")
	}
	// More than one is refused: which of them a proxy before us has checked is
	// not known here.
	token, ok := strings.CutPrefix(values[0], scheme)
	got := sha256.Sum256([]byte(token))
	if len(values) != 1 || !ok || c.empty || subtle.ConstantTimeCompare(got[:], c.want[:]) != 1 {
		return status.Error(codes.Unauthenticated, "the credential is not the one of this coordinator")
	}
	return nil
}
