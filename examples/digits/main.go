// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// resultsFile is where volley looks for what a task reports.
const resultsFile = "results.json"

// results are the metrics of one point.
type results struct {
	ValLoss     float64 `json:"val_loss"`
	ValAccuracy float64 `json:"val_accuracy"`
	TrainLoss   float64 `json:"train_loss"`
	Epochs      int     `json:"epochs"`
}

// errUsage marks a mistake in the flags, which no retry mends.
var errUsage = errors.New("usage")

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("train", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o options
	flags.Float64Var(&o.rate, "lr", 0.1, "learning rate")
	flags.IntVar(&o.hidden, "hidden", 32, "hidden units")
	flags.Uint64Var(&o.seed, "seed", 0, "seed of the first weights and of the order")
	flags.IntVar(&o.epochs, "epochs", 60, "passes over the training data")
	data := flags.String("data", "digits.csv.gz", "data set, CSV or CSV compressed with gzip")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	if err := o.validate(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}

	digits, err := readDigits(*data)
	if err != nil {
		return err
	}
	training, validation := split(digits)
	res, err := train(o, training, validation, func(epoch int, r results) {
		fmt.Fprintf(stdout, "epoch %2d  train_loss %.4f  val_loss %.4f  val_accuracy %.4f\n",
			epoch, r.TrainLoss, r.ValLoss, r.ValAccuracy)
	})
	if err != nil {
		return err
	}
	return writeResults(resultsFile, res)
}

// writeResults writes through a second name: a task that is killed while it
// writes must not leave half a file that looks like a result.
func writeResults(name string, r results) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(name+".tmp", append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
