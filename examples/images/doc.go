// SPDX-License-Identifier: Apache-2.0

// Command classify says what a photograph of a texture shows.
//
//	classify -model model.json IMAGE     label one image, write results.json
//	classify -model model.json -train DIR
//	                                     fit a model to DIR/<label>/<image>
//
// It is the program of a map: volley runs it once for each image. An image is
// described by its colours and its edges, and takes the label of the nearest
// class in the model.
//
// The exit code is 0 when results.json is written, 65 when the file is not a
// readable image (no retry mends that; the job files tell volley so), 2 for bad
// flags and 1 for the rest. No part of results.json is written in the latter
// cases. Images are decoded into memory, at most 64 million pixels of them.
package main
