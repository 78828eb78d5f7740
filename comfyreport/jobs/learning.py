"""What a job learns from earlier runs, and keeps for later ones. A store that can't be used fails no run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from comfyreport.errors import ComfyReportError, one_line
from comfyreport.estimates.expected import Expected, Observation
from comfyreport.text import says_no, well_formed
from comfyreport.timing import Timing
from comfyreport.workflow.graph import Graph

# What learning needs is loaded where it is used, in the background: a start doesn't wait for it.
if TYPE_CHECKING:
    from comfyreport.learning.features import Features
    from comfyreport.learning.store import Store

NO_LEARN = "COMFYREPORT_NO_LEARN"

_Result = TypeVar("_Result")


class Learner:
    """Tells what the nodes of a workflow are expected to take on *server*, and keeps what they took.

    :param wanted: whether it may read and keep anything; the environment may forbid it too.
    :param folder: the one that relative paths start at.
    :param patience: seconds to wait for other processes.
    """

    def __init__(self, server: str, *, wanted: bool, folder: str, patience: float = Timing.store_wait) -> None:
        self.learns = wanted and says_no(os.environ.get(NO_LEARN, ""))
        self._server = server
        self._folder = folder
        self._patience = patience
        self._features: Mapping[str, Features] = {}
        self._warnings: list[str] = []
        self._failed = False

    def expect(self, graph: Graph) -> Mapping[str, Expected]:
        """What the nodes of *graph* are expected to take; by their kinds alone where nothing was learned. Blocks."""
        from comfyreport.learning.expecting import expectations
        from comfyreport.learning.features import features_of

        features = self._tried(lambda: features_of(graph)) or {}
        class_types = {each.class_type for each in features.values()}
        exact = {each.exact for each in features.values()}
        known = self._in_store(lambda store: store.observed(self._server, class_types, exact)) or []
        self._features = features
        return self._tried(lambda: expectations(features, known)) or {}

    def keep(self, observations: Iterable[Observation]) -> None:
        """Keep what the nodes took of which `expect` was told. Blocks."""
        from comfyreport.learning.features import observed

        seen = list(observed(self._features, observations))
        if seen:
            self._in_store(lambda store: store.add(self._server, seen))

    def take_warnings(self) -> list[str]:
        """Why the store can't be used, in one line each; once."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def _in_store(self, use: Callable[[Store], _Result]) -> _Result | None:
        if not self.learns or self._failed:
            # What can't be read can't be written either: said once.
            return None
        from comfyreport.learning.store import Store, store_path

        return self._tried(lambda: use(Store(store_path(os.environ, self._folder), patience=self._patience)))

    def _tried(self, use: Callable[[], _Result]) -> _Result | None:
        """What *use* returns; None, and a warning, where that fails: the run goes on without it."""
        try:
            return use()
        except ComfyReportError as error:
            self._warnings.append(well_formed(f"{error.message} ({error.hint})"))
        except Exception as error:  # noqa: BLE001  a Python without SQLite, a fault: the run goes on without it
            self._warnings.append(f"what earlier runs took can't be used: {one_line(error)}")
        self._failed = True
        return None
