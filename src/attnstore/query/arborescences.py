"""Maximum spanning arborescences of many small graphs at once (Chu and Liu 1965; Edmonds 1967).

networkx has the algorithm for one graph, some milliseconds each; a treebank through all heads of a model
is a hundred thousand. Here each step is done for all graphs that are not finished: every node takes its best
incoming edge, and a cycle that this makes becomes one node.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def heads(scores: Doubles, root: Ints, present: Flags) -> Ints:
    """Find the head of each node in the arborescence of the largest total score.

    Args:
        scores: Of the edge from head i to dependent j of graph k, scores[k, i, j]; finite.
        root: The node that has no head; -1 for whichever gives the largest total.
        present: True for the nodes that a graph has, (k, n).

    Returns:
        The head of each node, (k, n); -1 for the root and for nodes that are not there.
    """
    chosen = _spanning(_with_origin(scores, root, present))
    n = scores.shape[1]
    found: Ints = chosen[:, :n] // (n + 1)
    return np.where(found == n, -1, found)


def _with_origin(scores: Doubles, root: Ints, present: Flags) -> Doubles:
    """Add a last node, the origin of every graph, with an edge to its root."""
    k, n = present.shape
    graphs = np.full((k, n + 1, n + 1), -np.inf)
    graphs[:, :n, :n] = np.where(present[:, :, None] & present[:, None, :], scores, -np.inf)
    graphs[:, np.arange(n), np.arange(n)] = -np.inf
    span = np.ptp(np.where(np.isfinite(graphs), graphs, 0), axis=(1, 2)) + 1
    graphs[:, n, :n] = np.where(present, -(n + 1) * span[:, None], 0)  # one such edge, not two
    rooted = np.flatnonzero(root >= 0)
    graphs[rooted, n, :n] = np.where(present[rooted], -np.inf, 0)
    graphs[rooted, :, root[rooted]] = -np.inf
    graphs[rooted, n, root[rooted]] = 0
    return graphs


class _Cycle(NamedTuple):
    """A cycle that became one node, in some of the graphs.

    Attributes:
        graphs: Which graphs, (g,).
        node: The node that stands for it, (g,).
        members: Nodes of the cycle, (g, n).
        edges: Edge into each of them along the cycle, (g, n).
        before: The node that stands for each original node before, (g, n).
    """

    graphs: Ints
    node: Ints
    members: Flags
    edges: Ints
    before: Ints


def _spanning(graphs: Doubles) -> Ints:
    """Choose an edge into each node but the last: from * n + to, (k, n)."""
    k, n = graphs.shape[:2]
    chosen = np.zeros((k, n), np.int64)
    at = np.arange(k)
    edges = np.broadcast_to(np.arange(n * n).reshape(n, n), graphs.shape).copy()
    stands = np.broadcast_to(np.arange(n), (k, n)).copy()
    alive = np.ones((k, n), bool)
    cycles = []
    while len(at):
        parent = graphs.argmax(axis=1)
        parent[~alive] = n - 1
        parent[:, n - 1] = n - 1
        into = np.take_along_axis(edges, parent[:, None, :], axis=1)[:, 0]
        end = parent
        for _ in range(int(n).bit_length()):
            end = np.take_along_axis(end, end, axis=1)
        open_ = (end != n - 1).any(axis=1)
        chosen[at[~open_]] = into[~open_]
        at, graphs, edges, stands, alive = (x[open_] for x in (at, graphs, edges, stands, alive))
        parent, into, end = parent[open_], into[open_], end[open_]
        if not len(at):
            break
        rows = np.arange(len(at))
        node = end[rows, (end != n - 1).argmax(axis=1)]
        members = _members(parent, node)
        cycles.append(_Cycle(at, node, members, into, stands.copy()))
        _contract(graphs, edges, parent, members, node)
        stands[np.take_along_axis(members, stands, axis=1)] = np.repeat(
            node, np.take_along_axis(members, stands, axis=1).sum(axis=1)
        )
        alive &= ~members
        alive[rows, node] = True
    for cycle in reversed(cycles):
        _open(chosen, cycle, n)
    return chosen


def _members(parent: Ints, node: Ints) -> Flags:
    """Mark the nodes of the cycle that `node` lies on in each graph."""
    rows = np.arange(len(node))
    members = np.zeros(parent.shape, bool)
    here = node
    while not members[rows, here].all():
        members[rows, here] = True
        here = parent[rows, here]
    return members


def _contract(graphs: Doubles, edges: Ints, parent: Ints, members: Flags, node: Ints) -> None:
    """Make one node of each cycle, in place: the best edges out of it, and into it by what they gain."""
    rows = np.arange(len(node))
    along = np.take_along_axis(graphs, parent[:, None, :], axis=1)[:, 0]
    gains = np.where(members[:, None, :], graphs - np.where(members, along, 0)[:, None, :], -np.inf)
    entered = gains.argmax(axis=2)
    inward = np.take_along_axis(gains, entered[:, :, None], axis=2)[:, :, 0]
    inward_edges = np.take_along_axis(edges, entered[:, :, None], axis=2)[:, :, 0]
    leaving = np.where(members[:, :, None], graphs, -np.inf)
    left = leaving.argmax(axis=1)
    outward = np.take_along_axis(leaving, left[:, None, :], axis=1)[:, 0]
    outward_edges = np.take_along_axis(edges, left[:, None, :], axis=1)[:, 0]
    graphs[np.broadcast_to(members[:, :, None], graphs.shape)] = -np.inf
    graphs[np.broadcast_to(members[:, None, :], graphs.shape)] = -np.inf
    graphs[rows, :, node] = np.where(members, -np.inf, inward)
    graphs[rows, node, :] = np.where(members, -np.inf, outward)
    edges[rows, :, node] = inward_edges
    edges[rows, node, :] = outward_edges


def _open(chosen: Ints, cycle: _Cycle, n: int) -> None:
    """Replace the edge into a cycle's node by the edges into its members, in place."""
    edge = chosen[cycle.graphs, cycle.node]
    rows = np.arange(len(edge))
    entered = cycle.before[rows, edge % n]
    into = chosen[cycle.graphs]
    into = np.where(cycle.members, cycle.edges, into)
    into[rows, entered] = edge
    chosen[cycle.graphs] = into
