// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/volley-batch/volley/coordinator/api"
	"github.com/volley-batch/volley/coordinator/blob"
	"github.com/volley-batch/volley/coordinator/dispatch"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Config of a Server. DataDir is required, and so is a Token where there is a
// Listen address or a Socket.
type Config struct {
	// DataDir holds the journal and the blobs. One process at a time.
	DataDir string
	// Listen is a loopback host:port; port 0 picks a free one. Empty: none.
	Listen string
	// Socket is the path of a unix socket. Empty: none.
	Socket string
	// Token that callers must present. Calls through Conn need none.
	Token   string
	Version string
	Logger  *slog.Logger
	// WorkerLease, KeepAge and KeepJobs: see engine.Options.
	WorkerLease time.Duration
	KeepAge     time.Duration
	KeepJobs    int
}

// Server is a running coordinator.
type Server struct {
	cfg      Config
	journal  journal.Journal
	engine   *engine.Engine
	dispatch *dispatch.Dispatcher
	api      *api.Server
	servers  []*grpc.Server
	addr     string
	inner    *bufconn.Listener
	conn     *grpc.ClientConn
	stop     context.CancelFunc
	errs     chan error
	running  sync.WaitGroup
	once     sync.Once
	closeErr error
	// probe is the package's, but in tests, which cannot wait so long.
	probe keepalive.ServerParameters
}

// Limits of the gRPC server. They bound what one caller can make it hold.
const (
	maxMessage = 64 << 20
	maxStreams = 10_000
	innerBuf   = 1 << 20
	// connectTime is how long a new connection may take to say what it is.
	connectTime = 10 * time.Second
)

// probe finds connections whose other end has vanished without a word: after
// Time of silence it is asked for a sign of life, and cut off after Timeout
// without. Connections that are merely idle stay.
var probe = keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 20 * time.Second}

// minPing is how often a client may ask the same; workers do every 10 s.
const minPing = 5 * time.Second

// Open starts a coordinator and blocks until it leads and serves, or ctx ends.
// The server lives until Close, not until ctx ends.
func Open(ctx context.Context, c Config) (*Server, error) { return open(ctx, c, probe) }

func open(ctx context.Context, c Config, probe keepalive.ServerParameters) (_ *Server, err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: c, errs: make(chan error, 4), probe: probe}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	// Listening comes before the journal: a taken port is found in a
	// millisecond, and must not cost an election first.
	var lc net.ListenConfig
	var outer []net.Listener
	defer func() {
		if err != nil {
			for _, l := range outer {
				_ = l.Close()
			}
		}
	}()
	if c.Listen != "" {
		l, err := lc.Listen(ctx, "tcp", c.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", c.Listen, cause(err))
		}
		outer = append(outer, l)
		s.addr = l.Addr().String()
	}
	raft, err := journal.OpenRaft(journal.RaftConfig{Dir: filepath.Join(c.DataDir, "journal"), Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	s.journal = raft // only now: an interface with a nil in it is not nil
	// After the journal, whose lock says that no other process lives here:
	// opening removes half-written blobs, and they might be another's.
	blobs, err := blob.Open(filepath.Join(c.DataDir, "blobs"))
	if err != nil {
		return nil, fmt.Errorf("open the coordinator: %w", err)
	}
	if c.Socket != "" {
		l, err := listenSocket(ctx, c.Socket)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", c.Socket, cause(err))
		}
		outer = append(outer, l)
	}
	s.dispatch = dispatch.New(c.Logger)
	s.engine = engine.New(engine.Config{
		Options: engine.Options{WorkerLease: c.WorkerLease, KeepAge: c.KeepAge, KeepJobs: c.KeepJobs},
		Journal: s.journal, ClusterID: rand.Text(), Release: s.release,
	})
	s.api = api.New(api.Config{Engine: s.engine, Workers: s.dispatch, Blobs: blobs, Version: c.Version, Logger: c.Logger, Info: s.info})
	s.dispatch.Bind(s.engine)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.running.Go(func() {
		if err := s.engine.Run(run); err != nil && !errors.Is(err, context.Canceled) {
			c.Logger.Error("the coordinator has stopped", "error", err)
			s.errs <- fmt.Errorf("coordinator: %w", err)
			// Nothing will change any more: whoever waits must not wait for it.
			s.api.Close()
			s.dispatch.Close()
		}
	})
	select {
	case <-s.engine.Leads():
	case err := <-s.errs:
		return nil, err
	case <-ctx.Done():
		return nil, fmt.Errorf("open the coordinator: %w", ctx.Err())
	}
	s.running.Go(func() { s.collect(run) })
	s.serve(outer)
	if s.conn, err = s.connect(); err != nil {
		return nil, fmt.Errorf("open the coordinator: %w", err)
	}
	return s, nil
}

func (c *Config) check() error {
	if c.DataDir == "" {
		return errors.New("open the coordinator: no data directory is given")
	}
	if (c.Listen != "" || c.Socket != "") && c.Token == "" {
		return errors.New("open the coordinator: a listener needs a token")
	}
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: want host:port, as in 127.0.0.1:7480", c.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen address %q: this version serves loopback addresses only (127.0.0.1, [::1]), because it does not encrypt", c.Listen)
	}
	return nil
}

// cause is what the system says. Around it stands the address, again.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// listenSocket takes the place of a socket that was left behind, but of nothing
// else: a path given by mistake must not cost a file.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("there is a file of this name that is no socket: choose another path or remove it")
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Blobs that no job names are looked for when the coordinator starts and at
// intervals after. blobGrace is the time between storing a file and submitting
// the job that names it; a client that takes longer is told to store it again.
const (
	blobInterval = time.Hour
	blobGrace    = 6 * time.Hour
)

func (s *Server) collect(ctx context.Context) {
	tick := time.NewTicker(blobInterval)
	defer tick.Stop()
	for {
		n, err := s.api.CollectBlobs(ctx, time.Now().Add(-blobGrace))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.cfg.Logger.Warn("files of forgotten jobs were not removed", "error", err)
		case n > 0:
			s.cfg.Logger.Info("removed files of forgotten jobs", "blobs", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// release hands effects to those who act on them: sessions first, so that a
// watcher which hears of a change finds the worker told.
func (s *Server) release(st *state.State, effects []state.Effect) {
	s.dispatch.Release(st, effects)
	s.api.Release(st, effects)
}

// serve starts the gRPC servers: one for callers with the token, one without
// for this process.
func (s *Server) serve(outer []net.Listener) {
	s.inner = bufconn.Listen(innerBuf)
	own := s.newGRPC()
	s.running.Go(func() { _ = own.Serve(s.inner) })
	if len(outer) == 0 {
		return
	}
	g := s.newGRPC(
		grpc.UnaryInterceptor(credential.UnaryServer(s.cfg.Token)),
		grpc.StreamInterceptor(credential.StreamServer(s.cfg.Token)),
	)
	for _, l := range outer {
		s.running.Go(func() {
			if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				s.errs <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
}

func (s *Server) newGRPC(more ...grpc.ServerOption) *grpc.Server {
	g := grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(s.probe), grpc.ConnectionTimeout(connectTime),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Stop waits for the calls: they use what Close takes down next.
		grpc.WaitForHandlers(true),
	}, more...)...)
	s.api.Register(g)
	volleyv1.RegisterWorkerServiceServer(g, s.dispatch)
	s.servers = append(s.servers, g)
	return g
}

// Addr is the address that the server listens on; "" if it has none.
func (s *Server) Addr() string { return s.addr }

// Err receives at most a few errors, after which the server is of no use.
func (s *Server) Err() <-chan error { return s.errs }

// Conn is a connection within this process, which needs no token. It is closed
// with the server.
func (s *Server) Conn() grpc.ClientConnInterface { return s.conn }

// connect makes Conn. The dialer is not called before the first use.
func (s *Server) connect() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///in-process",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.inner.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
}

// Close stops the server and blocks until it has. A second Close is a no-op.
func (s *Server) Close() error {
	s.once.Do(func() {
		if s.api != nil {
			s.api.Close()
			s.dispatch.Close()
		}
		// Callers within the process hear why, as others do, before their
		// connection goes.
		for _, g := range s.servers {
			g.Stop()
		}
		if s.conn != nil {
			_ = s.conn.Close()
		}
		if s.stop != nil {
			s.stop()
		}
		s.running.Wait()
		if s.journal != nil {
			s.closeErr = s.journal.Close()
		}
	})
	return s.closeErr
}
