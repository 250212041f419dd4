// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/blob"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Engine is what the API needs of the engine.
type Engine interface {
	Do(ctx context.Context, e *journalv1.Entry) (state.Result, error)
	View(ctx context.Context, f func(*state.State)) error
}

// Workers is what the API needs of the sessions of workers.
type Workers interface {
	Seen(worker uint32) (connected bool, at time.Time)
	ReadLog(ctx context.Context, worker uint32, req *volleyv1.LogRequest, send func([]byte) error) error
}

// Config of a Server.
type Config struct {
	Engine  Engine
	Workers Workers
	Blobs   *blob.Store
	Version string
	Logger  *slog.Logger
	// Info adds to the answer of GetServerInfo what only the server knows. May
	// be nil.
	Info func(*volleyv1.GetServerInfoResponse)
}

// Server implements JobService, ClusterService and BlobService. It is safe for
// concurrent use.
type Server struct {
	volleyv1.UnimplementedJobServiceServer
	volleyv1.UnimplementedClusterServiceServer
	volleyv1.UnimplementedBlobServiceServer

	engine  Engine
	workers Workers
	blobs   *blob.Store
	version string
	info    func(*volleyv1.GetServerInfoResponse)
	log     *slog.Logger
	started time.Time
	hub     *hub
	points  *pointCache
	// planning has a token for each comparison with earlier jobs under way.
	planning chan struct{}
}

// New makes a server.
func New(c Config) *Server {
	return &Server{
		engine: c.Engine, workers: c.Workers, blobs: c.Blobs, version: c.Version, info: c.Info, log: c.Logger,
		started: time.Now(), hub: newHub(c.Engine), points: newPointCache(), planning: make(chan struct{}, maxPlanning),
	}
}

// Register adds the services to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	volleyv1.RegisterJobServiceServer(r, s)
	volleyv1.RegisterClusterServiceServer(r, s)
	volleyv1.RegisterBlobServiceServer(r, s)
}

// Release takes the effects of a durable batch, see engine.Release.
func (s *Server) Release(_ *state.State, effects []state.Effect) { s.hub.release(effects) }

// Close ends all watches. It does not wait for their calls to return.
func (s *Server) Close() { s.hub.close() }

// toStatus maps what went wrong to a gRPC status, once for the whole service.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	switch {
	case errors.Is(err, state.ErrNotFound), errors.Is(err, blob.ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, state.ErrInvalid), errors.Is(err, blob.ErrDigest), errors.Is(err, blob.ErrTooLarge):
		code = codes.InvalidArgument
	case errors.Is(err, state.ErrConflict):
		code = codes.FailedPrecondition
	case errors.Is(err, engine.ErrStopped), errors.Is(err, engine.ErrNotLeader):
		code = codes.Unavailable
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	text := err.Error()
	if code == codes.InvalidArgument {
		// The caller knows what it called, and the code says that it is
		// invalid: the text begins with the field, which the client looks up in
		// the job file.
		text = strings.Replace(strings.TrimPrefix(text, "submit: "), state.ErrInvalid.Error()+": ", "", 1)
	}
	return status.Error(code, text)
}

func notFound(id string) error {
	return status.Errorf(codes.NotFound, "there is no job %q", clip(id))
}

// clip keeps errors short whatever the input.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func formatID(job uint64) string { return strconv.FormatUint(job, 10) }

// job runs f in a view with the job (and child) that an id names. When it
// returns an error, f may have run or not.
func (s *Server) job(ctx context.Context, id string, f func(st *state.State, j *state.Job, child *uint64)) error {
	var err error
	verr := s.engine.View(ctx, func(st *state.State) {
		job, index, child, ok := lookup(st, id)
		if !ok {
			err = notFound(id)
			return
		}
		j := st.Job(job)
		if !child {
			f(st, j, nil)
			return
		}
		if index >= j.Size {
			err = status.Errorf(codes.NotFound, "job %d has %d tasks: there is no index %d", job, j.Size, index)
			return
		}
		f(st, j, &index)
	})
	if verr != nil {
		return toStatus(verr)
	}
	return err
}

// whole is job for calls that are about a job as a whole.
func (s *Server) whole(ctx context.Context, id string, f func(st *state.State, j *state.Job)) error {
	var refused error
	err := s.job(ctx, id, func(st *state.State, j *state.Job, child *uint64) {
		if child != nil {
			refused = status.Errorf(codes.InvalidArgument, "job_id %q names one task: name the job, %s", id, j.IDString())
			return
		}
		f(st, j)
	})
	if err != nil {
		return err
	}
	return refused
}

// byNumber is whole for a job that was looked up before: a name may mean
// another job by now.
func (s *Server) byNumber(ctx context.Context, job uint64, f func(st *state.State, j *state.Job)) error {
	return s.whole(ctx, formatID(job), f)
}

// lookup finds a job by id, id:index, name or name:index (the newest of it).
func lookup(st *state.State, id string) (job, index uint64, child, ok bool) {
	if job, index, child, ok := state.ParseID(id); ok && st.Job(job) != nil {
		return job, index, child, true
	}
	name, tail, child := strings.Cut(id, ":")
	ids := st.JobsNamed(name)
	if len(ids) == 0 {
		return 0, 0, false, false
	}
	job = ids[len(ids)-1]
	if child {
		if _, index, _, ok = state.ParseID(formatID(job) + ":" + tail); !ok {
			return 0, 0, false, false
		}
	}
	return job, index, child, true
}
