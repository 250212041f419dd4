// SPDX-License-Identifier: Apache-2.0

// Command volley is the client, the coordinator and the worker of Volley.
//
// There is one file per command: its flags, its help and the calls that it
// makes. What the commands share is in a few more: the root with the global
// flags, the session with a coordinator, and the one place that turns errors
// into exit statuses (exit.go).
//
// The first SIGINT or SIGTERM asks the command to stop: `run` terminates its
// job and keeps what is done, servers hand back their work. The second one ends
// the process at once. Both exit with 130.
package main
