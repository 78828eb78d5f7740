"""Nodes that become other nodes when they run."""

from comfy_execution.graph_utils import GraphBuilder

from .base import COUNT, SECONDS, Passing


class ReportExpand(Passing):
    """Expands into two nodes with progress; into one that saves; into one that raises; or into itself, once."""

    INPUTS = {
        "inner": (["progress", "save", "raise", "nested"],),
        "steps": ("INT", COUNT),
        "seconds": ("FLOAT", SECONDS),
    }

    def run(self, image, inner, steps, seconds):
        graph = GraphBuilder()
        result = getattr(self, "_" + inner)(graph, image, steps, seconds)
        return {"result": (result,), "expand": graph.finalize()}

    def _progress(self, graph, image, steps, seconds):
        for _ in range(2):
            node = graph.node(
                "ReportSteps", image=image, mode="steps", steps=steps, seconds=seconds, previews=False
            )
            image = node.out(0)
        return image

    def _save(self, graph, image, steps, seconds):
        image = self._progress(graph, image, steps, seconds)
        graph.node("SaveImage", images=image, filename_prefix="inner")
        return image

    def _raise(self, graph, image, steps, seconds):
        node = graph.node("ReportRaise", image=image, message="raised inside", steps=min(steps, 10), seconds=seconds)
        return node.out(0)

    def _nested(self, graph, image, steps, seconds):
        return graph.node("ReportExpand", image=image, inner="progress", steps=steps, seconds=seconds).out(0)


NODES = (ReportExpand,)
