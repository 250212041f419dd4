// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHelperSocket is the task of TestSocket when it is started as one.
func TestHelperSocket(t *testing.T) {
	if os.Getenv("HELPER_SOCKET") == "" {
		return // an ordinary run of the tests: nothing to help
	}
	path := os.Getenv("VOLLEY_SOCKET")
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c, `{"metrics": {"loss": 100}, "result": {"note": "early"}}`)
	in := bufio.NewReader(c)
	for _, bad := range []string{`{"metrics": 3}`, `nonsense`, `{"other": {}}`, `{}`} {
		fmt.Fprintln(c, bad)
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, `{"error":`) {
			t.Fatalf("answer to %s: %q %v", bad, line, err)
		}
	}
	// The last words, and gone without waiting.
	fmt.Fprintf(c, "{\"metrics\": {\"loss\": %s, \"acc\": 2}}\n{\"result\": {\"note\": \"later\"}}\n", os.Getenv("VOLLEY_INDEX"))
	os.Exit(0)
}

func TestSocketDirectoryTooLong(t *testing.T) {
	t.Parallel()
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if _, err := openSocketDir(long, ""); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a wanted directory with a long path: %v", err)
	}
	d, err := openSocketDir("", long)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.listen()
	if err != nil {
		t.Fatal(err)
	}
	// Nobody runs: who connects is sent away.
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the socket of an idle slot: %v, want its end", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.close()
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory stays: %v", err)
	}
}
