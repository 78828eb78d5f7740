"""What a user says of a server and its credentials, and what may be shown of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import certifi
import pytest
from hypothesis import given, strategies as st

from comfyreport.errors import UsageError
from comfyreport.net.access import Access, parse_extra_data, parse_headers
from comfyreport.net.address import Address, parse_address
from comfyreport.net.cookies import read_cookies
from comfyreport.net.failures import status_error
from comfyreport.net.recorder import Recorder
from comfyreport.net.redaction import MIN_LENGTH, PLACEHOLDER, Redactor

# --- addresses


@pytest.mark.parametrize(
    ("text", "base", "socket"),
    [
        ("host", "http://host:8188", "ws://host:8188/ws"),
        ("host:80", "http://host:80", "ws://host:80/ws"),
        (" host ", "http://host:8188", "ws://host:8188/ws"),
        ("http://host", "http://host", "ws://host/ws"),
        ("https://host", "https://host", "wss://host/ws"),
        ("ws://host/ws", "http://host", "ws://host/ws"),
        ("wss://host:444/ws", "https://host:444", "wss://host:444/ws"),
        ("HTTPS://Host/", "https://host", "wss://host/ws"),
        ("http://host/api", "http://host", "ws://host/ws"),
        ("http://host/gpu/1/", "http://host/gpu/1", "ws://host/gpu/1/ws"),
        ("http://host/gpu/api/ws/", "http://host/gpu", "ws://host/gpu/ws"),
        ("http://host/wsx", "http://host/wsx", "ws://host/wsx/ws"),
        ("http://host/a%20b", "http://host/a%20b", "ws://host/a%20b/ws"),
        ("[::1]:8188", "http://[::1]:8188", "ws://[::1]:8188/ws"),
        ("http://[::1]", "http://[::1]", "ws://[::1]/ws"),
        ("user:password@host", "http://host:8188", "ws://host:8188/ws"),
        ("https://user:password@host/x?token=t#f", "https://host/x", "wss://host/x/ws"),
    ],
)
def test_addresses(text: str, base: str, socket: str) -> None:
    address = parse_address(text)
    assert address.base == base
    assert address.socket_url("me").partition("?")[0] == socket


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        ("http://host", None),
        ("http://user@host", ("user", "")),
        ("http://user:pass@host", ("user", "pass")),
        ("http://:pass@host", ("", "pass")),
        ("http://us%40er:p%3Aa%2Fss%25@host", ("us@er", "p:a/ss%")),
        ("http://k%C3%A4te:w%C3%B6rd@host", ("käte", "wörd")),
        ("http://a:b@c:d@host", ("a", "b@c:d")),
    ],
)
def test_userinfo(text: str, credentials: tuple[str, str] | None) -> None:
    assert parse_address(text).credentials == credentials


def test_the_query_goes_along_everywhere_but_is_not_shown() -> None:
    address = parse_address("https://host/x?token=a%2Bb&empty=&two=1&two=2")
    asked = "token=a%2Bb&empty=&two=1&two=2"
    assert address.url("/prompt") == f"https://host/x/prompt?{asked}"
    assert address.url("/view", filename="a b") == f"https://host/x/view?{asked}&filename=a+b"
    assert address.socket_url("me") == f"wss://host/x/ws?{asked}&clientId=me"
    assert "?" not in address.base


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("comfy.localhost", True),
        ("[::1]", True),
        ("127.evil.invalid", False),
        ("127.0.0.1.evil.invalid", False),
        ("10.0.0.1", False),
        ("[fe80::1]", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert parse_address(f"http://{host}").loopback is loopback


SECRET = "s3cr3t-pa55"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://user:SECRET@host",
        "http://user:SECRET@host:port",
        "http://user:SECRET@",
        "user:SECRET@host:port",
        "user:SECRET@",
        "http://user:SEC/SECRET@host",
        "http://user:SEC/SECRET@host:x",
        "user:SEC?SECRET@host:port/",
        "http://user:SECRET@ho st",
        "http://host:x/?token=SECRET",
        "http://host:x/?token=a@SECRET",
        "host:x?token=SECRET",
        "http://host:x/#SECRET",
        "http://[SECRET@host",
        "http://user:SECRET@[::1",
        "http://user:SECRET@host\u2100",
        "http://host:99999",
        "http://host:-1",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address_is_told_without_what_may_be_secret(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text.replace("SECRET", SECRET))
    error = caught.value
    assert SECRET not in f"{error.message} {error.hint} {error.__cause__}"
    assert error.message.startswith("--server ")
    assert error.hint


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    address: Address | None = None
    message = ""
    try:
        address = parse_address(text)
    except UsageError as error:
        message = error.message
    assert message.isprintable()
    assert bool(message) == (address is None)
    assert address is None or parse_address(address.base).base == address.base


# --- headers, tokens, extra data, certificates


@pytest.mark.parametrize(
    ("values", "headers"),
    [
        ([], {}),
        (["X-Key: abc"], {"X-Key": "abc"}),
        (["X-Key:abc"], {"X-Key": "abc"}),
        (["X-Key:  a: b "], {"X-Key": "a: b"}),
        (["X-Key:"], {"X-Key": ""}),
        (["A: 1", "B: 2", "A: 3"], {"A": "3", "B": "2"}),
        (["A: 1", "a: 2"], {"a": "2"}),
    ],
)
def test_headers(values: list[str], headers: dict[str, str]) -> None:
    assert parse_headers(values) == headers


def test_headers_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# mine\nX-Key: abc\r\n\n  \nX-Other: d\n")
    assert parse_headers([f"@{file}", "X-Key: e"]) == {"X-Key": "e", "X-Other": "d"}


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"Authorization Basic {SECRET}:x",
        f"{SECRET} x: y",
        f": {SECRET}",
        f"X Key: {SECRET}",
        f"X-Key: {SECRET}\nX: y",
        f"X-Key: {SECRET}\x00",
        f"X-Key: {SECRET}ü",
    ],
)
def test_what_is_no_header_is_told_without_its_value(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_headers([value])
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.message.isprintable()


def test_a_file_of_headers_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        parse_headers([f"@{tmp_path / 'nothing'}"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no UTF-8"):
        parse_headers([f"@{tmp_path / 'binary'}"])


@pytest.mark.parametrize(("text", "token"), [("", ""), ("abc", "abc"), (" abc\n", "abc"), ("a.b-c_~+/=", "a.b-c_~+/=")])
def test_tokens(text: str, token: str) -> None:
    assert Access.of({"COMFYREPORT_TOKEN": text}).token == token


def test_nothing_secret_shows_where_access_is_printed() -> None:
    access = Access(token=SECRET, headers={"X-Key": SECRET}, extra_data={"key": SECRET})
    assert SECRET not in f"{access} {access!r}"


@pytest.mark.parametrize(("name", "value"), [("X Y", "1"), ("X", f"{SECRET}\nY: 1"), ("", "1"), ("X", f"{SECRET}é")])
def test_headers_that_are_none_are_not_told(name: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        Access(headers={name: value})
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("text", [f"{SECRET} b", f"{SECRET}\nb", f"{SECRET}\x7f", f"{SECRET}é"])
def test_what_is_no_token_is_not_told(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Access.of({"COMFYREPORT_TOKEN": text})
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


def test_extra_data() -> None:
    assert parse_extra_data(["a=b", "c=", "d=e=f", "a=g"]) == {"a": "g", "c": "", "d": "e=f"}
    for wrong in (SECRET, f"={SECRET}", ""):
        with pytest.raises(UsageError) as caught:
            parse_extra_data([wrong])
        assert SECRET not in f"{caught.value.message} {caught.value.hint}"


def test_certificates(tmp_path: Path) -> None:
    assert Access(cacert=certifi.where()).cacert == certifi.where()
    (tmp_path / "no.pem").write_text("hello")
    for name, words in (("no.pem", "no certificates"), ("nothing", "No such file")):
        with pytest.raises(UsageError, match=words):
            Access(cacert=str(tmp_path / name))


# --- what goes along


BASIC = "Basic " + base64.b64encode("us@er:wörd".encode()).decode()


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (Access(), BASIC),
        (Access(token="t"), "Bearer t"),
        (Access(headers={"Authorization": "Mine 1"}), "Mine 1"),
        (Access(headers={"authorization": "Mine 1"}, token="t"), "Mine 1"),
        (Access(headers={"X-Key": "1"}, token="t"), "Bearer t"),
    ],
)
def test_a_header_beats_the_token_which_beats_userinfo(access: Access, expected: str) -> None:
    headers = access.headers_for(parse_address("http://us%40er:w%C3%B6rd@host"))
    assert [value for name, value in headers.items() if name.lower() == "authorization"] == [expected]


@pytest.mark.parametrize(
    ("text", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1; Path=/; HttpOnly; Secure; SameSite=None; Partitioned; b=2; Max-Age=5", {"a": "1", "b": "2"}),
        ("a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT; b=x=y==", {"a": "1", "b": "x=y=="}),
        ('a="quoted"; a=2; =3; novalue; c=', {"a": "2", "c": ""}),
        ("a=1\r\nX-Injected: 2; b=\x00; c=ü; d=4", {"d": "4"}),
    ],
)
def test_cookies(text: str, cookies: dict[str, str]) -> None:
    expected = {name: value for name, value in cookies.items() if name}
    assert {name: value for name, value in read_cookies(text).items() if name} == expected


# --- secrets

ADDRESS = parse_address("http://user:password-1@host/?token=query-secret-22&v=1")
ACCESS = Access(
    headers={
        "X-Key": "key-value-0",
        "Cookie": "session=cookie-secret; other=cookie-secret-2",
        "Accept": "application/json",
        "Authorization": "Bearer bearer-secret",
    },
    token="token-unused",
    extra_data={"api_key": "extra-secret-12345"},
)


def test_secrets_come_the_longest_first() -> None:
    secrets = ACCESS.secrets(ADDRESS)
    assert secrets == sorted(secrets, key=len, reverse=True)
    assert {"password-1", "query-secret-22", "key-value-0", "cookie-secret", "cookie-secret-2", "bearer-secret"} < set(
        secrets
    )
    assert {"token-unused", "extra-secret-12345"} < set(secrets)
    assert "application/json" not in secrets
    assert "" not in secrets
    assert len(set(secrets)) == len(secrets)


@pytest.mark.parametrize(
    ("userinfo", "secret", "hidden"),
    [
        ("glpat-12345678", "glpat-12345678", True),
        ("glpat-12345678:", "glpat-12345678", True),
        ("AKIAIOSFODNN7EXAMPLE:pw", "AKIAIOSFODNN7EXAMPLE", True),
        ("kim:pw", "kim", False),
    ],
)
def test_a_user_name_that_is_a_secret(userinfo: str, secret: str, hidden: bool) -> None:
    address = parse_address(f"http://{userinfo}@host")
    assert (secret in Access().secrets(address)) is hidden
    assert secret not in repr(address)


def test_words_that_stand_in_any_header_are_no_secrets() -> None:
    access = Access(headers={"Authorization": "Basic abc1", "X-Forwarded-Proto": "https", "X-Key": "secret"})
    assert {"Basic", "https"} & set(access.secrets(parse_address("host"))) == set()
    assert {"abc1", "secret"} < set(access.secrets(parse_address("host")))


def test_the_longest_first_leaves_no_rest() -> None:
    redactor = Redactor(["secret-1", "secret-1-and-more"])
    assert redactor.text("a secret-1-and-more b secret-1 c") == f"a {PLACEHOLDER} b {PLACEHOLDER} c"


@pytest.mark.parametrize(
    "secret", ["plain-secret", 'quo"ted\\secret', "pér/cent secret+&=", "line\nfeed-secret", "秘密のトークンです"]
)
def test_every_form_of_a_secret_is_hidden(secret: str) -> None:
    redactor = Redactor([secret])
    value = {"a": [f"x{secret}y", {secret: 7}], "b": quote(secret), "c": quote(secret, safe="")}
    for data in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
        hidden = json.loads(redactor.body(data))
        assert hidden == {"a": [f"x{PLACEHOLDER}y", {PLACEHOLDER: 7}], "b": PLACEHOLDER, "c": PLACEHOLDER}
    plain = f"not json {secret}".encode()
    assert redactor.body(plain) == f"not json {PLACEHOLDER}".encode()
    assert redactor.body(bytearray(plain)) == bytearray(f"not json {PLACEHOLDER}".encode())
    frame = b"\0\0\0\3" + secret.encode() + b"rest"
    assert redactor.binary(frame) == b"\0\0\0\3" + b"*" * len(secret.encode()) + b"rest"


def test_numbers_are_left_alone() -> None:
    redactor = Redactor(["12345678"])
    body = b'{"seed": 123456789, "text": "12345678"}'
    assert json.loads(redactor.body(body)) == {"seed": 123456789, "text": PLACEHOLDER}


def test_short_secrets_do_not_spoil_what_a_server_says() -> None:
    redactor = Redactor(["a", "node", "x" * (MIN_LENGTH - 1)])
    data = b'{"type": "executing", "data": {"node": "a"}}'
    assert redactor.body(data) is data
    assert redactor.binary(data) is data


@pytest.mark.parametrize(
    ("secret", "text", "hidden"),
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
def test_short_secrets_are_hidden_as_words(secret: str, text: str, hidden: str) -> None:
    redactor = Redactor([secret])
    assert redactor.text(text) == hidden
    assert json.loads(redactor.body(json.dumps({"message": [text]}).encode())) == {"message": [hidden]}
    if not text.startswith("{"):
        assert redactor.body(text.encode()) == hidden.encode()


def test_a_short_secret_leaves_names_of_files_and_keys() -> None:
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
def test_a_secret_in_whatever_way_json_may_write_it(data: bytes) -> None:
    hidden = json.loads(Redactor(["tok/en-12345"]).body(data))
    assert hidden["a"] == f"no {PLACEHOLDER}"
    assert "tok/en" not in str(hidden)


def test_json_that_holds_none_is_left_as_it_is() -> None:
    data = b'{"a": "tok\\/ens and \\u0074exts", "b": 1e400, "c": 123456789012345678901234567890}'
    assert Redactor(["tok/en-12345"]).body(data) is data


@given(st.binary(max_size=60), st.lists(st.text(min_size=8, max_size=12), max_size=3))
def test_hiding_never_raises_and_leaves_nothing(data: bytes, secrets: list[str]) -> None:
    secrets = [secret for secret in secrets if secret.isascii() and secret.isprintable()]
    redactor = Redactor(secrets)
    for hidden in (redactor.body(data + "".join(secrets).encode()), redactor.binary(data + "".join(secrets).encode())):
        for secret in secrets:
            if secret not in PLACEHOLDER:
                assert secret.encode() not in hidden


def test_a_recording_holds_no_secret_and_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    recorder = Recorder(path, server="http://host", secrets=[SECRET, "1", "t", "http"])
    recorder.tap({"dir": "in", "kind": "http", "response": {"a": SECRET, "n": 11}})
    recorder.tap({"dir": "in", "kind": "ws-text", "text": json.dumps({"a": f"<{SECRET}>"})})
    recorder.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "http", "ws-text"]
    assert lines[1]["response"] == {"a": PLACEHOLDER, "n": 11}
    assert json.loads(lines[2]["text"]) == {"a": f"<{PLACEHOLDER}>"}


@pytest.mark.parametrize(
    "location",
    [f"https://u:{SECRET}@other/login?x={SECRET}#{SECRET}", f"//u:{SECRET}@other/login#{SECRET}", f"/login?{SECRET}"],
)
def test_a_redirect_is_told_without_what_may_be_secret(location: str) -> None:
    error = status_error(302, location, "http://host")
    assert SECRET not in error.message
    assert "login" in error.message
