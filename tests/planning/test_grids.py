"""`--grid`: values listed, quoted, counted and read from files; what is none is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.errors import UsageError
from comfyreport.planning.grids import grid_files, parse_grid, parse_grids, reads_stdin


def read(path: str) -> str:
    return f"text of {path}"


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("seed=1,2,3", "seed", (1, 2, 3)),
        ("seed=1..4", "seed", (1, 2, 3, 4)),
        ("seed=4..1", "seed", (4, 3, 2, 1)),
        ("seed=0..100..25", "seed", (0, 25, 50, 75, 100)),
        ("seed=100..0..30", "seed", (100, 70, 40, 10)),
        ("seed=1..3,10,random", "seed", (1, 2, 3, 10, "random")),
        ("Steps= 10, 20 ", "steps", (10, 20)),
        ("3.cfg=5.0..7.0..0.5", "3.cfg", ("5.0", "5.5", "6.0", "6.5", "7.0")),
        ("3.cfg=7..5..0.5", "3.cfg", ("7.0", "6.5", "6.0", "5.5", "5.0")),
        ("3.cfg=0.1..0.3..0.1", "3.cfg", ("0.1", "0.2", "0.3")),
        ("3.x=-2..2..2", "3.x", ("-2", "0", "2")),
        ("size=64x32,32x64", "size", ((64, 32), (32, 64))),
        ('prompt="a jar, of ""good"" stone",a bowl', "prompt", ('a jar, of "good" stone', "a bowl")),
        ('prompt="", 5" of stone', "prompt", ("", '5" of stone')),
        ('prompt="two\nlines",a b', "prompt", ("two\nlines", "a b")),
        ("prompt=1..3", "prompt", ("1..3",)),
        ("6.text=1..3", "6.text", ("1", "2", "3")),
        ('6.text="1..3"', "6.text", ("1..3",)),
        ("prompt=@a.txt,@@b", "prompt", ("text of a.txt", "@b")),
        ('6.text=@a.txt,"@a.txt"', "6.text", ("text of a.txt", "@a.txt")),
        ("image=@a.png,10=b.png", "image", ("@a.png", "10=b.png")),
        ("My=title.text=x,y", "My=title.text", ("x", "y")),
    ],
)
def test_axes(text: str, name: str, values: tuple[Any, ...]) -> None:
    assert parse_grid(text, read) == (name, values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed", "--grid seed isn't NAME=VALUES"),
        ("=1,2", "--grid =1,2 isn't NAME=VALUES"),
        ("sead=1,2", "--grid: sead is neither a short name nor NODE.INPUT; near is seed"),
        ("output=a,b", "--grid: output is neither a short name nor NODE.INPUT; "),
        ("seed=", "--grid seed has no values"),
        ("seed=1,,2", "--grid seed: a value is empty"),
        ("seed=1,", "--grid seed: a value is empty"),
        ("seed=1,x", "--grid seed: 'x' is no seed: "),
        ('prompt="a, b', "--grid prompt: the quotes of \"a, b aren't closed before a comma or the end"),
        ('prompt="a" b,c', '--grid prompt: the quotes of "a" b,c aren\'t closed before a comma or the end'),
        ("3.cfg=5.0..7.0", "--grid 3.cfg=5.0..7.0 has no step"),
        ("seed=1..5..0", "--grid seed=1..5..0 never gets from 1 to 5 in steps of 0"),
        ("seed=1..5..-1", "--grid seed=1..5..-1 never gets from 1 to 5 in steps of -1"),
        ("seed=0..1000000", "--grid seed has over 1,000,000 values"),
        ("seed=1..10,1..1000000", "--grid seed has over 1,000,000 values"),
    ],
)
def test_what_is_no_axis(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_grid(text, read)
    assert caught.value.message.startswith(words)
    assert caught.value.hint


def test_the_same_name_twice() -> None:
    with pytest.raises(UsageError, match="--grid seed is given twice"):
        parse_grids(["seed=1,2", "Seed=3"], read)
    assert [axis.name for axis in parse_grids(["seed=1", "steps=2"], read)] == ["seed", "steps"]


def test_a_file_that_can_not_be_read_names_the_axis() -> None:
    def refuse(path: str) -> str:
        raise UsageError(f"{path} can't be read", hint="name a file")

    with pytest.raises(UsageError, match=r"^--grid prompt: a\.txt can't be read"):
        parse_grid("prompt=@a.txt", refuse)


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("6.text=@a,b,@@c,@-", ["a", "-"]),
        ('6.text="@a"', []),
        ("image=@a.png", []),
        ("seed=1,2", []),
        ("nonsense", []),
        ('6.text="@a', []),
    ],
)
def test_the_files_that_are_read(text: str, files: list[str]) -> None:
    assert grid_files(text) == files
    assert reads_stdin(text) == files.count("-")
