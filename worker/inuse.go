// SPDX-License-Identifier: Apache-2.0

package worker

import "errors"

// ErrInUse is wrapped by the error of New for a data directory that another
// worker has.
var ErrInUse = errors.New("used by another worker")
