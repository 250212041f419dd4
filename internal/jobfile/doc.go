// SPDX-License-Identifier: Apache-2.0

// Package jobfile reads the strict YAML job file and makes a
// [volleyv1.JobSpec] of it: one form for one task and for 10^8.
//
// [Parse] is pure: it looks at the text only, and decides everything that the
// text alone decides (keys, types, ranges, the parameter space, the
// placeholders of a sweep). [Load] reads the file, parses it, and then looks
// at the disk around it: the inputs that the job names, the table of a
// `sampler: file`, the data set of a map, the working directory. Load reads
// those files once, from the first byte to the last, and blocks for as long
// as that takes or until its context ends; nothing is written anywhere.
//
// Errors. Both return an [*Error]: a list of [Diagnostic], in the order of the
// file, each with file, line, column, the source line with a caret, the path
// of the key, and what to do. Checks come in stages (syntax, keys and types,
// meaning, disk) and a stage with errors ends the work, because what follows
// from a mistake only hides it. Lines and columns count from 1, columns in
// characters, as editors do.
//
// Order. Everything that becomes part of a point's identity has an order that
// depends on the text and the files alone: parameters as declared, inputs
// sorted by path, maps (`env`, `labels`) as written.
//
// Snapshot. The digests that Load computes are those of the content at that
// moment. A file that changes between Load and its upload no longer has its
// digest, which the receiver notices; nothing here locks files.
//
// Strictness. A key that is not known is an error, also when a later version
// of Volley knows it: a job whose `checkpoint:` is silently ignored costs more
// than a job that is refused.
package jobfile
