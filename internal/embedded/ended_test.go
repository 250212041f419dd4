// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"syscall"
	"testing"

	"github.com/volley-batch/volley/client"
)

func TestReason(t *testing.T) {
	t.Parallel()
	in := open(t, Config{Dir: shortDir(t)})
	missing := &client.Error{Kind: client.NotFound, Msg: "there is no job"}
	if got := in.Reason(missing); !errors.Is(got, missing) || got.Error() != missing.Error() {
		t.Errorf("another error became %v", got)
	}
	if got := in.Reason(nil); got != nil {
		t.Errorf("no error became %v", got)
	}
	in.fail("the coordinator has stopped", syscall.ENOSPC)
	in.fail("the worker has stopped", errors.New("nobody to report to"))
	stopping := &client.Error{Kind: client.Unreachable, Msg: "the coordinator is stopping"}
	for range 2 { // it is not used up
		got := in.Reason(stopping)
		if e, ok := errors.AsType[*Error](got); !ok || !errors.Is(e, syscall.ENOSPC) {
			t.Fatalf("reason %v", got)
		}
		if want := "the coordinator has stopped: no space left on device"; got.Error() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := <-in.Err(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Err gave %v", err)
	}
}
