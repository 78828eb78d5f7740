"""Regions on terminals: what stands, what stays above, what others wrote; and the pieces to fill them with."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from comfyreport.render.drawing import DRAW_EVERY, Lines, Region, bar, pad, shorten, wrap
from comfyreport.reporting.streams import Stream, Terminals
from comfyreport.text import cell_width
from tests.plugins.terminal import Plain, Terminal


def pair() -> tuple[Terminal, Stream]:
    """A terminal that is drawn on, and another stream that leads to it."""
    out = Terminal()
    assert out.take_terminal()
    other = Stream(out.file, name="other", terminals=out._terminals)
    return out, other


def test_a_region_is_drawn_over_and_lines_above_it_stay() -> None:
    out, _ = pair()
    region = Region(out)
    region.draw(["one", "two"], 0.0)
    region.write(["[INFO] told"])
    region.draw(["three"], 1.0)
    assert out.screen == ["[INFO] told", "three"]
    region.close()
    assert out.screen == ["[INFO] told", ""]


def test_it_holds_to_ten_draws_a_second() -> None:
    region = Region(pair()[0])
    assert region.due(0.0)
    region.draw(["x"], 5.0)
    assert not region.due(5.0 + DRAW_EVERY / 2)
    assert region.due(5.0 + DRAW_EVERY)
    assert region.due(1.0), "a clock that was set back"


def test_of_more_lines_than_fit_the_last_ones_are_drawn() -> None:
    out, _ = pair()
    region = Region(out)
    for number in range(3):
        region.draw([f"line {number}.{each}" for each in range(100)], float(number))
    assert out.screen == [f"line 2.{each}" for each in range(77, 100)]


def test_what_is_the_same_is_not_written_again() -> None:
    out, _ = pair()
    region = Region(out)
    region.draw(["x"], 0.0)
    before = len(out.writes)
    region.draw(["x"], 1.0)
    assert len(out.writes) == before


def test_what_others_write_stands_above_it_in_whole_lines() -> None:
    out, other = pair()
    region = Region(out)
    region.draw(["bar"], 0.0)
    other.write("half a ")
    region.draw(["bar 1"], 1.0)
    assert out.screen == ["bar 1"]
    other.write("line\n\x1b[31mred\x1b[0m\ttab\r\nat 1 %\rat 2 %\nthe last")
    other.write_bytes("é\n".encode())
    other.write("without an end")
    region.draw(["bar 2"], 2.0)
    assert out.screen == ["half a line", "red     tab", "at 2 %", "the lasté", "bar 2"]
    region.close()
    assert out.screen[-2:] == ["without an end", ""]
    other.write("later\n")
    other.flush()
    assert "later\n" in out.file.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_tabs_of_others_end_at_columns_not_at_characters() -> None:
    out, other = pair()
    region = Region(out)
    other.write("雪\tx\t\U0001f1ff\U0001f1fc\ty\n")
    region.draw(["bar"], 0.0)
    assert out.screen[0] == "雪      x       \U0001f1ff\U0001f1fc      y"


def test_what_others_write_cant_move_the_cursor() -> None:
    out, other = pair()
    region = Region(out)
    region.draw(["bar"], 0.0)
    other.write("\x1b[5A\x1b]0;title\x07\x08\x9b2Jx\n")
    region.draw(["bar"], 1.0)
    assert out.screen == ["\\x08\\x9b2Jx", "bar"]


def test_what_was_held_back_is_written_when_the_drawing_stream_is_released() -> None:
    out, other = pair()
    Region(out)
    other.write("kept\n")
    assert out.writes == []
    out.release()
    assert out.writes == ["kept\n"]


def test_streams_elsewhere_are_not_touched() -> None:
    out, _ = pair()
    Region(out)
    plain = Plain()
    plain.write("x")
    plain.flush()
    assert plain.text == "x"
    stranger = Stream(out.file, name="other", terminals=Terminals())
    assert stranger.take_stray_output() == ""


def test_lines_only_add() -> None:
    out = Plain(color="always")
    lines = Lines(out)
    assert not lines.due(100.0)
    lines.draw(["never"], 1.0)
    lines.write([])
    lines.write(["[OK] done", "  more"])
    lines.close()
    assert out.text == "\x1b[32m[OK]\x1b[0m done\n  more\n"


@given(st.floats(0, 1), st.integers(3, 50), st.booleans())
@example(0.9999999999999999, 3, False)
def test_a_bar_is_as_wide_as_asked_for_and_full_only_at_the_end(part: float, width: int, unicode: bool) -> None:
    drawn = bar(part, width, unicode=unicode)
    assert cell_width(drawn) == width
    assert (drawn in ("█" * width, f"[{'#' * (width - 2)}]")) == (part == 1)


@pytest.mark.parametrize(
    ("text", "width", "unicode", "shown"),
    [
        ("KSampler", 8, True, "KSampler"),
        ("KSampler", 7, True, "KSampl…"),
        ("KSampler", 7, False, "KSam..."),
        ("KSampler", 0, True, ""),
        ("雪山の夕焼け", 6, True, "雪山…"),
        ("\U0001f469\u200d\U0001f3a8\U0001f469\u200d\U0001f3a8", 3, True, "\U0001f469\u200d\U0001f3a8…"),
        ("\U0001f469\u200d\U0001f3a8\U0001f469\u200d\U0001f3a8", 2, True, "…"),
        ("KSampler", 2, False, ".."),
    ],
)
def test_shorten(text: str, width: int, unicode: bool, shown: str) -> None:
    assert shorten(text, width, unicode=unicode) == shown


def test_pad_counts_columns() -> None:
    assert pad("雪", 4) == "雪  "
    assert pad("\U0001f469\u200d\U0001f3a8", 4) == "\U0001f469\u200d\U0001f3a8  "
    assert pad("long", 2) == "long"


@pytest.mark.parametrize(
    ("line", "width", "pieces"),
    [
        ("[WARN] short", 40, ["[WARN] short"]),
        ("[WARN] one two three four five six", 20, ["[WARN] one two three", "  four five six"]),
        ("  Hint: one two three four five", 20, ["  Hint: one two", "    three four five"]),
        ("[INFO] " + "x" * 40 + " and more", 20, ["[INFO]", "  " + "x" * 40, "  and more"]),
        ("[WARN] 雪雪雪雪 雪雪雪雪 雪雪雪", 20, ["[WARN] 雪雪雪雪", "  雪雪雪雪 雪雪雪"]),
        (
            "[INFO] Saved: /a folder/with many words/in it.png",
            20,
            ["[INFO] Saved: /a folder/with many words/in it.png"],
        ),
        ("  Saved: /a folder/with many words/in it.png", 20, ["  Saved: /a folder/with many words/in it.png"]),
        (
            "  Hint: follow it with: comfyreport attach abc --server http://127.0.0.1:8188",
            40,
            ["  Hint: follow it with:", "    comfyreport attach abc --server http://127.0.0.1:8188"],
        ),
        ("        return sample(model, steps, cfg)", 20, ["        return sample(model, steps, cfg)"]),
        ("[WARN] one two three", 10, ["[WARN] one two three"]),
    ],
)
def test_wrap(line: str, width: int, pieces: list[str]) -> None:
    assert wrap(line, width) == pieces
