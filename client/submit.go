// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	// findBatch is how many digests go in one question.
	findBatch = 10_000
	// blobChunk is how much of a file goes in one message.
	blobChunk = 256 << 10
)

// Submission is a job to submit.
type Submission struct {
	Spec *volleyv1.JobSpec

	// Files are the paths of Spec.Inputs, in the same order. Those of
	// external inputs are not read.
	Files []string

	// Key is the idempotency key: submitting again with the same one answers
	// with the first job. Default: a random one, so that a retry inside
	// Submit makes no second job.
	Key string

	// Reuse takes over the results of points that succeeded before.
	Reuse bool
}

// Submit stores the files that the coordinator does not have, then submits.
// The job is durable when it returns without error.
func (c *Client) Submit(ctx context.Context, s Submission) (*volleyv1.SubmitJobResponse, error) {
	if s.Spec == nil {
		return nil, invalid("submit job", "there is no spec")
	}
	if err := c.upload(ctx, s.Spec.Inputs, s.Files); err != nil {
		return nil, err
	}
	if s.Key == "" {
		s.Key = rand.Text()
	}
	return retry(ctx, c, "submit job", func() (*volleyv1.SubmitJobResponse, error) {
		return c.jobs.SubmitJob(ctx, &volleyv1.SubmitJobRequest{Spec: s.Spec, IdempotencyKey: s.Key, Reuse: s.Reuse})
	})
}

// upload stores the inputs that are not there yet. Equal contents go once.
func (c *Client) upload(ctx context.Context, inputs []*volleyv1.Input, files []string) error {
	paths := map[[sha256.Size]byte]string{}
	var digests [][]byte
	for i, in := range inputs {
		if in.External != "" {
			continue
		}
		if len(in.Digest) != sha256.Size {
			return invalid("submit job", "input %s: the digest has %d bytes, not %d", in.Path, len(in.Digest), sha256.Size)
		}
		if i >= len(files) {
			return invalid("submit job", "input %s: no file was given for it", in.Path)
		}
		d := [sha256.Size]byte(in.Digest)
		if _, ok := paths[d]; !ok {
			paths[d] = files[i]
			digests = append(digests, in.Digest)
		}
	}
	for len(digests) > 0 {
		batch := digests[:min(len(digests), findBatch)]
		digests = digests[len(batch):]
		r, err := retry(ctx, c, "find missing files", func() (*volleyv1.FindMissingBlobsResponse, error) {
			return c.blobs.FindMissingBlobs(ctx, &volleyv1.FindMissingBlobsRequest{Digests: batch})
		})
		if err != nil {
			return err
		}
		for _, d := range r.Digests {
			if len(d) != sha256.Size {
				return &Error{Kind: Internal, Op: "find missing files", Msg: "the coordinator asks for a digest that is none"}
			}
			path, ok := paths[[sha256.Size]byte(d)]
			if !ok {
				return &Error{Kind: Internal, Op: "find missing files", Msg: fmt.Sprintf("the coordinator asks for %x, which the job does not have", d)}
			}
			if err := c.PutFile(ctx, path, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// PutFile stores a file under the digest of its content. A file that does not
// have that digest is Refused: it has changed since it was looked at.
func (c *Client) PutFile(ctx context.Context, path string, digest []byte) error {
	op := "store file " + path
	_, err := retry(ctx, c, op, func() (*volleyv1.PutBlobResponse, error) { return c.putOnce(ctx, op, path, digest) })
	return err
}

func (c *Client) putOnce(ctx context.Context, op, path string, digest []byte) (*volleyv1.PutBlobResponse, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{Kind: Invalid, Op: op, Msg: err.Error(), Err: err}
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // leaves the stream when we return early
	s, err := c.blobs.PutBlob(ctx)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	m := &volleyv1.PutBlobRequest{Digest: digest}
	buf := make([]byte, blobChunk)
	// The first message goes also for an empty file: it carries the digest.
	for first := true; ; first = false {
		n, err := io.ReadFull(f, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return nil, &Error{Kind: Invalid, Op: op, Msg: err.Error(), Err: err}
		}
		h.Write(buf[:n])
		if n > 0 || first {
			m.Data = buf[:n]
			if s.Send(m) != nil {
				return s.CloseAndRecv() // which knows why
			}
			m = &volleyv1.PutBlobRequest{}
		}
		if end {
			break
		}
	}
	// Checked here although the coordinator does so too: it could only say that
	// the digest is wrong, not that the file is being written to.
	if string(h.Sum(nil)) != string(digest) {
		return nil, &Error{Kind: Refused, Op: op, Msg: "the file changed while the job was prepared: submit again"}
	}
	return s.CloseAndRecv()
}
