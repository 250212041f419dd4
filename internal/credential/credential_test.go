// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestSaveLoadRemove(t *testing.T) {
	t.Parallel()
	s := Store{Dir: filepath.Join(t.TempDir(), "a", "credentials")}
	if _, err := s.Load("127.0.0.1:7480"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load of nothing: %v, want fs.ErrNotExist", err)
	}
	want := Generate()
	if err := s.Save("127.0.0.1:7480", want); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:7480", "localhost:7480", "LOCALHOST:7480", ":7480"} {
		if got, err := s.Load(addr); err != nil || got != want {
			t.Errorf("Load(%q) = %q, %v; want %q", addr, got, err, want)
		}
	}
	if _, err := s.Load("127.0.0.1:7481"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another port: %v, want fs.ErrNotExist", err)
	}
	for path, mode := range map[string]fs.FileMode{s.Dir: 0o700, filepath.Join(s.Dir, "127.0.0.1:7480"): 0o600} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != mode {
			t.Errorf("%s: mode %04o, want %04o", path, st.Mode().Perm(), mode)
		}
	}
	if err := s.Remove("localhost:7480"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("localhost:7480"); err != nil {
		t.Fatalf("Remove twice: %v", err)
	}
	if _, err := s.Load("127.0.0.1:7480"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load after Remove: %v", err)
	}
}

func TestLoadRefusesReadableFile(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	if err := s.Save("h:1", "secret"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(s.Dir, "h:1"), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load("h:1")
	if err == nil || !strings.Contains(err.Error(), "mode 0640") || strings.Contains(err.Error(), "secret") {
		t.Fatalf("Load = %v, want an error that names the mode and not the token", err)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	for _, addr := range []string{"", "host", "host:", "../x:1", "a/b:1", "x\x00:1", strings.Repeat("a", 300) + ":1", "unix:/a/b"} {
		if err := s.Save(addr, "t"); err == nil {
			t.Errorf("Save(%q) has no error", addr)
		}
		if _, err := s.Load(addr); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load(%q) = %v, want an error about the address", addr, err)
		}
	}
	for _, token := range []string{"", "a b", "a\nb", "ü", strings.Repeat("a", 5000)} {
		if err := s.Save("h:1", token); err == nil {
			t.Errorf("Save of token %q has no error", token)
		}
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "h:2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("h:2"); err == nil {
		t.Error("a directory was loaded")
	}
}

// A reader beside writers sees whole tokens only.
func TestSaveIsAtomic(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	a, b := strings.Repeat("a", 4000), strings.Repeat("b", 4000)
	if err := s.Save("h:1", a); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, token := range []string{a, b} {
		wg.Go(func() {
			for range 50 {
				if err := s.Save("h:1", token); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			if got, err := s.Load("h:1"); err != nil || (got != a && got != b) {
				t.Errorf("Load = %d bytes, %v", len(got), err)
			}
		}
	})
	wg.Wait()
	left, err := os.ReadDir(s.Dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("%d files are left, want 1 (%v)", len(left), err)
	}
}

func TestInterceptors(t *testing.T) {
	t.Parallel()
	sent := func(token string) metadata.MD {
		md, err := PerRPC(token).GetRequestMetadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return metadata.New(md)
	}
	tests := []struct {
		name, server string
		md           metadata.MD
		ok           bool
	}{
		{"right", "tok", sent("tok"), true},
		{"wrong", "tok", sent("tok2"), false},
		{"prefix", "tok", sent("to"), false},
		{"none", "tok", nil, false},
		{"no scheme", "tok", metadata.Pairs(header, "tok"), false},
		{"two", "tok", metadata.Pairs(header, "Bearer tok", header, "Bearer x"), false},
		{"server without token", "", sent(""), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := metadata.NewIncomingContext(t.Context(), tt.md)
			called := 0
			_, err := UnaryServer(tt.server)(ctx, nil, nil, func(context.Context, any) (any, error) {
				called++
				return nil, nil
			})
			serr := StreamServer(tt.server)(nil, &stream{ctx: ctx}, nil, func(any, grpc.ServerStream) error {
				called++
				return nil
			})
			if tt.ok {
				if err != nil || serr != nil || called != 2 {
					t.Fatalf("unary %v, stream %v, %d calls", err, serr, called)
				}
				return
			}
			if status.Code(err) != codes.Unauthenticated || status.Code(serr) != codes.Unauthenticated || called != 0 {
				t.Fatalf("unary %v, stream %v, %d calls; want Unauthenticated and none", err, serr, called)
			}
		})
	}
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

func TestGenerate(t *testing.T) {
	t.Parallel()
	a, b := Generate(), Generate()
	if a == b || len(a) != 43 || checkToken(a) != nil {
		t.Fatalf("Generate: %q, %q", a, b)
	}
}
