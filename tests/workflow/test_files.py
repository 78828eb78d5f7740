"""Reading workflows and refusing what is none; the manifest, the seed, and copies with another prompt."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport.errors import WorkflowError
from comfyreport.events import NodeRef
from comfyreport.text import printable
from comfyreport.workflow import files
from comfyreport.workflow.files import Workflow, from_mapping, load
from comfyreport.workflow.names import NAMES, find
from comfyreport.workflow.settings import Settings, find_settings

DATA = Path(__file__).parents[1] / "data" / "workflow"
GRAPHS = DATA.parent / "graphs"
API_FILES = sorted(GRAPHS.glob("*.json"))

NODE = {"class_type": "EmptyImage", "inputs": {}}
TEXT = {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}}
SAMPLER = {"class_type": "KSampler", "inputs": {"positive": ("2", 0)}}


def node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
    return {**entry, "_meta": {"title": title}} if title else entry


def refusal(graph: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        from_mapping(graph)
    return caught.value


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "w.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def unreadable(path: Path) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        load(path)
    error = caught.value
    assert error.code == "workflow"
    assert error.message.startswith(str(path))
    assert "\n" not in error.message
    assert error.hint
    return error


# Reading


@pytest.mark.parametrize("path", API_FILES, ids=lambda path: path.name)
def test_every_exported_file_loads_as_it_is(path: Path) -> None:
    assert load(path).graph == json.loads(path.read_bytes())
    assert load(str(path)) == load(path)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert load(write(tmp_path, b"\xef\xbb\xbf" + json.dumps({"1": NODE}).encode())).graph == {"1": NODE}


@pytest.mark.parametrize("extra", [{}, {"extra_data": {"k": 1}, "client_id": "c"}, {"workflow": {"nodes": []}}])
def test_the_body_of_a_post_is_taken(tmp_path: Path, extra: dict[str, Any]) -> None:
    assert load(write(tmp_path, json.dumps({"prompt": {"1": NODE}, **extra}))).graph == {"1": NODE}


def test_a_node_called_prompt_is_a_node() -> None:
    assert list(from_mapping({"prompt": NODE, "2": NODE}).graph) == ["prompt", "2"]
    assert "node prompt has no class_type" in refusal({"prompt": {"inputs": {}}, "2": NODE}).message


def test_the_last_of_duplicated_keys_counts_as_on_the_server(tmp_path: Path) -> None:
    twice = '{"1": {"class_type": "A", "inputs": {}}, "1": {"class_type": "B", "inputs": {}}}'
    assert load(write(tmp_path, twice)).manifest() == (NodeRef(id="1", class_type="B", title="B"),)


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    path = write(tmp_path, '{"1": {"class_type": "A", "inputs": {"a": -Infinity, "b": 1e999}, "is_changed": [NaN]}}')
    assert load(path).graph["1"] == {"class_type": "A", "inputs": {"a": None, "b": None}, "is_changed": [None]}


def test_whole_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    path = write(tmp_path, '{"1": {"class_type": "A", "inputs": {"seed": 18446744073709551615, "b": 1e2}}}')
    assert json.dumps(load(path).graph["1"]["inputs"]) == '{"seed": 18446744073709551615, "b": 100.0}'


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, r'{"1": {"class_type": "A", "inputs": {"\ud83c": "a\ud83d"}}}')
    assert load(path).graph["1"]["inputs"] == {"?": "a?"}


def test_a_node_without_inputs_gets_none() -> None:
    assert from_mapping({"1": {"class_type": "LotusConditioning"}}).graph["1"]["inputs"] == {}


def test_links_to_unknown_nodes_and_unknown_outputs_are_left_to_the_server() -> None:
    graph = {"1": node("A", x=["2", 0], y=["gone", 7]), "2": node("B", x=["1", 0])}
    assert from_mapping(graph).graph == graph


# Refusing


def test_a_missing_file(tmp_path: Path) -> None:
    assert unreadable(tmp_path / "gone.json").message.endswith("gone.json doesn't exist")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in unreadable(tmp_path).message


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbid)
    error = unreadable(tmp_path / "w.json")
    monkeypatch.undo()
    assert error.message.endswith("may not be read")


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5000])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(WorkflowError, match=r"can't be read: |doesn't exist") as caught:
        load(name)
    assert printable(caught.value.message) == caught.value.message


def test_a_name_that_would_break_the_line() -> None:
    with pytest.raises(WorkflowError) as caught:
        load("a\n\x1b[2J\udc80.json")
    # On Windows no file can have that name.
    assert re.fullmatch(r"a\\n\\x1b\[2J\\udc80.json (doesn't exist|can't be read: .*)", caught.value.message)


def test_a_file_that_is_too_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, json.dumps({"1": NODE}))
    monkeypatch.setattr(files, "MAX_BYTES", path.stat().st_size)
    assert load(path).graph == {"1": NODE}
    monkeypatch.setattr(files, "MAX_BYTES", path.stat().st_size - 1)
    assert "is larger than" in unreadable(path).message


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    assert unreadable(write(tmp_path, content)).message.endswith("is empty")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n", '{"1": {}}'.encode("utf-16"), b'{"\xff": 1}'])
def test_a_file_that_is_no_utf_8(tmp_path: Path, content: bytes) -> None:
    assert "isn't UTF-8" in unreadable(write(tmp_path, content)).message


def test_a_file_that_is_no_json_names_the_place(tmp_path: Path) -> None:
    message = unreadable(write(tmp_path, '{"1":\n  oops}')).message
    assert message.endswith("isn't JSON: Expecting value in line 2, column 3")


@pytest.mark.parametrize("depth", [files.MAX_DEPTH + 3, 5_000, 200_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_a_file_that_is_nested_too_deep(tmp_path: Path, depth: int, pair: str) -> None:
    inner = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    content = '{"1": {"class_type": "A", "inputs": {"x": ' + inner + "}}}"
    assert "nested too deep" in unreadable(write(tmp_path, content)).message


def test_a_number_without_end(tmp_path: Path) -> None:
    content = '{"1": {"class_type": "A", "inputs": {"x": ' + "9" * 10_000 + "}}}"
    assert "thousands of digits" in unreadable(write(tmp_path, content)).message


@pytest.mark.parametrize(("content", "kind"), [("[]", "list"), ("null", "null"), ('"x"', "str"), ("3", "int")])
def test_a_file_that_holds_no_object(tmp_path: Path, content: str, kind: str) -> None:
    assert unreadable(write(tmp_path, content)).message.endswith(f"holds no object of nodes but a {kind}")


def test_the_editors_format_names_the_menu_entry() -> None:
    error = unreadable(DATA / "editor.ui.json")
    assert "editor's format" in error.message
    assert "Workflow > Export (API)" in error.hint
    assert "Save (API Format)" in error.hint
    assert "editor's format" in refusal({"prompt": {"nodes": [], "links": []}}).message


@pytest.mark.parametrize("content", ["{}", '{"prompt": {}}'])
def test_a_file_without_nodes(tmp_path: Path, content: str) -> None:
    assert unreadable(write(tmp_path, content)).message.endswith("has no nodes")


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (3, "node 7 isn't an object"),
        ([], "node 7 isn't an object"),
        ({}, "node 7 has no class_type"),
        ({"inputs": {}}, "node 7 has no class_type"),
        ({"class_type": None, "inputs": {}}, "node 7 has no class_type"),
        ({"class_type": " ", "inputs": {}}, "node 7 has no class_type"),
        ({"class_type": "A", "inputs": []}, "node 7 (A) has inputs that aren't an object"),
        ({"class_type": "A", "inputs": None}, "node 7 (A) has inputs that aren't an object"),
    ],
)
def test_a_bad_node_is_named(tmp_path: Path, entry: object, cause: str) -> None:
    error = unreadable(write(tmp_path, json.dumps({"6": NODE, "7": entry})))
    assert error.message.endswith(f": {cause}")
    assert "server refuses" in error.hint


# Objects from Python


def prompted(workflow: Workflow, text: str = "a dog") -> Workflow:
    return workflow.with_settings(find_settings(workflow.graph, Settings(prompt=text), str))


def test_an_object_is_copied_and_never_changed() -> None:
    graph = {"2": copy.deepcopy(TEXT), "3": node("KSampler", positive=["2", 0])}
    before = copy.deepcopy(graph)
    workflow = from_mapping(graph)
    changed = prompted(workflow)
    changed.graph["2"]["inputs"]["clip"] = "gone"
    assert graph == before
    assert workflow.graph == before
    assert workflow.graph["2"] is not graph["2"]


def test_tuples_other_mappings_and_whole_number_ids_are_taken() -> None:
    inner = MappingProxyType({2: TEXT, 3: MappingProxyType(SAMPLER)})
    graph = MappingProxyType({"prompt": inner})
    workflow = from_mapping(graph)
    assert list(workflow.graph) == ["2", "3"]
    assert prompted(workflow).graph["2"]["inputs"]["text"] == "a dog"


@pytest.mark.parametrize(
    ("graph", "cause"),
    [
        ([], "holds no object of nodes but a list"),
        ({"1": node("A", x=Path("p"))}, "node 1 holds a value that isn't JSON"),
        ({"1": node("A", x={1: 2})}, "node 1 holds an object with keys that aren't text"),
        ({"1": node("A", x=10**5000)}, "node 1 holds a number with thousands of digits"),
        ({None: NODE}, "a node id that isn't text but a NoneType"),
    ],
)
def test_what_json_cannot_hold_is_refused(graph: Any, cause: str) -> None:
    error = refusal(graph)
    assert cause in error.message
    assert error.message.startswith("the workflow")
    assert error.hint


def test_an_object_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = node("A")
    loop["inputs"]["x"] = loop
    assert "nested too deep" in refusal({"1": loop}).message


# The manifest


def test_the_manifest_is_in_file_order_and_names_untitled_nodes_by_their_class() -> None:
    graph: dict[str, Any] = {
        "9:2": node("B", "Über"),
        "1": {**node("A"), "_meta": {"title": " "}},
        "0": {**node("A"), "_meta": {"title": 3}},
        "x": {**node("A"), "_meta": "no"},
    }
    assert from_mapping(graph).manifest() == (
        NodeRef(id="9:2", class_type="B", title="Über"),
        NodeRef(id="1", class_type="A", title="A"),
        NodeRef(id="0", class_type="A", title="A"),
        NodeRef(id="x", class_type="A", title="A"),
    )


# The seed


SEEDS = {
    "made_01_unicode_titles": 156680208700286,
    "sdxl_simple_example": 721897303308196,  # the refiner adds no noise: its own seed, 0, plays no part
    "txt_to_image_to_video": None,  # two samplers, two seeds
    "flux_redux_model_example": 1006963725794704,  # RandomNoise
    "api_wan2_6_i2v": 212259147,  # no sampler
    "ltxv_image_to_video": 712395695050634,
}


@pytest.mark.parametrize("name", SEEDS)
def test_the_seed_of_exported_files(name: str) -> None:
    assert load(GRAPHS / f"{name}.json").seed() == SEEDS[name]


def ksampler(**inputs: object) -> dict[str, Any]:
    return node("KSampler", positive=["p", 0], **inputs)


@pytest.mark.parametrize(
    ("graph", "seed"),
    [
        ({"1": NODE}, None),
        ({"1": ksampler(seed=5), "2": ksampler(seed=5)}, 5),
        ({"1": ksampler(seed=5), "2": ksampler(seed=6)}, None),
        ({"1": ksampler(seed=5), "2": node("Wildcards", seed=6)}, 5),
        ({"1": ksampler(seed=True)}, None),
        ({"1": ksampler(seed="5")}, None),
        ({"1": ksampler(seed=["2", 0]), "2": node("PrimitiveInt", value=7)}, 7),
        ({"1": ksampler(seed=["2", 0]), "2": node("Reroute", value=["2", 0])}, None),
        ({"1": ksampler(seed=["gone", 0])}, None),
        ({"1": node("SamplerCustomAdvanced", noise=["2", 0]), "2": node("DisableNoise")}, None),
        ({"1": node("KSamplerAdvanced", positive=["p", 0], noise_seed=3, add_noise="disable")}, 3),
    ],
)
def test_the_seed(graph: dict[str, Any], seed: int | None) -> None:
    assert from_mapping(graph).seed() == seed


# Arbitrary input

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
IDS = st.sampled_from(["1", "2", "3", "4:5"])
FIELDS = """
    text text_g text_l prompt positive negative cond guider value string_a seed noise noise_seed add_noise
    select switch on_true input1 any_1 clip basic_pipe
"""
VALUES = st.tuples(IDS, st.integers(0, 2)).map(list) | st.text(max_size=9) | st.integers(0, 3) | JSON
CLASSES = """
    KSampler SamplerCustomAdvanced DualCFGGuider CLIPTextEncode ConditioningZeroOut ImpactSwitch AnySwitch
    Reroute StringConcatenate WanImageToVideo
"""
NODES = st.fixed_dictionaries(
    {
        "class_type": st.sampled_from(CLASSES.split()) | st.just("Any Switch (rgthree)"),
        "inputs": st.dictionaries(st.sampled_from(FIELDS.split()), VALUES, max_size=5),
    },
    optional={"_meta": st.fixed_dictionaries({"title": st.text(max_size=9) | JSON}) | JSON},
)


def result_of(read: Callable[[], Workflow]) -> Workflow | WorkflowError:
    try:
        return read()
    except WorkflowError as error:
        return error


def use(workflow: Workflow) -> None:
    workflow.seed()
    for name in NAMES:
        find(workflow.graph, name)
    assert [ref.id for ref in workflow.manifest()] == list(workflow.graph)
    json.dumps(workflow.graph, allow_nan=False, ensure_ascii=False).encode()
    before = copy.deepcopy(workflow.graph)
    changed = result_of(lambda: prompted(workflow))
    assert workflow.graph == before
    if isinstance(changed, WorkflowError):
        assert changed.hint
    else:
        assert "a dog" in json.dumps(changed.graph)


@settings(deadline=None)
@given(content=JSON | st.dictionaries(IDS, JSON | NODES))
def test_arbitrary_values_raise_nothing_else(content: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = repr(content)
    path = write(tmp_path_factory.getbasetemp(), json.dumps(content))
    for result in (result_of(lambda: from_mapping(content)), result_of(lambda: load(path))):
        if isinstance(result, Workflow):
            use(result)
        else:
            assert printable(result.message) == result.message
            assert result.hint
    assert repr(content) == before


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(IDS, NODES, min_size=1))
def test_arbitrary_graphs_raise_nothing_else(graph: dict[str, Any]) -> None:
    use(from_mapping(graph))


@settings(deadline=None)
@given(content=st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_else(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    unreadable(write(tmp_path_factory.getbasetemp(), content))


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys, comfyreport.workflow as w; "
        "print([name for name in ('requests', 'websocket', 'pluggy', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
