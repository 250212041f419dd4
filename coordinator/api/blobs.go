// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// FindMissingBlobs implements BlobService.
func (s *Server) FindMissingBlobs(_ context.Context, req *volleyv1.FindMissingBlobsRequest) (*volleyv1.FindMissingBlobsResponse, error) {
	out := &volleyv1.FindMissingBlobsResponse{}
	for n, d := range req.GetDigests() {
		// Whoever asks is about to submit a job with it.
		has, err := s.blobs.Keep(d)
		if err != nil {
			return nil, toStatus(fmt.Errorf("digests[%d]: %w", n, err))
		}
		if !has {
			out.Digests = append(out.Digests, d)
		}
	}
	return out, nil
}

// PutBlob implements BlobService.
func (s *Server) PutBlob(stream grpc.ClientStreamingServer[volleyv1.PutBlobRequest, volleyv1.PutBlobResponse]) error {
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return invalid("the stream ended before its first message, which has the digest")
	}
	if err != nil {
		return err
	}
	w, err := s.blobs.Create(m.GetDigest())
	if err != nil {
		return toStatus(err)
	}
	for {
		if _, err := w.Write(m.GetData()); err != nil {
			w.Abort()
			return toStatus(err)
		}
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.Abort()
			return err
		}
	}
	if err := w.Commit(); err != nil {
		return toStatus(err)
	}
	return stream.SendAndClose(&volleyv1.PutBlobResponse{})
}

// GetBlob implements BlobService.
func (s *Server) GetBlob(req *volleyv1.GetBlobRequest, stream grpc.ServerStreamingServer[volleyv1.GetBlobResponse]) error {
	f, err := s.blobs.Open(req.GetDigest())
	if err != nil {
		return toStatus(err)
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := stream.Send(&volleyv1.GetBlobResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return status.Errorf(codes.Internal, "read blob: %v", err)
		}
	}
}

// CollectBlobs removes the blobs that no kept job names and that nobody has
// stored or asked for since the given time, and says how many. The time guards
// those whose job is still to be submitted.
func (s *Server) CollectBlobs(ctx context.Context, since time.Time) (int, error) {
	all, err := s.blobs.All()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	named, err := s.namedBlobs(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, d := range all {
		if named[string(d)] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		gone, err := s.blobs.RemoveBefore(d, since)
		if err != nil {
			return removed, fmt.Errorf("remove blob %x: %w", d, err)
		}
		if gone {
			removed++
		}
	}
	return removed, nil
}

// jobsPerView is how many jobs one view looks at.
const jobsPerView = 256

// namedBlobs is the digests that kept jobs name. A job that is submitted
// meanwhile has just had its blobs marked as asked for.
func (s *Server) namedBlobs(ctx context.Context) (map[string]bool, error) {
	var ids []uint64
	if err := s.engine.View(ctx, func(st *state.State) { ids = st.JobIDs() }); err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for part := range slices.Chunk(ids, jobsPerView) {
		if err := s.engine.View(ctx, func(st *state.State) {
			for _, id := range part {
				if j := st.Job(id); j != nil {
					for _, in := range j.Spec.GetInputs() {
						named[string(in.GetDigest())] = true
					}
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	return named, nil
}
