// SPDX-License-Identifier: Apache-2.0

// Command train fits a small neural network to handwritten digits and says how
// well it does on digits that it has not seen.
//
//	train -lr 0.1 -hidden 32 -seed 0 -epochs 60 -data digits.csv.gz
//
// It is the program of a sweep: its flags are the parameters, and results.json
// in the working directory is the result. It knows nothing of volley; any
// program with flags and a small JSON file will do.
//
// The same flags give the same result on one kind of processor: the split of
// the data is fixed, and the seed decides first weights and order. The exit
// code is 0 when results.json is written, 1 when the training diverged or the
// data cannot be read, and 2 for bad flags. Nothing is written in the latter
// cases, so that a half-trained point cannot be taken for a result.
package main
