// SPDX-License-Identifier: Apache-2.0

// Package e2e holds tests that run the volley binary as users do: several
// processes on loopback, real tasks, and kills.
//
// The binary is built once for the package. Each test has its own directory
// for state, configuration and output, so tests do not meet.
package e2e
