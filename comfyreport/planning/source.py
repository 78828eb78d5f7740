"""One workflow of a plan: what is set in it in all its runs, and what each name sets, found once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from comfyreport.errors import UsageError
from comfyreport.inputs.loaders import find_loader
from comfyreport.inputs.local_files import Kind
from comfyreport.inputs.uploads import inner_node
from comfyreport.planning.columns import FILE_NAMES
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import Target, value_at
from comfyreport.workflow.names import NAMES, changing, find
from comfyreport.workflow.settings import MAX_SEED, Setting, Settings, assigned, setting
from comfyreport.workflow.values import LARGEST_SEED

File = str | os.PathLike[str] | Mapping[str, Any]
"""A workflow as it is named: its file, or its graph."""

Setter = Callable[[Any], dict[Target, Setting]]
"""What a value sets; UsageError where it can't be set."""


def sets_inputs(name: str) -> bool:
    """Whether a column of that *name* sets inputs of the workflow itself."""
    return name not in (*FILE_NAMES, "output", "workflow")


class Source:
    """A workflow that was read, and what the flags set in it.

    :param named: the workflow as it was named.
    :param wanted: what the flags ask for.
    :param read: the text of a file, for `@FILE`.
    """

    def __init__(self, named: File, loaded: Workflow, wanted: Settings, read: Callable[[str], str]) -> None:
        self.named = named
        self.loaded = loaded
        self._setters: dict[str, Setter] = {}
        self._targets: dict[str, frozenset[Target]] = {}
        self._seeds: dict[Target, Any] | None = None
        self._models: dict[Target, Any] | None = None
        inputs: dict[str, Any] = {}
        for place, value in [
            *assigned(loaded.graph, loaded.editor_nodes, wanted.assignments, read),
            *wanted.inputs.items(),
        ]:
            # The last one counts, and so its place does.
            inputs.pop(place, None)
            inputs[place] = value
        prompt = wanted.prompt if wanted.prompt_file is None else read(wanted.prompt_file)
        self._settings = replace(wanted, assignments=(), inputs=inputs, prompt=prompt, prompt_file=None)
        self._without: dict[tuple[tuple[str, ...], frozenset[Target]], Settings] = {}
        self._loaders: dict[tuple[Kind, str], Target | None] = {}

    @property
    def shown(self) -> str:
        """Its name for people; empty where it is none."""
        return "" if isinstance(self.named, Mapping) else os.fspath(self.named)

    def setter(self, name: str) -> Setter:
        """What *name*, a short one or NODE.INPUT, sets. Raises UsageError or WorkflowError where it isn't clear."""
        found = self._setters.get(name)
        if found is None:
            found = self._setters[name] = self._find(name)
        return found

    def _find(self, name: str) -> Setter:
        if name not in NAMES:
            return setting(self.loaded.graph, self.loaded.editor_nodes, name)
        change = changing(self.loaded.graph, name)
        return lambda value: {target: Setting(each) for target, each in change(value).items()}

    def targets(self, name: str) -> frozenset[Target]:
        """The inputs that *name* stands for."""
        found = self._targets.get(name)
        if found is None:
            targets = find(self.loaded.graph, name).targets if name in NAMES else self.setter(name)(None)
            found = self._targets[name] = frozenset(targets)
        return found

    def settings(self, names: tuple[str, ...], loaded: frozenset[Target] = frozenset()) -> Settings:
        """What the flags set in runs in which *names* set what they stand for: without what these replace.

        :param loaded: the inputs that name files which are given in such runs.
        """
        found = self._without.get((names, loaded))
        if found is None:
            replaced = self.set_by(names) | loaded
            inputs: dict[str, Any] = {}
            for place, value in self._settings.inputs.items():
                left = self.targets(place) - replaced
                kept = [place] if len(left) == len(self.targets(place)) else [f"{at.node}.{at.name}" for at in left]
                inputs |= dict.fromkeys(kept, value)
            found = self._without[names, loaded] = replace(self._settings, inputs=inputs)
        return found

    def set_by(self, names: tuple[str, ...]) -> frozenset[Target]:
        """All inputs that *names* stand for."""
        return frozenset(target for name in names if sets_inputs(name) for target in self.targets(name))

    def loader(self, kind: Kind, node: str) -> Target | None:
        """The input that names a file of that *kind* for *node*; None where only a server can tell.

        Raises UsageError where it isn't clear.
        """
        if (kind, node) not in self._loaders:
            found = find_loader(self.loaded.graph, kind, inner_node(self.loaded, node))
            self._loaders[kind, node] = None if found is None else Target(found.node, found.name)
        return self._loaders[kind, node]

    def repeated(self, settings: Settings, repetition: int) -> Settings:
        """*settings* with seeds for a *repetition*, from 0: the server would answer it from its cache otherwise."""
        if not repetition or settings.seed == "keep":
            return settings
        inputs = dict(settings.inputs)
        later: dict[Target, int] = {}
        if isinstance(settings.seed, int):
            settings = replace(settings, seed=(settings.seed + repetition) % (LARGEST_SEED + 1))
        else:
            later = {target: (each + repetition) % (MAX_SEED + 1) for target, each in self._own_seeds().items()}
        for target, each in self._set_seeds(inputs).items():
            later[target] = (each + repetition) % (LARGEST_SEED + 1)
        if settings.seed is None and not later:
            raise UsageError(
                f"--repeat: no seed is found to be changed{self.where}, and the same run again is answered from the "
                "server's cache",
                hint="vary an input, such as --grid NODE.INPUT=1..20; --seed keep repeats the run as it is",
            )
        for target, each in later.items():
            place = f"{target.node}.{target.name}"
            inputs.pop(place, None)
            inputs[place] = each
        return replace(settings, inputs=inputs)

    def seeds(self, settings: Settings) -> dict[str, int]:
        """The seeds in a run with *settings*, by name: `seed` alone where there is just one."""
        found = self._own_seeds()
        if isinstance(settings.seed, int):
            found = dict.fromkeys(found, settings.seed)
        found = found | self._set_seeds(settings.inputs)
        values = set(found.values())
        return (
            {"seed": values.pop()} if len(values) == 1 else {f"{at.node}.{at.name}": each for at, each in found.items()}
        )

    def _own_seeds(self) -> dict[Target, int]:
        if self._seeds is None:
            graph = self.loaded.graph
            found = {target: value_at(graph, target) for target in find(graph, "seed").targets}
            self._seeds = {target: each for target, each in found.items() if isinstance(each, int)}
        return self._seeds

    def _set_seeds(self, inputs: Mapping[str, Any]) -> dict[Target, int]:
        """The seeds that *inputs* set."""
        own = self._own_seeds()
        return {
            target: each.value
            for place, value in inputs.items()
            if not self.targets(place).isdisjoint(own)
            for target, each in self.setter(place)(value).items()
            if target in own and isinstance(each.value, int)
        }

    def model(self, settings: Settings) -> str:
        """What a run with *settings* loads as its main models; empty where that isn't known."""
        if self._models is None:
            graph = self.loaded.graph
            found = find(graph, "model")
            self._models = {target: value_at(graph, target) for target in found.targets or found.candidates}
        models = self._models if settings.model is None else dict.fromkeys(self._models, settings.model)
        for place, value in settings.inputs.items():
            if not self.targets(place).isdisjoint(models):
                set_ = self.setter(place)(value).items()
                models = models | {target: each.value for target, each in set_ if target in models}
        return " + ".join(dict.fromkeys(str(each) for each in models.values()))

    @property
    def where(self) -> str:
        """Words that name the workflow in a message."""
        return f" in {self.shown}" if self.shown else ""


def overlap(source: Source, names: Collection[str]) -> tuple[str, str, Target] | None:
    """Two of *names* that set the same input of a workflow, with that input."""
    taken: dict[Target, str] = {}
    for name in names:
        for target in source.targets(name) if sets_inputs(name) else ():
            if target in taken:
                return taken[target], name, target
            taken[target] = name
    return None
