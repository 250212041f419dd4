// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// maxMessage bounds one message. The largest is a JobSpec with a table of a
// million rows.
const maxMessage = 64 << 20 // also what the coordinator takes

// Options says how to reach a coordinator.
type Options struct {
	// Addr is host:port, the host being loopback, or "unix:" and the absolute
	// path of a socket. There is no TLS in this version, so an address on the
	// network is refused: the token would travel readable.
	Addr string

	// Token opens the coordinator. Default: the user's credential for Addr.
	Token string

	// RetryFor is how long a call that may be repeated waits for a coordinator
	// that has gone away after Dial. Too short, and a restart of the
	// coordinator breaks a watch. Negative: not at all. Default: 30 s.
	RetryFor time.Duration
}

// Client calls one coordinator.
type Client struct {
	jobs     volleyv1.JobServiceClient
	cluster  volleyv1.ClusterServiceClient
	blobs    volleyv1.BlobServiceClient
	addr     string
	retryFor time.Duration
	close    func() error
}

// New makes a client of a connection that the caller owns. It does not block
// and never retries.
func New(conn grpc.ClientConnInterface) *Client {
	return &Client{
		jobs:    volleyv1.NewJobServiceClient(conn),
		cluster: volleyv1.NewClusterServiceClient(conn),
		blobs:   volleyv1.NewBlobServiceClient(conn),
	}
}

// Dial connects, and asks the coordinator for its version to know that it is
// there and lets us in.
func Dial(ctx context.Context, o Options) (*Client, error) {
	conn, err := Connect(o)
	if err != nil {
		return nil, err
	}
	c := New(conn)
	c.addr = o.Addr
	c.close = conn.Close
	if _, err := c.ServerInfo(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	// Set last: the first call must fail at once.
	switch {
	case o.RetryFor == 0:
		c.retryFor = 30 * time.Second
	case o.RetryFor > 0:
		c.retryFor = o.RetryFor
	}
	return c, nil
}

// Connect makes the connection that Dial uses, without trying it. Workers take
// it for their own service, with options of their own.
func Connect(o Options, extra ...grpc.DialOption) (*grpc.ClientConn, error) {
	target, err := target(o.Addr)
	if err != nil {
		return nil, &Error{Kind: Invalid, Msg: err.Error(), Err: err}
	}
	token := o.Token
	if token == "" && !strings.HasPrefix(o.Addr, "unix:") {
		token, err = credential.Load(o.Addr)
		// Without a credential the call is made all the same: when nothing
		// listens there, that is what the user has to hear.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Kind: Unauthenticated, Msg: err.Error(), Err: err}
		}
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), // a proxy must not see loopback traffic
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			// The default begins at a second: a coordinator restarts faster.
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
	if token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(credential.PerRPC(token)))
	}
	conn, err := grpc.NewClient(target, append(opts, extra...)...)
	if err != nil {
		return nil, &Error{Kind: Invalid, Msg: fmt.Sprintf("coordinator address %q: %v", o.Addr, err), Err: err}
	}
	return conn, nil
}

// target checks an address and turns it into a gRPC target.
func target(addr string) (string, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", fmt.Errorf("coordinator address %q: the path of a socket must be absolute", addr)
		}
		return "unix://" + path, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return "", fmt.Errorf("coordinator address %q: want host:port, for example 127.0.0.1:7480", addr)
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return "", fmt.Errorf("coordinator address %q: port %q: want a number from 1 to 65535", addr, port)
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		host = "127.0.0.1" // what credentials are kept under
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("coordinator address %q: this version has no TLS and speaks to coordinators on loopback only: use an SSH tunnel (ssh -L) and 127.0.0.1", addr)
	}
	return "passthrough:///" + net.JoinHostPort(host, port), nil
}

// Addr is the address given to Dial; empty for a client from New.
func (c *Client) Addr() string { return c.addr }

// Close ends the connection of a client from Dial. Calls under way fail.
func (c *Client) Close() error {
	if c.close == nil {
		return nil
	}
	return c.close()
}

// ServerInfo says what the coordinator is.
func (c *Client) ServerInfo(ctx context.Context) (*volleyv1.GetServerInfoResponse, error) {
	return retry(ctx, c, "", func() (*volleyv1.GetServerInfoResponse, error) {
		return c.cluster.GetServerInfo(ctx, &volleyv1.GetServerInfoRequest{})
	})
}

// Nodes lists the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) ([]*volleyv1.Node, error) {
	r, err := retry(ctx, c, "list nodes", func() (*volleyv1.ListNodesResponse, error) {
		return c.cluster.ListNodes(ctx, &volleyv1.ListNodesRequest{})
	})
	return r.GetNodes(), err
}
