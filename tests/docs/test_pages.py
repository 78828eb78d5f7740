"""What the pages name is there: files and headings behind links, options, environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from comfyreport.flags.arguments import COMMANDS, build_parser
from tests.benchmarks.__main__ import parser as benchmarks_parser
from tests.docs.pages import BY_NAME, PAGES, README, ROOT, Page
from tests.faults.__main__ import parser as faults_parser

# Options of other programs: ComfyUI, pip, mypy, ruff, pytest.
FOREIGN_OPTIONS = {
    "--check",
    "--dist",
    "--listen",
    "--max-upload-size",
    "--no-deps",
    "--nthreads",
    "--preview-method",
    "--strict",
    "--wheel-dir",
}
# Those of the plugins that the author's guide shows.
EXAMPLE_OPTIONS = {"--most-work", "--wildcard-seed", "--wildcards"}
# It scales the waits of tests, and is no promise to users.
UNTOLD_VARIABLES = {"COMFYREPORT_TIME_SCALE"}

LONGEST = {"README.md": 220, "CONTRIBUTING.md": 120}
"""Lines that these pages may have."""

each_page = pytest.mark.parametrize("page", PAGES, ids=repr)


def sources() -> str:
    """The code that users run, and that of the tests that take variables."""
    paths = [*ROOT.glob("comfyreport/**/*.py"), *ROOT.glob("tests/**/*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def options(text: str) -> set[str]:
    """The long options that *text* names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def own_options() -> Iterator[str]:
    """The options of comfyreport's commands."""
    for command in COMMANDS:
        yield from options(build_parser(command).format_help())


def test_the_documentation_is_all_there() -> None:
    names = {"running", "reporters", "agents", "python", "servers", "recordings", "performance", "troubleshooting"}
    assert {f"docs/{name}.md" for name in names} | {"README.md", "plugins/README.md", "tests/README.md"} <= set(BY_NAME)


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    for target in page.links:
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.exists(), target
        if anchor:
            other = BY_NAME[path.relative_to(ROOT).as_posix()]
            assert anchor in other.anchors, target


def test_the_readme_leads_to_each_page() -> None:
    targets = {(README.path.parent / target.partition("#")[0]).resolve() for target in README.links}
    assert [page for page in PAGES if page is not README and page.path not in targets] == []


@each_page
def test_contents_name_all_headings(page: Page) -> None:
    listed = re.findall(r"^- \[(.*)\]\(#", page.prose.partition("\n## ")[0], re.MULTILINE)
    headings = re.findall(r"^## (.*)$", page.prose, re.MULTILINE)
    assert listed in ([], [heading for heading in headings if heading != "License"])


@each_page
def test_options_exist(page: Page) -> None:
    known = {*own_options(), *FOREIGN_OPTIONS, *EXAMPLE_OPTIONS}
    known |= options(benchmarks_parser().format_help()) | options(faults_parser().format_help())
    assert options(page.text) <= known


def test_each_option_is_told_of() -> None:
    told = options("\n".join(page.text for page in PAGES))
    assert set(own_options()) <= told
    assert told >= FOREIGN_OPTIONS | EXAMPLE_OPTIONS


@each_page
def test_variables_exist(page: Page) -> None:
    named = set(re.findall(r"COMFYREPORT_[A-Z_]+|NO_COLOR|FORCE_COLOR", page.text))
    assert not {name for name in named if not re.search(rf'"{name}"', sources())}


def test_each_variable_is_told_of() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("comfyreport/**/*.py"))
    known = set(re.findall(r'"(COMFYREPORT_[A-Z_]+)"', text)) - UNTOLD_VARIABLES
    told = {name for row in BY_NAME["docs/running.md"].rows("variable") for name in re.findall(r"\w+", row[0])}
    assert len(known) >= 5
    assert known <= told


@each_page
def test_lines_are_not_too_long_to_read(page: Page) -> None:
    numbers = [number for number, line in enumerate(page.prose.splitlines(), 1) if not re.match(r"\||!?\[", line)]
    assert [number for number in numbers if len(page.prose.splitlines()[number - 1]) > 130] == []


@pytest.mark.parametrize("name", sorted(LONGEST))
def test_the_first_pages_are_short(name: str) -> None:
    if name in BY_NAME:
        assert len(BY_NAME[name].text.splitlines()) <= LONGEST[name]
