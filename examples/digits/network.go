// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
)

// network has one hidden layer of tanh units and a softmax on top. Weights lie
// flat, one row per unit, the bias last in the row.
type network struct {
	hidden    int
	lower     []float64 // hidden × (pixels+1)
	upper     []float64 // classes × (hidden+1)
	lowerStep []float64 // momentum, same shape
	upperStep []float64
	lowerGrad []float64
	upperGrad []float64
	// Of the digit at hand.
	activity []float64
	delta    []float64
	output   [classes]float64
}

func newNetwork(hidden int, random *rand.Rand) *network {
	lower, upper := hidden*(pixels+1), classes*(hidden+1)
	n := &network{
		hidden: hidden,
		lower:  make([]float64, lower), lowerStep: make([]float64, lower), lowerGrad: make([]float64, lower),
		upper: make([]float64, upper), upperStep: make([]float64, upper), upperGrad: make([]float64, upper),
		activity: make([]float64, hidden), delta: make([]float64, hidden),
	}
	// Glorot: the variance of activities stays the same from layer to layer.
	fill(n.lower, math.Sqrt(2/float64(pixels+hidden)), random)
	fill(n.upper, math.Sqrt(2/float64(hidden+classes)), random)
	return n
}

func fill(weights []float64, deviation float64, random *rand.Rand) {
	for i := range weights {
		weights[i] = random.NormFloat64() * deviation
	}
}

// forward computes the probabilities of the classes into n.output.
func (n *network) forward(image *[pixels]float64) {
	for h := range n.activity {
		row := n.lower[h*(pixels+1):][: pixels+1 : pixels+1]
		sum := row[pixels]
		for i, v := range image {
			sum += row[i] * v
		}
		n.activity[h] = math.Tanh(sum)
	}
	highest := math.Inf(-1)
	for c := range n.output {
		row := n.upper[c*(n.hidden+1):][: n.hidden+1 : n.hidden+1]
		sum := row[n.hidden]
		for h, v := range n.activity {
			sum += row[h] * v
		}
		n.output[c] = sum
		highest = max(highest, sum)
	}
	// Without the highest taken off, exp overflows for confident networks.
	total := 0.0
	for c, v := range n.output {
		n.output[c] = math.Exp(v - highest)
		total += n.output[c]
	}
	for c := range n.output {
		n.output[c] /= total
	}
}

// loss is the cross-entropy of the last forward pass. It is infinite when the
// right answer got no probability at all; a floor would hide a network that has
// diverged behind a loss that can be ranked.
func (n *network) loss(label int) float64 {
	return -math.Log(n.output[label])
}

// backward adds the gradient of the loss of the last forward pass.
func (n *network) backward(d *digit) {
	clear(n.delta)
	for c, p := range n.output {
		slope := p
		if c == d.label {
			slope--
		}
		weights := n.upper[c*(n.hidden+1):][: n.hidden+1 : n.hidden+1]
		grad := n.upperGrad[c*(n.hidden+1):][: n.hidden+1 : n.hidden+1]
		for h, v := range n.activity {
			grad[h] += slope * v
			n.delta[h] += slope * weights[h]
		}
		grad[n.hidden] += slope
	}
	for h, v := range n.activity {
		slope := n.delta[h] * (1 - v*v)
		grad := n.lowerGrad[h*(pixels+1):][: pixels+1 : pixels+1]
		for i, x := range d.image {
			grad[i] += slope * x
		}
		grad[pixels] += slope
	}
}

// momentum of the gradient descent.
const momentum = 0.9

// step moves the weights against the mean gradient of a batch and clears it.
func (n *network) step(rate float64, batch int) {
	update(n.lower, n.lowerStep, n.lowerGrad, rate/float64(batch))
	update(n.upper, n.upperStep, n.upperGrad, rate/float64(batch))
}

func update(weights, steps, grads []float64, rate float64) {
	for i, g := range grads {
		steps[i] = momentum*steps[i] - rate*g
		weights[i] += steps[i]
	}
	clear(grads)
}

// evaluate is the mean loss and the share of right answers.
func (n *network) evaluate(digits []digit) (loss, accuracy float64) {
	right := 0
	for i := range digits {
		n.forward(&digits[i].image)
		loss += n.loss(digits[i].label)
		best := 0
		for c, p := range n.output {
			if p > n.output[best] {
				best = c
			}
		}
		if best == digits[i].label {
			right++
		}
	}
	return loss / float64(len(digits)), float64(right) / float64(len(digits))
}
