"""Outputs of nodes: any form of a node's `output` becomes Outputs that can be reported, fetched and saved."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, strategies as st

from comfyreport.events import NodeRef, Output
from comfyreport.protocol.ui_outputs import OutputLimit, media_type_of, outputs_of, view_place, view_url, worth_saving

NODE = NodeRef(id="9", class_type="SaveImage", title="Save")
BASE = "http://127.0.0.1:8188"


def read(ui: dict[str, Any]) -> tuple[Output, ...]:
    return outputs_of(NODE, ui, BASE)


def test_a_saved_image() -> None:
    [output] = read({"images": [{"filename": "a_00001_.png", "subfolder": "x/y", "type": "output"}]})
    assert (output.node, output.index, output.kind, output.cached) == (NODE, 0, "image", False)
    assert (output.filename, output.subfolder, output.folder) == ("a_00001_.png", "x/y", "output")
    assert output.media_type == "image/png"
    assert output.url == f"{BASE}/view?filename=a_00001_.png&subfolder=x%2Fy&type=output"


@pytest.mark.parametrize("key", ["images", "gifs", "audio", "video", "3d", "result", "anything at all", ""])
def test_what_has_a_filename_is_a_file_whatever_its_key(key: str) -> None:
    [output] = read({key: [{"filename": "x.mp4"}]})
    assert (output.kind, output.filename, output.subfolder, output.folder) == ("video", "x.mp4", "", "output")
    [alone] = read({key: {"filename": "x.mp4"}})
    assert alone == output


@pytest.mark.parametrize(
    ("filename", "kind", "media_type"),
    [
        ("a.png", "image", "image/png"),
        ("a.JPG", "image", "image/jpeg"),
        ("a.webp", "image", "image/webp"),
        ("a.mp4", "video", "video/mp4"),
        ("a.webm", "video", "video/webm"),
        ("a.mkv", "video", "video/x-matroska"),
        ("a.flac", "audio", "audio/flac"),
        ("a.opus", "audio", "audio/ogg"),
        ("a.mp3", "audio", "audio/mpeg"),
        ("a.GLB", "model", None),
        ("a.json", "file", "application/json"),
        ("a.weirdo", "image", None),
        ("png", "image", None),
        ("a.", "image", None),
        ("..", "image", None),
    ],
)
def test_kinds_by_name(filename: str, kind: str, media_type: str | None) -> None:
    [output] = read({"images": [{"filename": filename}]})
    assert output.kind == kind
    if kind != "model":
        assert output.media_type == media_type


def test_an_unknown_ending_under_another_key_is_a_file() -> None:
    assert [output.kind for output in read({"files": [{"filename": "a.weirdo"}, {"filename": "png"}]})] == ["file"] * 2


@pytest.mark.parametrize("ending", ["a://[", "a://\u2100", "b/../c", "x\0", "\udc80", "a b", "//[", "data:,x"])
def test_invalid_endings_have_no_type(ending: str) -> None:
    """The standard library reads a name as a URL, and raises for some."""
    assert media_type_of(f"foo.{ending}") is None


HEX = "1e440938f5d2457b9ae9274350b1c8e8"


@pytest.mark.parametrize(
    ("told", "filename", "subfolder", "folder"),
    [
        ("3d/adv_00002.glb", "adv_00002.glb", "3d", "output"),
        ("mesh.GLB", "mesh.GLB", "", "output"),
        ("a/b/cloud_00001.ply", "cloud_00001.ply", "a/b", "output"),
        ("3d\\sub/adv_00002.splat", "adv_00002.splat", "3d\\sub", "output"),
        ("Rodin\\mesh.obj", "mesh.obj", "Rodin", "output"),
        (f"preview3d_{HEX}.glb", f"preview3d_{HEX}.glb", "", "output"),
        (f"preview3d_advanced_{HEX}.glb", f"preview3d_advanced_{HEX}.glb", "", "temp"),
        (f"preview_splat_{HEX}.spz", f"preview_splat_{HEX}.spz", "", "temp"),
        (f"preview_pointcloud_{HEX}.ply", f"preview_pointcloud_{HEX}.ply", "", "temp"),
        (f"3d/preview_splat_{HEX}.spz", f"preview_splat_{HEX}.spz", "3d", "output"),
    ],
)
def test_a_3d_result_is_a_file_though_it_is_told_as_a_string(
    told: str, filename: str, subfolder: str, folder: str
) -> None:
    output, camera, info = read({"result": [told, {"position": {"x": 1}}, []]})
    assert (output.kind, output.value) == ("model", None)
    assert (output.filename, output.subfolder, output.folder) == (filename, subfolder, folder)
    assert output.url == view_url(BASE, filename, subfolder, folder)
    assert [camera.kind, info.kind] == ["value", "value"]


@pytest.mark.parametrize(
    "told",
    [
        "https://example.org/x.glb",
        "/srv/x.glb",
        "\\\\host\\x.glb",
        "C:\\x.glb",
        "../x.glb",
        "a/../x.glb",
        "a\nb.glb",
        ".glb",
        "3d/.glb",
        "3d/",
        "a.png",
        "temp/bg_1.png",
        "",
    ],
)
def test_other_results_are_texts(told: str) -> None:
    [output] = read({"result": [told]})
    assert (output.kind, output.value, output.filename) == ("text", told, None)


def test_a_text_that_ends_like_a_3d_file_is_a_text() -> None:
    assert [output.kind for output in read({"text": ["3d/x.glb"], "string": "x.glb"})] == ["text", "text"]


def test_texts_and_values() -> None:
    outputs = read({"text": ["one", ""], "string": "two", "number": [1.5, None], "tags": [["a"]], "sizes": {"w": 1}})
    assert [(output.kind, output.value) for output in outputs] == [
        ("text", "one"),
        ("text", ""),
        ("text", "two"),
        ("value", 1.5),
        ("value", ["a"]),
        ("value", {"w": 1}),
    ]
    assert [output.index for output in outputs] == list(range(6))
    assert all(output.filename is None and output.url is None for output in outputs)


@pytest.mark.parametrize("flag", [[True], True, [False], ["yes"]])
def test_the_animated_flag_is_no_output(flag: Any) -> None:
    outputs = read({"images": [{"filename": "a.webp"}], "animated": flag})
    assert [output.filename for output in outputs] == ["a.webp"]


@pytest.mark.parametrize("filename", [None, 7, "", [], {"x": 1}])
def test_a_filename_that_is_none_makes_a_value(filename: Any) -> None:
    item = {"filename": filename}
    [output] = read({"images": [item]})
    assert (output.kind, output.value, output.filename) == ("value", item, None)


def test_other_fields_of_the_wrong_type_are_left_out() -> None:
    [output] = read({"images": [{"filename": "a.png", "subfolder": 3, "type": ["temp"]}]})
    assert (output.subfolder, output.folder) == ("", "output")


def test_cached_is_passed_on() -> None:
    assert [each.cached for each in outputs_of(NODE, {"images": [{"filename": "a.png"}]}, BASE, cached=True)] == [True]


@pytest.mark.parametrize("name", ["a b&c=d?.png", "ünï.png", "..\\etc", "a\0b", "a\r\nb: c", "#x", "%2e"])
def test_urls_are_escaped(name: str) -> None:
    url = view_url(BASE + "/prefix", name, name, "output")
    parts = urlsplit(url)
    assert url.isascii()
    assert (parts.netloc, parts.path, parts.fragment) == ("127.0.0.1:8188", "/prefix/view", "")
    assert parse_qs(parts.query) == {"filename": [name], "subfolder": [name], "type": ["output"]}


@pytest.mark.parametrize(
    ("filename", "subfolder", "place"),
    [
        ("x.png", "a", ("x.png", "a")),
        ("out_F/x.png", "", ("x.png", "out_F")),
        ("b/c/x.png", "a", ("x.png", "a/b/c")),
        ("b/x.png", "a/", ("x.png", "a/b")),
        ("../../etc/passwd", "", ("passwd", "../../etc")),
        # A folder's name on Windows, a part of a file's on Linux: what the server said is left to it.
        ("a\\x.png", "", ("a\\x.png", "")),
        ("a/", "", ("a/", "")),
        ("/x.png", "", ("/x.png", "")),
    ],
)
def test_a_file_is_asked_for_under_its_name_alone(filename: str, subfolder: str, place: tuple[str, str]) -> None:
    assert view_place(filename, subfolder) == place


def test_a_lone_surrogate_makes_a_url_all_the_same() -> None:
    assert view_url(BASE, "\ud800.png", "", "output") == f"{BASE}/view?filename=%3F.png&subfolder=&type=output"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["filename", "subfolder", "type", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_any_ui_is_read(ui: dict[str, Any]) -> None:
    outputs = read(ui)
    assert [output.index for output in outputs] == list(range(len(outputs)))
    for output in outputs:
        assert (output.filename is None) == (output.kind in ("text", "value"))
        assert (output.url is None) == (output.filename is None)


# --- sizes


def test_names_and_values_have_limits() -> None:
    long = "x" * 200_000
    files = [{"filename": long, "subfolder": long, "type": long}]
    file, text, large, deep = read({"images": files, "text": [long], "value": [[long], nested(1000)]})
    assert {len(name or "") for name in (file.filename, file.subfolder, file.folder)} == {4096}
    assert (text.kind, len(text.value), text.value[-1]) == ("text", 65536, "…")
    assert (large.kind, len(large.value), large.value[-1]) == ("value", 65536, "…")
    assert (deep.kind, deep.value) == ("value", "(list that is nested too deeply)")
    # What Python itself does with records must not raise either.
    assert deep == replace(deep)
    assert copy.deepcopy(deep) == deep
    assert hash(deep)
    assert deep.value in repr(deep)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_outputs_beyond_the_limit_are_left_out() -> None:
    limit = OutputLimit(10)
    assert [each.value for each in outputs_of(NODE, {"a": ["12345", 678, "9x0"]}, BASE, limit=limit)] == ["12345", 678]
    assert outputs_of(NODE, {"images": [{"filename": "a.png"}]}, BASE, limit=limit) == ()


@pytest.mark.slow
def test_the_limit_is_enough_for_very_many_files() -> None:
    images = [
        {"filename": f"ComfyUI_{number:06}_.png", "subfolder": "x/y", "type": "output"} for number in range(100_000)
    ]
    assert len(outputs_of(NODE, {"images": images}, BASE, limit=OutputLimit())) == 100_000


def test_worth_saving() -> None:
    def file(filename: str | None, folder: str = "output") -> Output:
        return Output(node=NODE, index=0, kind="image", filename=filename, folder=folder)

    assert worth_saving([]) == []
    assert worth_saving([file(None), file("a.png"), file("t.png", "temp"), file("b.png")]) == [1, 3]
    assert worth_saving([file(None), file("t.png", "temp")]) == [1]
