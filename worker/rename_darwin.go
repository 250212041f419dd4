// SPDX-License-Identifier: Apache-2.0

package worker

import "errors"

// canRename: renameNoReplace may work.
const canRename = false

func renameNoReplace(string, string) error { return errors.ErrUnsupported }
