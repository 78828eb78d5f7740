"""Redaction: secrets are removed in every form and encoding, and what is no secret is left as it is."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from comfyreport.access.redaction import MIN_LENGTH, PLACEHOLDER, Redactor


def test_a_secret_within_another_leaves_no_rest() -> None:
    redactor = Redactor(["secret-1", "secret-1-and-more"])
    assert redactor.text("a secret-1-and-more b secret-1 c") == f"a {PLACEHOLDER} b {PLACEHOLDER} c"


@pytest.mark.parametrize(
    "secret", ["plain-secret", 'quo"ted\\secret', "pér/cent secret+&=", "line\nfeed-secret", "秘密のトークンです"]
)
def test_every_form_of_a_secret_is_removed(secret: str) -> None:
    redactor = Redactor([secret])
    value = {"a": [f"x{secret}y", {secret: 7}], "b": quote(secret), "c": quote(secret, safe="")}
    for data in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
        redacted = json.loads(redactor.body(data))
        assert redacted == {"a": [f"x{PLACEHOLDER}y", {PLACEHOLDER: 7}], "b": PLACEHOLDER, "c": PLACEHOLDER}
    plain = f"not json {secret}".encode()
    assert redactor.body(plain) == f"not json {PLACEHOLDER}".encode()
    assert redactor.body(bytearray(plain)) == bytearray(f"not json {PLACEHOLDER}".encode())
    frame = b"\0\0\0\3" + secret.encode() + b"rest"
    assert redactor.binary(frame) == b"\0\0\0\3" + b"*" * len(secret.encode()) + b"rest"


def test_numbers_are_left_alone() -> None:
    redactor = Redactor(["12345678"])
    body = b'{"seed": 123456789, "text": "12345678"}'
    assert json.loads(redactor.body(body)) == {"seed": 123456789, "text": PLACEHOLDER}


def test_short_secrets_do_not_garble_messages() -> None:
    redactor = Redactor(["a", "node", "x" * (MIN_LENGTH - 1)])
    data = b'{"type": "executing", "data": {"node": "a"}}'
    assert redactor.body(data) is data
    assert redactor.binary(data) is data


@pytest.mark.parametrize(
    ("secret", "text", "redacted"),
    [
        ("hunter2", "no hunter2!", "no [removed]!"),
        ("hunter2", "hunter2", "[removed]"),
        ("hunter2", "hunter22 ahunter2 hunter2_1", "hunter22 ahunter2 hunter2_1"),
        ("k3y-99x", "?key=k3y-99x&a", "?key=[removed]&a"),
        ("p@ss", "for p@ss or p%40ss", "for [removed] or [removed]"),
        ("admin", "user admin is unknown", "user [removed] is unknown"),
        ("admin", "admin", "admin"),
        ("admin", "/admin/x.png", "/admin/x.png"),
        ("1234", "no pin 1234", "no pin [removed]"),
        ("1234", "1234", "1234"),
        ("node", '{"type": "executing", "data": {"node": "a"}}', '{"type": "executing", "data": {"node": "a"}}'),
        ("abc", "no abc", "no abc"),
    ],
)
def test_short_secrets_are_removed_as_words(secret: str, text: str, redacted: str) -> None:
    redactor = Redactor([secret])
    assert redactor.text(text) == redacted
    assert json.loads(redactor.body(json.dumps({"message": [text]}).encode())) == {"message": [redacted]}
    if not text.startswith("{"):
        assert redactor.body(text.encode()) == redacted.encode()


def test_a_short_secret_stays_in_file_names_and_keys() -> None:
    redactor = Redactor(["abc12"])
    value = {"abc12": 1, "images": [{"filename": "abc12 x.png", "subfolder": "abc12", "note": "abc12"}]}
    assert json.loads(redactor.body(json.dumps(value).encode())) == {
        "abc12": 1,
        "images": [{"filename": "abc12 x.png", "subfolder": "abc12", "note": PLACEHOLDER}],
    }


def test_a_short_secret_in_binary_messages() -> None:
    redactor = Redactor(["abc12", "1234"])
    assert redactor.binary(b"\0\0\0\3\0\0\0\0041234 no 1234") == b"\0\0\0\3\0\0\0\0041234 no ****"
    text, picture = b"\0\0\0\3\0\0\0\1" + b"7no abc12!", b"\0\0\0\1\0\0\0\1 abc12 "
    assert redactor.binary(text) == text.replace(b"abc12", b"*****")
    assert redactor.binary(picture) == picture


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": "no tok\\/en-12345"}',
        b'{"a": "no \\u0074ok\\u002fen-12345"}',
        b'{"a": "no \\u0074ok\\u002Fen-12345", "a\\/tok\\/en-12345": 1}',
        '{"a": "no tok/en-12345"}'.encode("utf-16"),
        '{"a": "no tok/en-12345"}'.encode("utf-16-le"),
        '{"a": "no tok/en-12345"}'.encode("utf-32"),
        '{"a": "no tok/en-12345"}'.encode("utf-8-sig"),
    ],
)
def test_a_secret_in_every_json_escape_and_encoding(data: bytes) -> None:
    redacted = json.loads(Redactor(["tok/en-12345"]).body(data))
    assert redacted["a"] == f"no {PLACEHOLDER}"
    assert "tok/en" not in str(redacted)


def test_json_without_secrets_is_left_as_it_is() -> None:
    data = b'{"a": "tok\\/ens and \\u0074exts", "b": 1e400, "c": 123456789012345678901234567890}'
    assert Redactor(["tok/en-12345"]).body(data) is data


@given(st.binary(max_size=60), st.lists(st.text(min_size=8, max_size=12), max_size=3))
def test_redaction_never_raises_and_leaves_nothing(data: bytes, secrets: list[str]) -> None:
    secrets = [secret for secret in secrets if secret.isascii() and secret.isprintable()]
    redactor = Redactor(secrets)
    for redacted in (
        redactor.body(data + "".join(secrets).encode()),
        redactor.binary(data + "".join(secrets).encode()),
    ):
        for secret in secrets:
            if secret not in PLACEHOLDER:
                assert secret.encode() not in redacted
