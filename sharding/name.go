// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"strings"
)

// Limits of a parameter space. All are checked by NewSpace.
const (
	// MaxParams is the number of parameters of a sweep.
	MaxParams = 256
	// MaxPoints is the number of points of a space.
	MaxPoints = 1<<63 - 1
	// MaxCombinations is how many combinations, rows or draws are listed
	// because of `when` and `exclude`.
	MaxCombinations = 4_194_304
	// MaxExpression is the length of an expression in bytes.
	MaxExpression = 4096
	// MaxSequence is the number of points of SOBOL and LHS: float64 cannot
	// tell more of them apart.
	MaxSequence = 1 << 53
)

// ValidName reports whether name may name a parameter: a letter or '_', then
// letters, digits and '_', all ASCII.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !isLetter(c) && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

func isLetter(c byte) bool { return c == '_' || (c|0x20 >= 'a' && c|0x20 <= 'z') }

// ReservedName reports whether templates give the name a meaning of its own.
func ReservedName(name string) bool {
	return name == "index" || name == "attempt" || name == "job"
}

func checkName(path, name string) error {
	const most = 128
	switch {
	case name == "":
		return errAt(path, "", "a parameter has an empty name")
	case len(name) > most:
		return errAt(path, clipText(name), "a parameter name has %d bytes; at most %d", len(name), most)
	case !ValidName(name):
		return errAt(path, name, "not a parameter name: a letter or '_', then letters, digits and '_'")
	case ReservedName(name):
		return errAt(path, name, "this name is reserved (index, attempt, job); choose another")
	}
	return nil
}

// nameSet tells parameters apart.
type nameSet map[string]string

// add adds a name. It returns the name that is there already, which may differ
// in case: tasks find both as VOLLEY_PARAM_<NAME> in capitals.
func (s nameSet) add(name string) (other string, ok bool) {
	upper := strings.ToUpper(name)
	if other, there := s[upper]; there {
		return other, false
	}
	s[upper] = name
	return "", true
}

func sameVariable(name, other string) string {
	return fmt.Sprintf("%q and %q differ only in case: tasks would find both as VOLLEY_PARAM_%s; rename one", clipText(other), clipText(name), clipText(strings.ToUpper(name)))
}
