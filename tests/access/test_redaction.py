"""Redaction: secrets are removed in every form and encoding, and what is no secret is left as it is."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

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


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "swapped case": str.swapcase,
    "URL": quote,
    "URL, all of it": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "URL in lower case": lambda text: quote(text, safe="").lower(),
    "URL, every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "URL twice": lambda text: quote(quote(text, safe="")),
    "HTML": html.escape,
    "HTML, decimal": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(each):X};" for each in text),
    "HTML, one character": lambda text: f"&#{ord(text[0]):04};{text[1:]}",
    "HTML of a URL": lambda text: html.escape(quote_plus(text)),
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, every character": lambda text: "".join(f"\\u{ord(each):04X}" for each in text),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "upper case in a URL": lambda text: quote_plus(text.upper()),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of more": lambda text: base64.b64encode(f"u:{text}!".encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"u:{text}".encode()).decode().rstrip("="),
}
WRITTEN |= {
    "Python's quotes": lambda text: text.replace("\\", "\\\\").replace("'", "\\'"),
}
SECRETS = [
    "straße-geheim-1",
    "plain-secret-1",
    'O\'Neil & "sons" <a>',
    "s/ash+pl%us=",
    'back\\slash\\nn"t',
    "a%41b&amp;c d12",
    "Übung-macht-Σ",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("how", WRITTEN)
def test_a_secret_however_a_server_writes_it(secret: str, how: str) -> None:
    written = WRITTEN[how](secret)
    redactor = Redactor([secret, "another secret"])
    assert redactor.text(f"no: {written}, sorry") == f"no: {PLACEHOLDER}, sorry"
    for value in ({"a": [f"no: {written}, sorry"]}, {f"no: {written}, sorry": 1}):
        for ascii_only in (True, False):
            body = json.dumps(value, ensure_ascii=ascii_only).encode()
            assert not redactor.leaves([b"{}", body])
            assert json.loads(redactor.body(body)) == json.loads(
                json.dumps(value).replace(json.dumps(written)[1:-1], PLACEHOLDER)
            )
    assert redactor.body(f"<p>{written}</p>".encode()) == f"<p>{PLACEHOLDER}</p>".encode()
    for head in (b"\0\0\0\3\0\0\0\0017", b"\0\0\0\4" + len(written.encode()).to_bytes(4, "big")):
        tail = b"" if head[3] == 3 else b"\xff\xd8" + written.encode()[:3]
        redacted = redactor.binary(head + written.encode() + tail)
        assert redacted == head + b"*" * len(written.encode()) + tail


def test_what_stands_around_a_secret_stays_as_it_is_written() -> None:
    redactor = Redactor(["to/ken-12345"])
    assert redactor.text("a%20b &amp; \\u0041 to%2Fken-12345%20c+d") == f"a%20b &amp; \\u0041 {PLACEHOLDER}%20c+d"
    assert redactor.text("a%20b &amp; \\u0041 50% & more") == "a%20b &amp; \\u0041 50% & more"


def test_secrets_that_overlap_leave_no_rest() -> None:
    assert Redactor(["abcdefgh", "efghijkl"]).text("x abcdefghijkl y") == f"x {PLACEHOLDER} y"
    assert Redactor(["00000000"]).text("0000000000") == PLACEHOLDER


@pytest.mark.parametrize(
    ("secret", "text", "redacted"),
    [
        ("hunter2", "no HUNTER2!", "no [removed]!"),
        ("p@ss", "for p&#64;ss, p%40SS", "for [removed], [removed]"),
        ("hunter2", base64.b64encode(b"hunter2").decode(), PLACEHOLDER),
        ("sampler", "KSampler, ksampler2 and a sampler", "KSampler, ksampler2 and a [removed]"),
        ("sampler", "Sampler", "Sampler"),
    ],
)
def test_short_secrets_however_they_are_written(secret: str, text: str, redacted: str) -> None:
    assert Redactor([secret]).text(text) == redacted
    assert json.loads(Redactor([secret]).body(json.dumps([text]).encode())) == [redacted]


def test_redaction_is_cheap_where_there_is_nothing_to_remove() -> None:
    """Frames come by the thousands: to look through one costs little beside reading it."""
    nodes = {str(number): {"value": 1.0, "max": 20.0, "state": "finished"} for number in range(300)}
    frame = json.dumps({"type": "progress_state", "data": {"prompt_id": "x", "nodes": nodes}}).encode()
    redactor = Redactor(["secret-key-0123456789abcdef", "hunter2hunter2"])
    assert redactor.body(frame) is frame
    assert redactor.leaves([frame, b"{}"])
    assert not redactor.leaves([frame, b'{"current_inputs": {}}'])
    looking, reading = (min(duration(each, frame) for _ in range(20)) for each in (redactor.body, json.loads))
    assert looking <= reading


def duration(function: Callable[[bytes], object], data: bytes) -> float:
    # This thread's own time: the longer it takes, the more of a busy machine's other work is in it.
    began = time.thread_time()
    function(data)
    return time.thread_time() - began


def test_time_grows_with_the_size_alone() -> None:
    redactor = Redactor(["secret-key-0123456789abcdef", "hunter2"])

    def body(count: int) -> bytes:
        return json.dumps(
            [f"100% & \n secret-key-0123456789abcdef hunter2 {number}" for number in range(count)]
        ).encode()

    small, large = (min(duration(redactor.body, body(count)) for _ in range(3)) for count in (500, 5000))
    assert large <= 40 * max(small, 0.02)
    texts = ["%41" * 20_000 + "secret-key-0123456789abcdef", "%41" * 200_000 + "secret-key-0123456789abcdef"]
    small, large = (min(duration(redactor.body, text.encode()) for _ in range(3)) for text in texts)
    assert large <= 40 * max(small, 0.02)


# --- other people's secrets

KEY = "comfyui-SOMEBODYS-KEY"


def graph_of(key: object) -> dict[str, object]:
    inputs = {"api_key": key, "tokens": 3, "auth": ["2", 0], "secret": "", "text": "a key"}
    return {"1": {"class_type": "X", "inputs": inputs}, "2": {"class_type": "Y"}}


def extra_of(key: object, keys: object) -> dict[str, object]:
    return {"client_id": "c", "api_key_comfy_org": key, "deep": [{"authToken": keys, "n": 1}], "create_time": 5}


def failure_of(keys: object) -> dict[str, object]:
    return {"node_id": "1", "current_inputs": {"auth_token": keys, "text": ["monkey"]}}


def answers(key: object, keys: object) -> list[object]:
    """Answers that tell of submissions, as several versions of ComfyUI give them."""
    extra, failure, graph = extra_of(key, keys), failure_of(keys), graph_of(key)
    return [
        {"queue_running": [[0, "a", graph, extra, []]], "queue_pending": []},
        {"queue_running": [], "queue_pending": [[0, "a", graph, extra, [], extra], [1, 2, None, extra, []]]},
        {"id": {"prompt": [0, "a", graph, extra, []], "outputs": {}}},
        {"id": {"status": {"messages": [["execution_error", failure]]}}},
        {"id": "a", "workflow": {"prompt": graph, "extra_data": extra}},
        {"jobs": [{"execution_error": failure}]},
        {"1": {"api_key": "in the workflow"}},
    ]


@pytest.mark.parametrize(
    ("body", "hidden"), [*zip(answers(KEY, [KEY]), answers(PLACEHOLDER, PLACEHOLDER), strict=True)]
)
def test_other_peoples_keys_in_answers(body: object, hidden: object) -> None:
    parsed, text = Redactor([]).answer(bytearray(json.dumps(body).encode()))
    assert parsed == hidden
    assert KEY not in text


def test_other_peoples_keys_in_frames() -> None:
    frame = json.dumps({"type": "execution_error", "data": failure_of([KEY])}).encode()
    broken = json.dumps({"extra_data": extra_of(KEY, KEY)}).encode()[:-1]
    for redactor in (Redactor([]), Redactor(["some-secret-1"])):
        assert json.loads(redactor.body(frame))["data"] == failure_of(PLACEHOLDER)
        assert KEY.encode() not in redactor.body(broken)


@pytest.mark.parametrize("end", ["", '"', '", "x": 1', "…"])
@pytest.mark.parametrize("quote_mark", ['"', '\\"', '\\\\\\"'])
def test_other_peoples_keys_in_answers_that_are_no_json(end: str, quote_mark: str) -> None:
    body = f'{{"queue_running": [[0, "a", {{}}, {{"n": 1, "authToken" : "{KEY}{end}'.replace('"', quote_mark)
    parsed, text = Redactor([]).answer(bytearray(body.encode()))
    assert parsed is None
    assert KEY not in text
    assert text.startswith("{")


def test_an_answer_without_keys_is_left_as_it_is() -> None:
    body = bytearray(b'{"queue_running": [[0, "a", {}, {"client_id": "c", "author": "Kim"}, []]], "x": 1.50}')
    assert Redactor([]).answer(body) == (json.loads(body), body.decode())


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
