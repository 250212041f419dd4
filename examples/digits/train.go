// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// options are the flags that decide the result.
type options struct {
	rate   float64
	hidden int
	seed   uint64
	epochs int
}

// Limits keep a mistyped flag from eating the machine.
const (
	maxHidden = 4096
	maxEpochs = 10_000
	batchSize = 16
)

func (o options) validate() error {
	switch {
	// Written so that NaN fails too.
	case !(o.rate > 0) || math.IsInf(o.rate, 0):
		return fmt.Errorf("-lr %v: want a number above 0", o.rate)
	case o.hidden < 1 || o.hidden > maxHidden:
		return fmt.Errorf("-hidden %d: want 1 to %d", o.hidden, maxHidden)
	case o.epochs < 1 || o.epochs > maxEpochs:
		return fmt.Errorf("-epochs %d: want 1 to %d", o.epochs, maxEpochs)
	}
	return nil
}

// train runs all epochs and reports after each.
func train(o options, training, validation []digit, report func(epoch int, r results)) (results, error) {
	random := rand.New(rand.NewPCG(o.seed, 0))
	n := newNetwork(o.hidden, random)
	var r results
	for epoch := 1; epoch <= o.epochs; epoch++ {
		total := 0.0
		inBatch := 0
		order := random.Perm(len(training))
		for k, i := range order {
			n.forward(&training[i].image)
			total += n.loss(training[i].label)
			n.backward(&training[i])
			if inBatch++; inBatch == batchSize || k == len(order)-1 {
				n.step(o.rate, inBatch)
				inBatch = 0
			}
		}
		r = results{TrainLoss: total / float64(len(training)), Epochs: epoch}
		r.ValLoss, r.ValAccuracy = n.evaluate(validation)
		// JSON has no NaN, and a point without a loss has no place in a ranking.
		if bad := r.TrainLoss + r.ValLoss; math.IsNaN(bad) || math.IsInf(bad, 0) {
			return results{}, fmt.Errorf("diverged in epoch %d: try a learning rate below %v", epoch, o.rate)
		}
		report(epoch, r)
	}
	return r, nil
}
