// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/volley-batch/volley/coordinator"
)

// order is what a coordinator's process is told, in one line on its standard
// input: arguments can be read by every user of the machine, and there is a
// token in it.
type order struct {
	Dir   string `json:"dir"`
	Token string `json:"token"`
}

// Serve is the coordinator's process of Config.Separate. It reads its order,
// serves on a free port of loopback, writes the address in one line, and
// blocks until in ends, which it does with the process that started this one,
// however that ends; or until ctx does.
func Serve(ctx context.Context, in io.Reader, out io.Writer, version string, log *slog.Logger) (err error) {
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read what to serve: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("read what to serve: %w", err)
	}
	s, err := coordinator.Open(ctx, coordinator.Config{
		DataDir: o.Dir, Listen: "127.0.0.1:0", Token: o.Token, Version: version, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := fmt.Fprintln(out, s.Addr()); err != nil {
		return fmt.Errorf("say the address: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return nil
	case err := <-s.Err():
		return err
	}
}
