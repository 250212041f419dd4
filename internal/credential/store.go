// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// maxToken bounds what Load reads, so that a wrong file is an error and not a
// large header.
const maxToken = 4096

// Store is a directory of credentials. The zero value is the user's own.
type Store struct {
	// Dir holds one file per address.
	// Default: volley/credentials in the user's configuration directory.
	Dir string
}

// Save writes the token for an address, replacing an earlier one.
func Save(addr, token string) error { return Store{}.Save(addr, token) }

// Load answers with the token for an address. An address without a credential
// gives an error that is fs.ErrNotExist.
func Load(addr string) (string, error) { return Store{}.Load(addr) }

// Remove forgets the token of an address. Forgetting what is not there is no
// error.
func Remove(addr string) error { return Store{}.Remove(addr) }

// Generate makes a new token: 256 random bits in URL-safe base64.
func Generate() string {
	var b [32]byte
	// crypto/rand.Read does not fail: it ends the program instead.
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Save writes the token for an address, replacing an earlier one.
func (s Store) Save(addr, token string) error {
	if err := checkToken(token); err != nil {
		return fmt.Errorf("save credential for %s: %w", addr, err)
	}
	path, err := s.path(addr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save credential for %s: %w", addr, err)
	}
	// MkdirAll leaves an existing directory as it is, and its names alone say
	// which coordinators the user runs.
	if err := os.Chmod(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save credential for %s: %w", addr, err)
	}
	if err := WriteFile(path, []byte(token+"\n")); err != nil {
		return fmt.Errorf("save credential for %s: %w", addr, err)
	}
	return nil
}

// Load answers with the token for an address. An address without a credential
// gives an error that is fs.ErrNotExist.
func (s Store) Load(addr string) (string, error) {
	path, err := s.path(addr)
	if err != nil {
		return "", err
	}
	b, err := ReadFile(path, maxToken)
	if err != nil {
		return "", fmt.Errorf("load credential for %s: %w", addr, err)
	}
	token := strings.TrimSpace(string(b))
	if err := checkToken(token); err != nil {
		return "", fmt.Errorf("load credential for %s: %s: %w", addr, path, err)
	}
	return token, nil
}

// Remove forgets the token of an address. Forgetting what is not there is no
// error.
func (s Store) Remove(addr string) error {
	path, err := s.path(addr)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove credential for %s: %w", addr, err)
	}
	return nil
}

func (s Store) path(addr string) (string, error) {
	name, err := fileName(addr)
	if err != nil {
		return "", err
	}
	dir := s.Dir
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("find the user's configuration directory: %w", err)
		}
		dir = filepath.Join(base, "volley", "credentials")
	}
	return filepath.Join(dir, name), nil
}

// fileName turns host:port into the name of a file. "localhost" and an empty
// host become 127.0.0.1: the coordinator saves under what it listens on, and a
// user who types the other spelling means the same socket.
func fileName(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return "", fmt.Errorf("address %q: want host:port", addr)
	}
	host = strings.ToLower(host)
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	name := net.JoinHostPort(host, port)
	if len(name) > 255 || strings.ContainsAny(name, "/\\\x00") {
		return "", fmt.Errorf("address %q: not a host name", addr)
	}
	return name, nil
}

// checkToken refuses what could not travel in a header.
func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("the token is empty")
	case len(token) > maxToken:
		return fmt.Errorf("the token has %d bytes, at most %d are allowed", len(token), maxToken)
	}
	for _, r := range token {
		if r <= ' ' || r >= 0x7f {
			return errors.New("the token has characters other than printable ASCII")
		}
	}
	return nil
}

// WriteFile writes a file with mode 0600 and puts it in place by rename.
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // CreateTemp uses 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// ReadFile reads a private file of at most limit bytes. It refuses one that
// other users may read.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The open file is asked, not the path: a swap between the two would
	// check one file and read another.
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s: other users may read it (mode %04o): chmod 600 it, and restart the coordinator so that it makes a new token", path, perm)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return b, nil
}
