// SPDX-License-Identifier: Apache-2.0

// Package treetest holds tests about the source tree itself: import layers,
// package documentation, licence lines, linked modules, links between
// documents, file sizes, sleeping tests, and examples that nobody runs.
//
// They are tests and not a linter's configuration so that `go test ./...` is
// the only command to know, and so that each rule carries its reason in the
// message that a failure prints. Every rule is a function over plain values
// (a graph, a file tree), and a test of its own gives it a tree with a planted
// violation: a rule that has stopped finding anything fails too.
//
// The tests read the tree as it lies on disk, committed or not, and run the go
// command; nothing is written except by
//
//	go test ./internal/treetest -run TestLinkedModules -update
//
// which rewrites modules.txt. When a test fails for a change that is right,
// change the table beside it and say why there.
package treetest
