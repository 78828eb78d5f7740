"""Addresses: what is accepted, the URLs made from it, and that nothing secret is shown."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, strategies as st

from comfyreport.access.address import DEFAULT_SERVER, Address, parse_address
from comfyreport.errors import UsageError

ACCEPTED = [
    ("localhost", "http://localhost:8188"),
    ("10.0.0.5", "http://10.0.0.5:8188"),
    ("gpu.example.org:80", "http://gpu.example.org:80"),
    ("  host:1234\n", "http://host:1234"),
    ("[::1]", "http://[::1]:8188"),
    ("[::1]:9000", "http://[::1]:9000"),
    ("::1", "http://[::1]:8188"),
    ("2001:db8::7", "http://[2001:db8::7]:8188"),
    ("[fe80::1%25eth0]", "http://[fe80::1%25eth0]:8188"),
    ("[fe80::1%eth0]:80", "http://[fe80::1%25eth0]:80"),
    ("fe80::1%eth0", "http://[fe80::1%25eth0]:8188"),
    ("http://[2001:db8::1]/x", "http://[2001:db8::1]/x"),
    ("http://host", "http://host"),
    ("https://host", "https://host"),
    ("ws://host:1", "http://host:1"),
    ("wss://host", "https://host"),
    ("HTTPS://Host", "https://host"),
    ("http://host:", "http://host"),
    ("host/comfy", "http://host:8188/comfy"),
    ("http://host/", "http://host"),
    ("http://host/ws", "http://host"),
    ("ws://host/ws/", "http://host"),
    ("http://host/api", "http://host"),
    ("http://host/api/ws", "http://host"),
    ("https://host/comfy/api///", "https://host/comfy"),
    ("https://host/a/b/ws", "https://host/a/b"),
    ("http://host/myapi", "http://host/myapi"),
    ("http://host/ws/deep", "http://host/ws/deep"),
    ("http://host/a%20ü", "http://host/a%20%C3%BC"),
    ("http:8188/x", "http://http:8188/x"),
    ("ws:80", "http://ws:80"),
    ("ws/x", "http://ws:8188/x"),
    ("http://host/@me/x", "http://host/@me/x"),
    ("http://host#part", "http://host"),
    ("host?token=http://x", "http://host:8188"),
    ("host", "http://host:8188"),
    ("host:80", "http://host:80"),
    (" host ", "http://host:8188"),
    ("ws://host/ws", "http://host"),
    ("wss://host:444/ws", "https://host:444"),
    ("HTTPS://Host/", "https://host"),
    ("http://host/gpu/1/", "http://host/gpu/1"),
    ("http://host/gpu/api/ws/", "http://host/gpu"),
    ("http://host/wsx", "http://host/wsx"),
    ("http://host/a%20b", "http://host/a%20b"),
    ("[::1]:8188", "http://[::1]:8188"),
    ("http://[::1]", "http://[::1]"),
    ("user:password@host", "http://host:8188"),
    ("https://user:password@host/x?token=t#f", "https://host/x"),
    (DEFAULT_SERVER, "http://127.0.0.1:8188"),
]


@pytest.mark.parametrize(("text", "base"), ACCEPTED)
def test_accepted_forms(text: str, base: str) -> None:
    address = parse_address(text)
    assert address.base == base
    assert address.url("/prompt").partition("?")[0] == f"{base}/prompt"
    assert address.host_port == re.sub("/.*|%25eth0", "", base.partition("://")[2])
    assert address.secure == base.startswith("https")


def test_a_zone_and_a_foreign_name_as_the_network_takes_them() -> None:
    assert parse_address("[fe80::1%25eth0]:9000").place == ("fe80::1%eth0", 9000)
    address = parse_address("http://b\u00fccher.example")
    assert (address.place, address.host_port) == (("xn--bcher-kva.example", 80), "xn--bcher-kva.example")
    assert parse_address("https://host").place == ("host", 443)


def test_the_query_goes_along_but_is_not_shown() -> None:
    address = parse_address("https://host/x/?token=a+b%2Fc&empty=&n=1&n=2")
    assert address.base == "https://host/x"
    own = [("token", "a b/c"), ("empty", ""), ("n", "1"), ("n", "2")]
    assert parse_qsl(urlsplit(address.url("/view", filename="ü&.png")).query, keep_blank_values=True) == [
        *own,
        ("filename", "ü&.png"),
    ]


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        ("http://host", None),
        ("http://u:p@host", ("u", "p")),
        ("u:p@host:1", ("u", "p")),
        ("http://u@host", ("u", "")),
        ("http://:p@host", ("", "p")),
        ("http://u%40x:p%3A%2F%40%25%C3%BC@host", ("u@x", "p:/@%ü")),
        ("http://u:p@q@host", ("u", "p@q")),
        ("http://u:p:q@host", ("u", "p:q")),
    ],
)
def test_userinfo(text: str, credentials: tuple[str, str] | None) -> None:
    address = parse_address(text)
    assert address.credentials == credentials
    assert "@" not in address.base + address.url("/")


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3:9", True),
        ("[::1]", True),
        ("comfy.localhost", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[fe80::1]", False),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("http://host", False),
    ],
)
def test_this_machine(text: str, loopback: bool) -> None:
    assert parse_address(text).loopback is loopback


REFUSED = [
    "",
    "   ",
    "/",
    ":8188",
    "://host",
    "http://",
    "http:///x",
    "https://:443",
    "ftp://host",
    "file:///etc/passwd",
    "host:port",
    "host:99999",
    "host:-1",
    "http://host:80:80",
    "http://[::1",
    "http://ho st",
    "http://ho\tst",
    "http://host/a b\nc",
    "http://h\u2100st",
    "host\0",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused_forms(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.message.startswith("--server ")
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "http://user:SECRET@ho st",
        "user:SECRET@ho st",
        "http://user:SECRET/x@host",
        "http://user:x/SECRET@host:bad",
        "user:x/SECRET@host:bad",
        "http://user:x?SECRET@host:bad",
        "http://user:x#SECRET@host:bad",
        "http://user:SECRET@h\u2100st",
        "user:SECRET@h\u2100st",
        "http://a@b:SECRET@host:bad",
        "ftp://user:SECRET@host",
        "ftp://host?token=SECRET",
        "ftp://host?token=x@SECRET",
        "ftp://host#SECRET",
        "ho st?token=SECRET",
        "http://host:bad?token=SECRET",
        "http://[SECRET@host",
        "http:/user:SECRET@host",
        "http//user:SECRET@host",
        "http:user:SECRET@host",
        "HTTPS:/SECRET@host",
        "wss:SECRET@host",
        "htp:/user:SECRET@host",
        "htp/SECRET@host",
        "http://host/user:SECRET@other",
        "http://user:SECRET@host:port",
        "user:SECRET@host:port",
        "http://user:SECRET@",
        "user:SECRET@",
        "http://user:SEC/SECRET@host",
        "user:SEC?SECRET@host:port/",
        "http://host:x/?token=a@SECRET",
        "host:x?token=SECRET",
        "http://host:x/#SECRET",
        "http://user:SECRET@[::1",
        "http://user:SECRET",
        "http://user:SECRET:8188",
        "user:SECRET:8188",
        "http://user@host:SECRET",
        "user:SECRET%40host:80",
        "http://user%3ASECRET%40host",
        "user%3ASECRET%40host",
        "http://user:SECRET\uff20host",
        "http://user:12/xSECRET@host",
        "http://user:12/x/SECRET@host",
        "http://host;token=SECRET",
        "host&token=SECRET",
        "http://host:8188token=SECRET",
        "SECRET://user@host",
        "http:SECRET",
        "https:/SECRET",
        "https//SECRET",
        "http:\\\\user:SECRET@host",
        '"http://user:SECRET@host"',
        "<http://user:SECRET@host>",
        "[http://user:SECRET@host]",
        "http://[user:SECRET]@host",
        "http://user:%SECRET@host:x",
        "http:// user:SECRET@host",
        "user:SECRET @host:x",
        "http://http://user:SECRET@host",
        "http://*SECRET",
    ],
)
def test_errors_show_nothing_secret(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    error = caught.value
    assert "secret" not in (error.message + error.hint).lower()
    # A traceback would show the error that this one came from.
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host:port", "'host…'"),
        ("http://ho st", "'http://ho…'"),
        ("ftp://host", "'ftp://host'"),
        ("http://host:99999", "'http://host…'"),
        ("http://user:x@host:80:80", "'http://…@host…'"),
        ("http:/host", "'http:…'"),
    ],
)
def test_errors_show_what_helps(text: str, shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.message.startswith(f"--server {shown}: ")


@given(st.text('uS:@/?#[]%\\ .1&;="<', max_size=12), st.text('uS:@/?#[]%\\ .1&;="<h', max_size=12))
def test_a_password_before_an_at_sign_is_in_no_error(before: str, behind: str) -> None:
    shown = ""
    try:
        shown = parse_address(f"http://user:{before}SECRET@host{behind}:x").base
    except UsageError as error:
        shown = error.message
    assert "SECRET" not in shown


def test_an_addresss_own_form_shows_nothing_secret() -> None:
    """It stands in tracebacks that show variables, and in logs of careless code."""
    address = parse_address("http://user:SECRET@host/x?token=SECRET")
    assert "SECRET" not in repr(address) + str(address) + f"{address}" + address.base


@given(st.text() | st.from_regex(r"(https?://)?[a-z:@/?#\[\]%.0-9]{0,30}", fullmatch=True))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    address: Address | None = None
    message = ""
    try:
        address = parse_address(text)
    except UsageError as error:
        message = error.message
    assert message.isprintable()
    assert bool(message) == (address is None)
    if address is None:
        return
    assert address.host
    again = parse_address(address.base)
    assert (again.base, again.host, again.secure) == (address.base, address.host, address.secure)
    assert urlsplit(address.url("/prompt")).hostname
