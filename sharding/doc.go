// SPDX-License-Identifier: Apache-2.0

// Package sharding says what the indexes of an array job mean: parameter
// spaces for sweeps, shards of a data set for maps, and sets of indexes.
//
// # Contract
//
// Everything here is a pure function of its arguments, with no clock, no
// goroutine and no global state; the one exception is reading the files of a
// map (manifests and records), which blocks on the file system. A Space is
// immutable and safe for concurrent use; a Set belongs to one goroutine.
// Nothing is durable by itself: a Space is rebuilt from its proto wherever
// it is needed, on the client, the coordinator and every worker, so point i
// must be the same on all of them. That is why no result depends on the
// architecture, on map order or on the platform's math library.
//
// # Spaces
//
// NewSpace validates a sweep and answers Len and At. At costs O(parameters),
// whatever the size: a space of 10¹⁸ points is a few kilobytes. Only what
// `when` and `exclude` tie together is enumerated, once, at most
// MaxCombinations of them.
//
// The order of the points is part of the contract:
//
//   - GRID: the last declared parameter changes fastest. Parameters tied
//     together by an expression form one group, which takes the place of its
//     first declared member; inside a group the last declared member changes
//     fastest, and an absent value comes before the values.
//   - ZIP, LIST, FILE: rows in order, without the excluded ones.
//   - RANDOM, SOBOL: draw by draw; with `exclude`, the first `points` draws
//     that pass. A `repeat` parameter is not sampled: every draw occurs once
//     per repetition, repetitions fastest, so Len is points × repetitions.
//   - LHS: as RANDOM, but `exclude` removes points from the hypercube, since
//     a replacement would break its strata: Len may be below `points`.
//
// # Extending a sweep
//
// A point is known by its parameters (see Hasher), not by its index, so
// points added to a grid keep the identity of the ones that were there. More
// `points` of RANDOM and SOBOL continue the sequence: earlier points keep
// even their index. A RANDOM value depends on (seed, name, draw) alone, so
// adding a parameter keeps the others' values; a SOBOL value depends on the
// position of the parameter too, so new parameters go last. LHS has as many
// strata as points: a different number of points is a different hypercube,
// and all its points are new.
//
// # Placeholders
//
// In a command word, an environment value and a shell line `{name}` is the
// value of a parameter, `{{name}}` the text {name}, and `${name}` is left to
// who reads it; braces around anything but a name are text (Placeholders). A
// shell line puts each value where it stands as data, in any of the shells that
// /bin/sh may be: no value runs anything, ends a quote or a here-document, or
// arrives changed. Where that cannot be had, ParseShellTemplate refuses the
// place, or Append the value.
//
// # Expressions
//
// `exclude` and `when` compare parameters: == != < <= > >=, in and not in
// with a list, contains, startsWith, endsWith, and or not (&& || !), + - * /
// % ** and ?? (value or default), with number, string, boolean and list
// literals. The types are checked before anything runs. A comparison that
// depends on a parameter which the point does not have is unknown, and so is
// its negation; an expression that ends unknown counts as false. `x == nil`
// and `x ?? 0` ask for absence explicitly. / divides as floats do.
package sharding
