"""Credentials and certificates: what is read, what is sent, and which secrets are to be redacted."""

from __future__ import annotations

import base64
from pathlib import Path

import certifi
import pytest

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.errors import UsageError
from comfyreport.flags.credentials import parse_extra_data, parse_headers

SECRET = "s3cr3t-pa55"

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
    for mark in ("", "\ufeff"):
        file.write_text(f"{mark}X-Key: abc\r\n\n  \n# mine\nX-Other: d\n", encoding="utf-8")
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
def test_a_malformed_header_is_refused_without_showing_its_value(value: str) -> None:
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
def test_a_header_that_cannot_be_sent_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        Access(headers={name: value})
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("text", [f"{SECRET} b", f"{SECRET}\nb", f"{SECRET}\x7f", f"{SECRET}é"])
def test_a_malformed_token_is_not_shown(text: str) -> None:
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


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_the_environment_are_named_by_their_variable(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "/nowhere.pem")
    with pytest.raises(UsageError, match=f"^{name} /nowhere.pem: No such file"):
        Access().tls()


@pytest.mark.parametrize(("given", "words"), [("{}", "no certificate with its key"), (",", "No such file")])
def test_a_certificate_of_the_clients_own_without_its_key(given: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"^--client-cert .*: .*{words}"):
        Access(client_cert=given.format(certifi.where()))


# --- what is sent


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
    ("userinfo", "secret", "is_secret"),
    [
        ("glpat-12345678", "glpat-12345678", True),
        ("glpat-12345678:", "glpat-12345678", True),
        ("AKIAIOSFODNN7EXAMPLE:pw", "AKIAIOSFODNN7EXAMPLE", True),
        ("kim:pw", "kim", False),
    ],
)
def test_a_user_name_that_is_a_secret(userinfo: str, secret: str, is_secret: bool) -> None:
    address = parse_address(f"http://{userinfo}@host")
    assert (secret in Access().secrets(address)) is is_secret
    assert secret not in repr(address)


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {SECRET}", f"session={SECRET}; Path=/", f'Token token="{SECRET}"', f"bob:{SECRET}",
        f'Digest username="bob", response="{SECRET}"', f'{{"key":"{SECRET}"}}', f'{{"key": "{SECRET}"}}',
        f'"{SECRET}";a=b', "Basic " + base64.b64encode(f"bob:{SECRET}".encode()).decode(),
    ],
)  # fmt: skip
def test_a_secret_within_a_header(value: str) -> None:
    """Alone, as a server may say it back."""
    secrets = Access(headers={"X-Key": value}).secrets(parse_address("http://host"))
    assert SECRET in secrets
    assert not {"Bearer", "Digest", "key", "response", "username"} & set(secrets)


def test_a_query_without_names_and_numbers_are_secrets_too() -> None:
    access = Access(extra_data={"api_key": 917236450981, "auth": True})
    assert access.secrets(parse_address(f"http://host/?{SECRET}")) == ["917236450981", SECRET]


def test_words_that_stand_in_any_header_are_no_secrets() -> None:
    access = Access(headers={"Authorization": "Basic abc1", "X-Forwarded-Proto": "https", "X-Key": "secret"})
    assert {"Basic", "https"} & set(access.secrets(parse_address("host"))) == set()
    assert {"abc1", "secret"} < set(access.secrets(parse_address("host")))
