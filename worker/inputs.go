// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker/stage"
)

const (
	fetchTries   = 6
	fetchBackoff = 200 * time.Millisecond
)

var errFetch = errors.New("input files not available")

// fetchInputs brings the input files of j to this node.
func (p *processes) fetchInputs(ctx context.Context, j *job, prep *prepared) error {
	prep.inputs = j.spec.GetInputs()
	for i, in := range prep.inputs {
		var target string
		err := stage.Check(in)
		pause := fetchBackoff
		for try := 1; err == nil; try++ {
			target, err = p.stage.Fetch(ctx, in, p.agent.readBlob)
			if err == nil || try == fetchTries || !transient(err) {
				break
			}
			p.log.Warn("input not fetched; trying again", "job", j.id, "input", in.GetPath(), "error", err)
			select {
			case <-time.After(pause):
				err = nil
			case <-ctx.Done():
				err = ctx.Err()
			}
			pause *= 2
		}
		if err != nil {
			return errors.Join(fmt.Errorf("%w: %w", errFetch, err), p.stage.Release(prep.inputs[:i]))
		}
		prep.targets = append(prep.targets, target)
	}
	return nil
}

func transient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.Internal, codes.ResourceExhausted, codes.Canceled, codes.DeadlineExceeded:
		return true
	case codes.Unknown:
		return errors.Is(err, stage.ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF)
	default:
		return false
	}
}

// readBlob reads a blob from the coordinator; it waits for a connection.
func (a *Agent) readBlob(ctx context.Context, digest []byte, write func([]byte) error) error {
	var blobs volleyv1.BlobServiceClient
	err := a.await(ctx, func() bool {
		if a.session == nil {
			return false
		}
		blobs = a.session.blobs
		return true
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := blobs.GetBlob(ctx, &volleyv1.GetBlobRequest{Digest: digest})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := write(m.GetData()); err != nil {
			return err
		}
	}
}
