"""What each node of a run took, for its end. Pure."""

from __future__ import annotations

from collections.abc import Collection

from comfyreport.estimates.bars import rounded
from comfyreport.events import NodeTime
from comfyreport.run.nodes import Nodes

# The part of a run's seconds whose usual time must be known for that of the whole to be told.
_KNOWN_SHARE = 0.9
# A run whose nodes took longer than this part of it had some side by side.
_SIDE_BY_SIDE = 1.05


def node_times(nodes: Nodes, cut_short: Collection[str] = ()) -> tuple[NodeTime, ...]:
    """Of each node that was cached or ran: the cached ones, then the others in order of their start.

    Those that were *cut_short* aren't held against their usual time. Nodes that ran side by side are counted side by
    side: the shares are those of the nodes' seconds, not of the run's.
    """
    seconds = nodes.seconds()
    whole = sum(seconds.values())
    times = []
    for key in (*nodes.cached, *nodes.executed):
        node, cached = nodes.node(key), key in nodes.cached
        usual = None if key in cut_short else node.usual
        took = 0.0 if cached else seconds.get(key)
        times.append(
            NodeTime(
                node=node.ref,
                seconds=took,
                share=rounded(took / whole, 10_000) if took is not None and whole > 0 else None,
                cached=cached,
                steps_per_second=None if cached or node.speed is None else rounded(node.speed, 10_000),
                usual_seconds=None if usual is None else rounded(usual),
            )
        )
    return tuple(times)


def usual_seconds(nodes: Nodes, at: float) -> float | None:
    """How long a run usually takes that ended at *at*; None where most of it wasn't learned, or it isn't whole.

    Nor is it known of nodes that ran side by side.
    """
    ran = [nodes.node(key) for key in nodes.executed]
    whole = sum(node.seconds for node in ran)
    if nodes.done < nodes.total or whole > _SIDE_BY_SIDE * nodes.estimator.ran(at):
        return None
    known = sum(node.seconds for node in ran if node.usual is not None)
    return rounded(sum(node.usual or 0.0 for node in ran)) if whole > 0 and known >= _KNOWN_SHARE * whole else None
