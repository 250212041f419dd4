// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func load(t *testing.T) (training, validation []digit) {
	t.Helper()
	digits, err := readDigits("digits.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	return split(digits)
}

func TestData(t *testing.T) {
	t.Parallel()
	training, validation := load(t)
	if got, want := len(training)+len(validation), 1797; got != want {
		t.Errorf("%d digits, want %d", got, want)
	}
	if got, want := len(validation), 449; got != want {
		t.Errorf("%d digits to validate, want %d", got, want)
	}
	var seen [classes]int
	for _, d := range validation {
		seen[d.label]++
	}
	for label, n := range seen {
		if n < 40 {
			t.Errorf("validation has %d of digit %d, want at least 40", n, label)
		}
	}
}

// TestGradient compares the gradient with the slope of the loss itself.
func TestGradient(t *testing.T) {
	t.Parallel()
	training, _ := load(t)
	n := newNetwork(5, rand.New(rand.NewPCG(1, 2)))
	d := &training[7]
	n.forward(&d.image)
	n.backward(d)
	lossAt := func(weight *float64, v float64) float64 {
		old := *weight
		*weight = v
		defer func() { *weight = old }()
		n.forward(&d.image)
		return n.loss(d.label)
	}
	check := func(name string, weights, grads []float64) {
		const h = 1e-6
		for i := range weights {
			w := &weights[i]
			slope := (lossAt(w, *w+h) - lossAt(w, *w-h)) / (2 * h)
			if math.Abs(slope-grads[i]) > 1e-6 {
				t.Fatalf("%s weight %d: gradient %v, slope %v", name, i, grads[i], slope)
			}
		}
	}
	check("lower", n.lower, n.lowerGrad)
	check("upper", n.upper, n.upperGrad)
}

func TestTrainLearns(t *testing.T) {
	t.Parallel()
	training, validation := load(t)
	o := options{rate: 0.03, hidden: 16, epochs: 15}
	var losses []float64
	r, err := train(o, training, validation, func(_ int, r results) { losses = append(losses, r.TrainLoss) })
	if err != nil {
		t.Fatal(err)
	}
	if len(losses) != o.epochs || losses[len(losses)-1] > losses[0]/4 {
		t.Errorf("training loss went %.3f, want it to fall to a quarter in %d epochs", losses, o.epochs)
	}
	// Guessing is right one time in ten.
	if r.ValAccuracy < 0.85 || r.Epochs != o.epochs {
		t.Errorf("got %+v, want an accuracy above 0.85", r)
	}
}

func TestTrainIsDeterministic(t *testing.T) {
	t.Parallel()
	training, validation := load(t)
	fit := func(seed uint64, validation []digit) results {
		r, err := train(options{rate: 0.03, hidden: 8, seed: seed, epochs: 3}, training, validation, func(int, results) {})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := fit(1, validation)
	if again := fit(1, validation); again != first {
		t.Errorf("same seed: %+v, then %+v", first, again)
	}
	if other := fit(2, validation); other == first {
		t.Errorf("other seed, same result: %+v", other)
	}
	// Nothing of the validation part may leak into the training.
	if half := fit(1, validation[:len(validation)/2]); half.TrainLoss != first.TrainLoss {
		t.Errorf("training loss depends on the validation part: %v and %v", first.TrainLoss, half.TrainLoss)
	}
}

func TestRun(t *testing.T) {
	data, err := filepath.Abs("digits.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	var out bytes.Buffer
	if err := run([]string{"--lr", "0.03", "--hidden", "8", "--epochs", "2", "--data", data}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "epoch "); got != 2 {
		t.Errorf("output has %d epochs, want 2:\n%s", got, out.String())
	}
	text, err := os.ReadFile(resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]float64
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"val_loss", "val_accuracy", "train_loss", "epochs"} {
		if !(got[name] > 0) {
			t.Errorf("%s is %v in %s, want a number above 0", name, got[name], text)
		}
	}
	entries, err := os.ReadDir(".")
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v (%v), want %s alone", entries, err, resultsFile)
	}
}

func TestRunFails(t *testing.T) {
	data, err := filepath.Abs("digits.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("short.csv", []byte("1,2,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		args  []string
		usage bool
		want  string
	}{
		{"unknown flag", []string{"-depth", "3"}, true, "-depth"},
		{"bad number", []string{"-lr", "fast"}, true, `"fast"`},
		{"not a number", []string{"-lr", "NaN"}, true, "-lr NaN"},
		{"no units", []string{"-hidden", "0"}, true, "-hidden 0"},
		{"too many units", []string{"-hidden", "1000000000"}, true, "1 to 4096"},
		{"no epochs", []string{"-epochs", "-1"}, true, "-epochs -1"},
		{"argument", []string{"digits.csv.gz"}, true, `"digits.csv.gz"`},
		{"no data", []string{"-data", "none.csv"}, false, "none.csv"},
		{"short rows", []string{"-data", "short.csv"}, false, "short.csv"},
		{"divergence", []string{"-data", data, "-lr", "1e300", "-hidden", "8"}, false, "diverged in epoch 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(tt.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want one with %q", err, tt.want)
			}
			if got := errors.Is(err, errUsage); got != tt.usage {
				t.Errorf("usage error: %v, want %v", got, tt.usage)
			}
			if _, err := os.Stat(resultsFile); err == nil {
				t.Error("results.json was written")
			}
		})
	}
}

func TestParseDigits(t *testing.T) {
	t.Parallel()
	row := strings.Repeat("3,", pixels)
	tests := []struct{ name, text, want string }{
		{"good", strings.Repeat(row+"7\n", minDigits), ""},
		{"no final newline", strings.Repeat(row+"7\n", minDigits) + row + "7", ""},
		{"empty", "", "0 rows"},
		{"too few rows", row + "7\n", "1 rows"},
		{"short row", row + "\n1,2\n", "line 1"},
		{"bright", "17," + strings.Repeat("3,", pixels-1) + "7\n", `line 1, column 1: brightness "17"`},
		{"not a number", "3,NaN," + strings.Repeat("3,", pixels-2) + "7\n", `column 3: brightness "NaN"`},
		{"label", row + "7\n" + row + "10\n", `line 2, column 129: label "10"`},
		{"half a label", row + "1.5\n", `label "1.5"`},
		{"broken gzip", "\x1f\x8b", "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseDigits(strings.NewReader(tt.text))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func FuzzParseDigits(f *testing.F) {
	f.Add([]byte(strings.Repeat(strings.Repeat("3,", pixels)+"7\n", minDigits)))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte("\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		digits, err := parseDigits(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, d := range digits {
			for _, v := range d.image {
				if !(v >= 0 && v <= 1) {
					t.Fatalf("brightness %v", v)
				}
			}
			if d.label < 0 || d.label >= classes {
				t.Fatalf("label %d", d.label)
			}
		}
	})
}

func BenchmarkEpoch(b *testing.B) {
	digits, err := readDigits("digits.csv.gz")
	if err != nil {
		b.Fatal(err)
	}
	training, validation := split(digits)
	for _, hidden := range []int{16, 64} {
		b.Run(fmt.Sprintf("hidden=%d", hidden), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := train(options{rate: 0.03, hidden: hidden, epochs: 1}, training, validation, func(int, results) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
