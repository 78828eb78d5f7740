"""Files of prompts: their three forms, and what is wrong with one, told by line."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.errors import UsageError
from comfyreport.planning.prompts_file import Rows, read_rows


def rows(path: str, text: str | bytes) -> list[tuple[int, dict[str, Any]]]:
    found = read_rows(path, text if isinstance(text, bytes) else text.encode())
    return [(row.number, dict(zip(row.names, row.values, strict=True))) for row in found.rows]


def refused(path: str, text: str | bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_rows(path, text if isinstance(text, bytes) else text.encode())
    assert caught.value.hint
    return caught.value


# --- text


@pytest.mark.parametrize("path", ["prompts.txt", "prompts", "-"])
def test_text_is_a_prompt_a_line(path: str) -> None:
    text = "\ufeffa stone jar, old\r\n\r\n  a bowl \n{red|blue} car\u2028here"
    assert rows(path, text) == [
        (1, {"prompt": "a stone jar, old"}),
        (3, {"prompt": "a bowl"}),
        (4, {"prompt": "{red|blue} car\u2028here"}),
    ]


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("a.txt", "\n \n", "a.txt has no rows"),
        ("a.csv", "prompt,seed\n,\n", "a.csv has no rows"),
        ("a.json", "[]", "a.json has no rows"),
        ("a.txt", b"a\nb\0c", "a.txt, line 2: there is a NUL byte"),
        ("a.txt", b"ab\xff", "a.txt isn't UTF-8 text (byte 2)"),
        ("-", "a\xff".encode("latin-1"), "stdin isn't UTF-8 text (byte 1)"),
        ("a.csv", "\ufeffprompt\na".encode("utf-16"), "a.csv isn't UTF-8 text (byte 0)"),
    ],
)
def test_what_holds_no_rows(path: str, text: str | bytes, words: str) -> None:
    assert refused(path, text).message == words


# --- CSV


def test_csv() -> None:
    text = (
        "\ufeffPrompt, seed ,3.cfg,size,output\r\n"
        '"a jar, of ""good""\r\nstone",7,8.5,64x32,out/a.png\r\n'
        "\r\n"
        ",,,,\r\n"
        "a bowl,,,\r\n"
    )
    assert rows("P.CSV", text) == [
        (
            2,
            {
                "prompt": 'a jar, of "good"\r\nstone',
                "seed": 7,
                "3.cfg": "8.5",
                "size": (64, 32),
                "output": "out/a.png",
            },
        ),
        (6, {"prompt": "a bowl"}),
    ]


def test_lines_that_end_as_on_old_systems() -> None:
    assert rows("a.csv", "prompt,seed\ra,1\rb,2") == [(2, {"prompt": "a", "seed": 1}), (3, {"prompt": "b", "seed": 2})]


def test_rows_of_one_shape_share_their_names() -> None:
    found: Rows = read_rows("a.csv", b"prompt,seed\na,1\nb,2\nc,\n")
    first, second, third = found.rows
    assert first.names is second.names
    assert third.names == ("prompt",)
    assert (found.where(second), found.shown) == ("line 3", "a.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,stepz\na,1", "p.csv, line 1: there is no column 'stepz'; near is steps"),
        ("\nprompt,Prompt\na,1", "p.csv, line 2: the column prompt is there twice"),
        ("prompt,,seed\na,b,1", "p.csv, line 2: there is a cell in a column without a name"),
        ("prompt\na, b", "p.csv, line 2: there are 2 cells, and 1 columns"),
        ('prompt\n"a" b', "p.csv, line 2: it isn't CSV: "),
        ('prompt\na\n"b\nc\n', "p.csv, line 3: it isn't CSV: unexpected end of data"),
        ("prompt,seed\na,x", "p.csv, line 2: seed: 'x' is no seed: "),
    ],
)
def test_bad_csv(text: str, words: str) -> None:
    assert refused("p.csv", text).message.startswith(words)


def test_the_first_few_bad_rows_are_told_and_how_many_more() -> None:
    text = "prompt,steps\nfine,5\n" + "bad,x\n" * 8 + "fine,5\n"
    message = refused("p.csv", text).message.split("\n")
    assert message[0] == "p.csv, line 3: steps: 'x' is no whole number from 1"
    assert message[4] == "  p.csv, line 7: steps: 'x' is no whole number from 1"
    assert message[5:] == ["  and 3 more"]


# --- JSON


@pytest.mark.parametrize("path", ["p.jsonl", "p.ndjson", "p.json", "-"])
def test_an_object_a_line(path: str) -> None:
    text = '{"prompt": "a", "seed": 7, "3.cfg": 8.5}\n\n{"Steps": "5", "negative": null}\n{"6.text": {"a": [1]}}\n'
    assert rows(path, text) == [
        (1, {"prompt": "a", "seed": 7, "3.cfg": 8.5}),
        (3, {"steps": 5}),
        (4, {"6.text": {"a": [1]}}),
    ]


def test_a_list_of_objects() -> None:
    assert rows("p.json", '[{"prompt": "a"},\n\n{"prompt": "b"}]') == [(1, {"prompt": "a"}), (2, {"prompt": "b"})]
    assert refused("p.json", '[{"prompt": "a"}, {"seed": "x"}]').message.startswith("p.json, item 2: seed: 'x' is no")
    assert rows("p.json", '{\n"prompt": "a"\n}') == [(1, {"prompt": "a"})]


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"prompt"', "p.jsonl, line 2: it isn't JSON: "),
        ("p.jsonl", "[1, 2]", "p.jsonl, line 1: it isn't an object"),
        ("p.jsonl", '{"prompt": NaN}', "p.jsonl, line 1: it isn't JSON: NaN is no JSON"),
        ("p.jsonl", '{"promt": "a"}', "p.jsonl, line 1: there is no 'promt'; near is prompt"),
        ("p.jsonl", '{"prompt": "a", "Prompt": "b"}', "p.jsonl, line 1: prompt is there twice"),
        ("p.jsonl", '{"prompt": 5}', "p.jsonl, line 1: prompt: 5 is no text"),
        ("p.jsonl", '{"6.x": ' + "[" * 90 + "]" * 90 + "}", "p.jsonl, line 1: a value is nested too deep"),
        ("p.jsonl", '{"6.x": ' + "[" * 99999 + "]" * 99999 + "}", "p.jsonl, line 1: it isn't JSON: nested too deep"),
        ("p.json", '[{"prompt": "a"},\n{"prompt" "b"}]', "p.json isn't JSON: Expecting ':' delimiter in line 2, "),
    ],
)
def test_bad_json(path: str, text: str, words: str) -> None:
    assert refused(path, text).message.startswith(words)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("p.csv", "prompt;seed\na, b;1\n"),
        ("p.csv", "prompt\tseed\na, b\t1\n"),
        ("p.tsv", "prompt\tseed\na, b\t1\n"),
        ("p.csv", '"prompt";"seed"\n"a, b";"1"\n'),
        ("p.csv", 'prompt,seed,\n"a, b",1,\n'),
    ],
)
def test_spreadsheets_separate_columns_as_they_like(path: str, text: str) -> None:
    (row,) = read_rows(path, text.encode()).rows
    assert (row.names, row.values) == (("prompt", "seed"), ("a, b", 1))


@pytest.mark.parametrize("path", ["p.txt", "-"])
@pytest.mark.parametrize("first", ["prompt,seed", "prompt\tseed", "seed;prompt;output"])
def test_a_text_whose_first_line_names_columns_is_no_list_of_prompts(path: str, first: str) -> None:
    with pytest.raises(UsageError, match="it names columns"):
        read_rows(path, f"{first}\na,1\n".encode())
