"""RunViews: the views of all runs of a command, whose events come in any order of the runs."""

from __future__ import annotations

from comfyreport.events import types as ev
from comfyreport.events.view import RunView


class RunViews:
    """A `RunView` for each run that is open, by the events of the whole stream.

    `last` is the view of the run that was told last; before any run, and where a command makes a single one, the view
    of all events. Those of runs that have ended are forgotten, but for `last`.
    """

    def __init__(self) -> None:
        self.last = RunView()
        self._stream = self.last
        # In the order in which they were told of: the newest is behind the others. One that has ended goes when
        # another run is told of.
        self._views: dict[int, RunView] = {}
        self._ended: set[int] = set()

    @property
    def newest_open(self) -> RunView | None:
        """The view of the run that was told last of those that are open; None where none is."""
        if self._is_open(self.last):
            return self.last
        return next(filter(self._is_open, reversed(self._views.values())), None)

    def apply(self, event: ev.Event) -> RunView:
        """Take one event in; the view of its run, which matches it now. An event of no run gives `last`."""
        view = self.last
        if event.run_index == view.run_index:
            view.apply(event)
        elif event.run_index is None and not isinstance(event, ev.RunFinished):
            # Of the command as a whole: of a run it changes nothing but the time.
            view.apply(ev.Event(seq=event.seq, time=event.time, elapsed=event.elapsed))
        else:
            view = self.last = self._view(event.run_index)
            view.apply(event)
        return view

    def _view(self, index: int | None) -> RunView:
        """The view of another run than that of `last`."""
        if self.last.run_index is not None and self.last.result is not None:
            self._views.pop(self.last.run_index, None)
            self._ended.add(self.last.run_index)
        if index is None:
            return RunView(server=self._stream.server)
        view = self._views.pop(index, None) or RunView(index, self._stream.server)
        if index not in self._ended:
            self._views[index] = view
        return view

    def _is_open(self, view: RunView) -> bool:
        return view.result is None and view.run_index not in self._ended
