// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// MaxFileBytes is the size of the largest job file. Points beyond that belong
// in a table (`sampler: file`).
const MaxFileBytes = 4 << 20

// Options says how Load works. The zero value is what `volley run` uses.
type Options struct {
	// Set holds overrides such as `sweep.points=64`, applied in order to the
	// parsed file before it is checked. The value is YAML.
	Set []string
	// FileBytes is the size above which an input is used where it lies
	// instead of being snapshotted. Default: 64 MiB.
	FileBytes int64
	// SnapshotBytes bounds the sum of the snapshotted inputs.
	// Default: 256 MiB.
	SnapshotBytes int64
	// SnapshotFiles bounds the number of inputs. Default: 10,000.
	SnapshotFiles int
}

// Loaded is a job, ready to be submitted.
type Loaded struct {
	// Spec is complete: absolute directories, inputs with digests, table or
	// manifest included.
	Spec *volleyv1.JobSpec
	// Size is the number of indexes, 1 for a single job.
	Size uint64
	// Array says that the job is an array job, even of size 1.
	Array bool
	// Inputs are the files behind Spec.Inputs, in the same order.
	Inputs []InputFile
	// Warnings do not keep the job from being submitted.
	Warnings []Diagnostic

	doc *document
}

// InputFile is where one of Spec.Inputs lies on this machine.
type InputFile struct {
	// Path is absolute.
	Path string
	// Name is the same as Input.path.
	Name string
	// External inputs are used where they lie: there is nothing to upload.
	External bool
}

// File is a job file whose text is right. What the text leaves open (files,
// data sets) is decided by Load.
type File struct {
	// Name is the name that Parse was given.
	Name string
	// Spec is what the text says: no inputs, no table of a `sampler: file`,
	// no manifest, directories as written.
	Spec *volleyv1.JobSpec
	// Warnings in the order of the file.
	Warnings []Diagnostic

	doc *document
}
