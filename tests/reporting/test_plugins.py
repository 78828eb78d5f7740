"""Finding, selecting, blocking and building reporters; destinations. What they implement: `test_hookspecs.py`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from comfyreport._version import __version__
from comfyreport.errors import ReporterError
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.plugins import Plugins
from tests.packages import BROKEN_MODULES, Packages, bell, chosen, error_of, make_plugins

# --- entry points


def test_a_factory_gets_its_destination_and_its_options(packages: Packages, plugins: Plugins, tmp_path: Path) -> None:
    bell(packages)
    reporter = chosen(plugins, f"bell={tmp_path}/deep/er/x.txt,times=3")
    assert str(reporter) == "bell (bell 1.0)"
    assert vars(reporter.plugin)["times"] == 3
    assert reporter.stream is vars(reporter.plugin)["out"]
    assert reporter.stream is not None
    assert reporter.stream.name == f"{tmp_path}/deep/er/x.txt"
    assert (tmp_path / "deep/er/x.txt").exists()
    assert set(reporter.hooks) == {"comfyreport_run_finished"}


def test_a_module_is_a_reporter_as_it_is(packages: Packages, plugins: Plugins) -> None:
    packages.add(
        "modular",
        "from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_close(): ...\n",
        {"modular": "modular"},
    )
    reporter = chosen(plugins, "modular")
    assert set(reporter.hooks) == {"comfyreport_close"}
    assert reporter.stream is None
    for spec in ("modular=x", "modular,a=1"):
        assert error_of(plugins, spec).message == "reporter modular takes no destination and no options"
    assert error_of(plugins, "modular").message == "reporter modular-2 is given twice"


def test_only_what_was_chosen_is_imported(packages: Packages, plugins: Plugins) -> None:
    bell(packages, default=" = stderr")
    packages.add("unwanted", "raise AssertionError('imported')")
    chosen(plugins, "bell")
    assert "unwanted" not in sys.modules


@pytest.mark.parametrize(("source", "cause"), BROKEN_MODULES)
def test_a_broken_one_matters_only_if_it_is_chosen(
    packages: Packages, plugins: Plugins, source: str, cause: str
) -> None:
    packages.add("broken", source)
    bell(packages, default=" = stderr")
    chosen(plugins, "bell")
    error = error_of(plugins, "broken")
    assert error.message.startswith(f"reporter broken of broken 1.0 can't be loaded: {cause}")
    assert error.hint


def test_control_c_during_an_import_is_not_the_packages_fault(packages: Packages, plugins: Plugins) -> None:
    packages.add("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.add_spec("slow")


@pytest.mark.parametrize("metadata", ["[comfyreport]\nno value\n", "[comfyreport]\nbroken = \n"])
def test_metadata_that_cannot_be_read_hides_only_its_own_package(
    packages: Packages, plugins: Plugins, metadata: str
) -> None:
    packages.add("broken", metadata=metadata)
    bell(packages, default=" = stderr")
    assert chosen(plugins, "bell").package == "bell 1.0"


def test_a_package_without_metadata_of_its_own(packages: Packages, plugins: Plugins) -> None:
    bell(packages, default=" = stderr")
    (packages.folder / "bell-1.0.dist-info" / "METADATA").unlink()
    assert chosen(plugins, "bell").name == "bell"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("jsnol", "did you mean jsonl"),
        ("Console", "did you mean console"),
        ("file-log", "did you mean filelog"),
        ("xyz", "installed: console, filelog, "),
    ],
)
def test_an_unknown_name_is_told_with_near_ones(plugins: Plugins, name: str, hint: str) -> None:
    error = error_of(plugins, f"{name}=x,y=1")
    assert error.message == f"there is no reporter {name!r}"
    assert error.hint.startswith(hint)


def test_a_url_behind_a_colon_is_not_told(plugins: Plugins) -> None:
    error = error_of(plugins, "webhook:http://user:pw@host/t0ken")
    assert error.message == "there is no reporter 'webhook:http'"
    assert "webhook" in error.hint


def test_where_nothing_is_installed(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert "pip install" in error_of(plugins, "console").hint


def test_what_is_no_factory_is_refused(packages: Packages, plugins: Plugins) -> None:
    packages.add("number", "number = 7")
    assert error_of(plugins, "number").message == "reporter number: number:number is neither a module nor a factory"


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("return None", "reporter odd is nothing, not an object"),
        ("return Odd", "reporter odd is the class Odd, not an object"),
        ("raise ReporterError('times=0 can not be used', hint='x')", "reporter odd: times=0 can not be used"),
        (
            "raise PermissionError(13, 'Permission denied')",
            "reporter odd can't open its destination: PermissionError: ",
        ),
        ("raise RuntimeError('two\\nlines')", "reporter odd can't be made: RuntimeError: two lines"),
        ("raise SystemExit(3)", "reporter odd can't be made: SystemExit: 3"),
    ],
)
def test_factories_that_fail(packages: Packages, plugins: Plugins, tmp_path: Path, body: str, cause: str) -> None:
    source = f"from comfyreport import ReporterError, Stream\nclass Odd: ...\ndef odd(out: Stream):\n    {body}\n"
    packages.add("odd", source)
    error = error_of(plugins, f"odd={tmp_path}/x")
    assert error.message.startswith(cause)
    assert error.hint


def test_a_factory_without_future_annotations_or_with_them(packages: Packages, plugins: Plugins) -> None:
    source = "from comfyreport import Stream, stderr\ndef {0}(out: Stream = stderr, *, n: int = 1): return object()\n"
    packages.add("now", source.format("now"))
    packages.add("later", "from __future__ import annotations\n" + source.format("later"))
    for name in ("now", "later"):
        with pytest.raises(ReporterError, match="option n is 'x'"):
            plugins.add_spec(f"{name},n=x")


# --- blocking, plugins that are no reporters, objects


def test_a_blocked_name_is_never_loaded(packages: Packages) -> None:
    packages.add("unwanted", "raise AssertionError('imported')")
    plugins = make_plugins(("unwanted", "nowhere"))
    plugins.add_spec("unwanted=x,y=1")
    plugins.add_plugin("unwanted")
    plugins.add_plugin("nowhere")
    assert plugins.reporters == []


def test_a_plugin_by_its_entry_point_or_its_module(packages: Packages, plugins: Plugins) -> None:
    source = "from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_close(): ...\n"
    packages.add("named", source, {"nick": "named"})
    packages.add("loose", source, {})
    plugins.add_plugin("nick")
    plugins.add_plugin("loose")
    assert [str(reporter) for reporter in plugins.reporters] == ["nick (named 1.0)", "loose"]


@pytest.mark.parametrize("hook", ["addoption", "prepare"])
def test_only_a_plugin_may_have_hooks_of_plugins(packages: Packages, plugins: Plugins, hook: str) -> None:
    packages.add(
        "named", f"from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_{hook}(): ...\n", {"nick": "named"}
    )
    error = error_of(plugins, "nick")
    assert error.message == f"reporter nick: comfyreport_{hook} is a hook of plugins, so it would never be called"
    assert "-p nick" in error.hint
    module = importlib.import_module("named")
    with pytest.raises(ReporterError, match="is a hook of plugins"):
        plugins.add_object(module)
    assert plugins.reporters == []
    plugins.add_plugin("nick")
    assert list(plugins.reporters[0].hooks) == [f"comfyreport_{hook}"]


def test_a_plugin_with_a_factory_has_its_destination_claimed(packages: Packages, plugins: Plugins) -> None:
    bell(packages, default=" = stderr")
    plugins.add_plugin("bell")
    assert plugins.reporters[0].stream is not None
    assert error_of(plugins, "quiet").message == "reporters bell and quiet both write to stderr"


@pytest.mark.parametrize(
    ("source", "cause"),
    [("raise SystemExit(1)", "SystemExit: 1"), ("import nowhere_to_be_found", "ModuleNotFoundError: ")],
)
def test_a_plugin_that_cannot_be_loaded(packages: Packages, plugins: Plugins, source: str, cause: str) -> None:
    packages.add("broken", source, metadata="")
    with pytest.raises(ReporterError, match=f"^plugin broken can't be loaded: {cause}") as caught:
        plugins.add_plugin("broken")
    assert caught.value.hint
    with pytest.raises(ReporterError, match=r"^plugin no-such\.module can't be loaded: ModuleNotFoundError"):
        plugins.add_plugin("no-such.module")


class Listener:
    @hookimpl
    def comfyreport_close(self) -> None: ...


def test_objects_from_python(plugins: Plugins) -> None:
    plugins.add_object(Listener())
    plugins.add_object(Listener())
    plugins.add_object(Listener(), name="ear")
    assert [reporter.name for reporter in plugins.reporters] == ["Listener", "Listener-2", "ear"]
    assert str(plugins.reporters[0]) == "Listener"


def test_an_object_is_given_once_and_is_no_class(plugins: Plugins) -> None:
    ear = Listener()
    plugins.add_object(ear)
    with pytest.raises(ReporterError, match=r"^reporter Listener-2 is given twice$"):
        plugins.add_object(ear)
    with pytest.raises(ReporterError, match=r"^Listener is a class$") as caught:
        plugins.add_object(Listener)
    assert caught.value.hint == "give an object: Listener()"
    assert len(plugins.reporters) == 1


def test_one_reporter_several_times(packages: Packages, plugins: Plugins, tmp_path: Path) -> None:
    bell(packages)
    for name in "abc":
        plugins.add_spec(f"bell={tmp_path}/{name}")
    assert [reporter.name for reporter in plugins.reporters] == ["bell", "bell-2", "bell-3"]


# --- two packages, one name


def test_a_package_that_takes_a_name_of_ours_is_a_load_error_that_names_both(
    packages: Packages, plugins: Plugins
) -> None:
    packages.add("usurper", "raise AssertionError('imported')", {"quiet": "usurper:quiet"})
    error = error_of(plugins, "quiet")
    assert "usurper 1.0" in error.message
    assert f"comfyreport {__version__}" in error.message
    assert error.hint
    assert "usurper" not in sys.modules
    chosen(plugins, "console,plain=true")


def test_two_packages_of_others_with_one_name(packages: Packages, plugins: Plugins) -> None:
    for name in ("left", "right"):
        packages.add(name, "", {"same": f"{name}:same"})
    assert "left 1.0 and right 1.0" in error_of(plugins, "same").message.replace(
        "right 1.0 and left 1.0", "left 1.0 and right 1.0"
    )


# --- what the core opens, and a URL


def test_a_default_stream_alone_says_that_it_is_a_stream(packages: Packages, plugins: Plugins) -> None:
    packages.add(
        "bare",
        "from comfyreport import stderr\nclass Bare:\n    def __init__(self, out): self.out = out\n"
        "def bare(out=stderr): return Bare(out)\n",
    )
    reporter = chosen(plugins, "bare")
    assert reporter.stream is vars(reporter.plugin)["out"]
    assert reporter.stream is not None
    assert reporter.stream.name == "stderr"


@pytest.mark.parametrize("spec", ["hook", "hook=", "hook=http://x"])
def test_the_errors_of_a_url_say_url(packages: Packages, plugins: Plugins, spec: str) -> None:
    packages.add("hook", "def hook(url: str): raise OSError(111, 'Connection refused')\n")
    error = error_of(plugins, spec)
    assert error.hint == "--reporter hook=URL"
    assert "PATH" not in str(error)
