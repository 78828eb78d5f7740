"""What each node of a run took, for its end. Pure."""

from __future__ import annotations

from comfyreport.events import NodeTime
from comfyreport.estimates.bars import rounded
from comfyreport.run.nodes import Nodes


def node_times(nodes: Nodes) -> tuple[NodeTime, ...]:
    """Of each node that was cached or ran: the cached ones, then the others in order of their start.

    Nodes that ran side by side are counted side by side: the shares are those of the nodes' seconds, not of the run's.
    """
    seconds = nodes.seconds()
    whole = sum(seconds.values())
    times = []
    for key in (*nodes.cached, *nodes.executed):
        node, cached = nodes.node(key), key in nodes.cached
        took = 0.0 if cached else seconds.get(key)
        times.append(
            NodeTime(
                node=node.ref,
                seconds=took,
                share=rounded(took / whole, 10_000) if took is not None and whole > 0 else None,
                cached=cached,
                steps_per_second=None if cached or node.speed is None else rounded(node.speed, 10_000),
                usual_seconds=None if node.usual is None else rounded(node.usual),
            )
        )
    return tuple(times)
