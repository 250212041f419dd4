// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func (a *app) nodesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the cluster",
		Long:  "List the nodes: state, capacity and what is used of it.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.nodes(cmd.Context()) },
	}
	a.outputFlag(c, "table", "table, wide, json, yaml or name")
	return c
}

func (a *app) nodes(ctx context.Context) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	return a.with(ctx, func(s *session) error {
		nodes, err := s.Nodes(ctx)
		if err != nil {
			return err
		}
		return nodeListing(time.Now()).Write(a.out, format, a.outStyle(), a.width(a.out), render.Slice(nodes))
	})
}

func nodeListing(now time.Time) render.Listing[*volleyv1.Node] {
	of := func(used, all string) string { return used + " of " + all }
	return render.Listing[*volleyv1.Node]{
		Name: (*volleyv1.Node).GetName,
		Columns: []render.Column[*volleyv1.Node]{
			{Name: "NODE", Cell: (*volleyv1.Node).GetName},
			{Name: "STATE", Cell: func(n *volleyv1.Node) string { return render.Enum(n.State) }, Paint: func(s render.Style, n *volleyv1.Node, text string) string {
				switch n.State {
				case volleyv1.NodeState_NODE_STATE_READY:
					return s.Green(text)
				case volleyv1.NodeState_NODE_STATE_LOST:
					return s.Red(text)
				}
				return s.Yellow(text)
			}},
			{Name: "CPU", Right: true, Cell: func(n *volleyv1.Node) string {
				return of(cpus(n.GetUsed().GetCpuMilli()), cpus(n.GetCapacity().GetCpuMilli()))
			}},
			{Name: "MEMORY", Right: true, Cell: func(n *volleyv1.Node) string {
				return of(render.Bytes(n.GetUsed().GetMemoryBytes()), render.Bytes(n.GetCapacity().GetMemoryBytes()))
			}},
			{Name: "GPU", Right: true, Cell: func(n *volleyv1.Node) string {
				return fmt.Sprintf("%d of %d", n.GetUsed().GetGpu(), n.GetCapacity().GetGpu())
			}},
			{Name: "RUNNING", Right: true, Cell: func(n *volleyv1.Node) string { return strconv.FormatUint(n.Running, 10) }},
			{Name: "LEASED", Right: true, Cell: func(n *volleyv1.Node) string { return strconv.FormatUint(n.Leased, 10) }},
			{Name: "SEEN", Cell: func(n *volleyv1.Node) string { return render.Ago(n.LastSeenAt, now) }},
			{Name: "ID", Wide: true, Cell: (*volleyv1.Node).GetId},
			{Name: "VERSION", Wide: true, Cell: (*volleyv1.Node).GetVersion},
			{Name: "PLATFORM", Wide: true, Cell: (*volleyv1.Node).GetPlatform},
			{Name: "CONNECTED", Wide: true, Cell: func(n *volleyv1.Node) string { return render.Time(n.ConnectedAt) }},
			{Name: "LABELS", Wide: true, Sparse: true, Cell: func(n *volleyv1.Node) string {
				var parts []string
				for _, l := range n.Labels {
					parts = append(parts, l.Key+"="+l.Value)
				}
				return strings.Join(parts, ",")
			}},
		},
	}
}
