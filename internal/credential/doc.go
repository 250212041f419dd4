// SPDX-License-Identifier: Apache-2.0

// Package credential keeps the token that opens a coordinator, and checks it.
//
// A coordinator without TLS listens on loopback or on a unix socket only, and
// asks every call for a random token. It writes the token to a file of the
// user who started it, one per address:
//
//	<user configuration directory>/volley/credentials/<host:port>
//
// with mode 0600 in a directory of mode 0700, so that the commands and workers
// of the same user find it without flags and other users of the machine are
// refused. A file that others may read is an error on Load, as it is for ssh:
// a token that leaked is not a credential.
//
// Files are replaced by rename: a reader sees the old token or the new one,
// never half of one. Nothing here is synced to disk; a token that a power cut
// swallows is written again when the coordinator starts.
//
// The functions do not block on the network. They are safe for concurrent use,
// also by several processes.
package credential
