"""All that the pages show runs: commands, sessions and programs, in the order of the pages."""

from __future__ import annotations

import re

import pytest

from comfyreport.testing import recordings
from tests.docs.pages import BLOCKS, BY_NAME, PAGES, README, SUBSTITUTED, Block, Place, substituted

# By the page and a piece of a block: what it must have said.
SAID = {
    "README.md": {
        "sunset.png --json-progress": '"type":"stream_finished"',
        "print(result.status": "success 0",
    },
    "docs/agents.md": {
        "sunset.png --json-progress": '"type":"stream_finished"',
        'detail=summary"\n': '"type":"run_finished"',
        "process.returncode": "exit code 0",
        "def follow": "not done yet: running\n",
        "def generate": "done: ['http://127.0.0.1:",
    },
    "docs/converting.md": {
        "a stone jar": "[OK] Generation complete",
        "-o made/prompt.json": "made/prompt.json\n",
        "--object-info made": '"class_type": "KSampler"',
    },
    "docs/performance.md": {"tests.benchmarks": "| start to the POST"},
    "docs/python.md": {
        "saved:": "saved: ['out.png']",
        "made/{seed}": "success ['made/3.png']",
        "ThreadPoolExecutor": "0 failed\n",
        "class Slow": "KSampler took ",
        "wait_for_completion": "success ['http://127.0.0.1:",
        # Titles and seconds come only where the run isn't over before the tracker knows of it.
        "tracker.result.status": "success\n",
        "Access(": "success",
        "Timing(": "success",
    },
    "docs/recordings.md": {"replay run.recording": '"type":"run_finished"', "replay txt2img": "as recorded: 1"},
    "docs/reporters.md": {
        "ls -l": "pictures/sd15",
        "--reporter github": "::endgroup::\n",
        "webhook=": "[OK] Generation complete",
    },
    "docs/running.md": {"timings --clear": "no timings yet in "},
    "docs/servers.md": {
        "gpu-box": "made/sd15",
        "headers.txt": "[OK]",
        "comfyreport simulate": "http://127.0.0.1:",
    },
    "plugins/README.md": {
        "reporters\n": "bell  (comfyreport-bell 0.1.0)  Ring when a run is over.",
        "reporters bell": ",on=end or failure (default end)  ring at every end, or only if the run was no success",
        "-m pytest comfyreport-bell\n": f"{len(recordings()) + 2} passed",
        "test_bell_conforms": "1 passed",
        "test_bell_fixtures": f"{len(recordings())} passed",
        "times=3": "\a\a\asuccess after ",
        "ls dist": "comfyreport_bell-0.1.0-py3-none-any.whl",
        "print(result.status": "success 20 steps",
        "-p wildcards -p cost_guard": "--most-work N",
        "test_wildcards.py": "1 passed",
    },
}
# Likewise: the files that it must have left.
LEFT = {
    "README.md": {
        "--output sunset.png --server sim": ["sunset.png"],
        "filelog=run.log": ["run.jsonl", "run.log"],
        "slowest=slowest.txt": ["slowest.txt"],
        "> made.txt": ["made.txt"],
    },
    "docs/converting.md": {"-o made": ["made/prompt.json"], "--save-object-info made": ["made/object_info.json"]},
    "docs/python.md": {"saved:": ["out.png"], "filelog=run.log": ["run.log"]},
    "docs/recordings.md": {"--record": ["run.recording"]},
    "docs/reporters.md": {
        "filelog=logs": ["logs/run.jsonl", "logs/run.log"],
        "trace=run.json": ["run.json", "reports/run.xml"],
        "replay node-error": ["reports/replayed.xml"],
        "preview=previews": ["run.webp"],
    },
    "docs/running.md": {"attach": ["late.png"], "--image photo.png": ["photo.png", "painted.png"]},
    "plugins/README.md": {
        "rings.txt,times=2": ["rings.txt"],
        "least=0.01": ["logs/nodes.csv"],
        "jsonl=run.jsonl": ["run.jsonl"],
        "steps.jsonl": ["steps.jsonl"],
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, received: tuple[str, list[bytes]]) -> Place:
    """Where the pages are followed."""
    return Place(tmp_path_factory.mktemp("docs"), received[0])


@pytest.mark.e2e
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.runs], ids=lambda block: block.id)
def test_block_runs(block: Block, place: Place, received: tuple[str, list[bytes]]) -> None:
    said = place.run(block)
    for piece, words in SAID.get(block.page, {}).items():
        assert piece not in block.text or words in said, said
    for piece, names in LEFT.get(block.page, {}).items():
        if piece in block.text:
            assert all((place.folder(block.page) / name).stat().st_size for name in names), names
    if "notify=" in block.text or "webhook=" in block.text:
        assert b'"run_finished"' in received[1][-1]


def test_each_block_is_of_a_language_that_is_run_or_read() -> None:
    assert {block.language for block in BLOCKS if not block.file} <= {"bash", "console", "python", "json", "text"}
    assert all(page.text.count("\n```") == 2 * len(page.blocks) for page in PAGES)


@pytest.mark.parametrize("block", [block for block in README.blocks if block.language == "bash"], ids=lambda it: it.id)
def test_commands_of_the_readme_hold_for_any_shell(block: Block) -> None:
    """For cmd and PowerShell too: one command a line, nothing that a shell reads in its own way outside of quotes."""
    bare = re.sub(r'"[^"$%`]*"', "", block.text)
    assert not re.search(r"['\"$%`&|;,@\\]", bare), bare


@pytest.mark.parametrize("expected", [SAID, LEFT], ids=["said", "left"])
def test_what_is_expected_is_expected_of_a_block(expected: dict[str, dict[str, object]]) -> None:
    for page, pieces in expected.items():
        texts = [block.text for block in BY_NAME[page].blocks if block.runs]
        assert [piece for piece in pieces if not any(piece in text for text in texts)] == []


def test_substitutions_are_needed() -> None:
    texts = [block.text for block in BLOCKS if block.runs]
    for original in SUBSTITUTED:
        assert any(re.search(original, text, re.MULTILINE) for text in texts), original
    assert substituted("python -m pytest comfyreport-bell\n") == "python -m pytest comfyreport-bell\n"
