"""The installed command reaches servers behind a real nginx: certificates, prefixes, credentials, refusals."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import free_port
from tests.e2e.driver import Driver
from tests.e2e.nginx import NGINX, Authority
from tests.e2e.reaching import (
    BASIC,
    BASIC_ONLY,
    KEY,
    KEY_ONLY,
    TOKEN,
    TOKEN_ONLY,
    Make,
    Run,
    assert_success,
    assert_unreachable,
    with_userinfo,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="NGINX NOT TESTED: it isn't installed (apt-get install nginx-light)"),
]


# --- TLS


def test_a_private_authority(nginx: Make, watched: Run, authority: Authority, tmp_path: Path) -> None:
    server = nginx(certificate=authority.pair)
    ended = watched("--server", server.url, "--cacert", authority.cacert, "--output", tmp_path / "made.png")
    assert_success(ended)
    assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG")
    assert ended.events[0]["server"] == server.url
    assert all(output["url"].startswith(server.url) for output in ended.result["outputs"])
    assert server.asked("GET /ws")
    assert server.asked("GET /view")


def test_an_authority_that_is_not_trusted(
    nginx: Make, watched: Run, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("authority") / "other")
    server = nginx(certificate=authority.pair)
    assert_unreachable(
        watched("--server", server.url, "--cacert", other.cacert), "tls", "TLS", "certificate", "--cacert"
    )
    assert_unreachable(watched("--server", server.url), "tls", "TLS")
    assert not server.asked("POST")


def test_https_where_there_is_none(nginx: Make, watched: Run, reached: Simulator) -> None:
    assert_unreachable(watched("--server", reached.url.replace("http", "https")), "tls")


def test_a_certificate_that_is_not_checked(nginx: Make, watched: Run, authority: Authority) -> None:
    server = nginx(certificate=authority.pair)
    ended = watched("--server", server.url, "--insecure")
    assert_success(ended)
    assert [event["code"] for event in ended.of("warning")] == ["insecure"]
    assert "InsecureRequestWarning" not in ended.err


def test_a_certificate_for_another_host(nginx: Make, watched: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Authority(tmp_path_factory.mktemp("authority") / "names", names="DNS:elsewhere.invalid")
    server = nginx(certificate=other.pair)
    assert_unreachable(watched("--server", server.url, "--cacert", other.cacert), "tls", "127.0.0.1")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_of_the_environment(nginx: Make, watched: Run, authority: Authority, variable: str) -> None:
    server = nginx(certificate=authority.pair)
    unset = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
    assert_success(watched("--server", server.url, env={**unset, variable: str(authority.cacert)}))


def test_a_certificate_of_the_clients_own(nginx: Make, watched: Run, authority: Authority, tmp_path: Path) -> None:
    wants = f"ssl_client_certificate {authority.cacert}; ssl_verify_client on;"
    server = nginx(certificate=authority.pair, server=wants)
    own, key = authority.client_pair
    both = tmp_path / "both.pem"
    both.write_bytes(own.read_bytes() + key.read_bytes())
    for value in (f"{own},{key}", both):
        assert_success(watched("--server", server.url, "--cacert", authority.cacert, "--client-cert", value))
    ended = watched("--server", server.url, "--cacert", authority.cacert)
    assert ended.result["status"] == "unreachable"
    assert not ended.result["retryable"]


@pytest.mark.parametrize(
    ("given", "words"),
    [("nowhere.pem", "No such file"), ("text.pem", "no certificate"), ("own.pem,locked.key", "password")],
)
def test_a_certificate_of_the_clients_own_that_is_of_no_use(
    watched: Run, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, words: str
) -> None:
    (tmp_path / "text.pem").write_text("no certificate\n")
    own, key = authority.client_pair
    (tmp_path / "own.pem").write_bytes(own.read_bytes())
    lock = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", str(key), "-out", str(tmp_path / "locked.key")]
    subprocess.run(lock, check=True, capture_output=True)
    paths = ",".join(str(tmp_path / name) for name in given.split(","))
    ended = watched("--server", "https://127.0.0.1:9", "--client-cert", paths)
    assert (ended.code, ended.result["submitted"]) == (2, "no")
    assert "--client-cert" in ended.err
    assert words in ended.err


# --- paths


@pytest.mark.parametrize("ending", ["", "/", "/ws", "/api", "/api/ws/"])
def test_a_path_prefix(nginx: Make, watched: Run, driver: Driver, ending: str) -> None:
    server = nginx(
        prefix="/gpu/comfy%20ui" if not ending else "/gpu/comfy", location="if ($http_origin) { return 403; }"
    )
    made = driver.folder / "made.png"
    ended = watched("--server", server.url + ending, "--output", made)
    assert_success(ended)
    assert made.read_bytes().startswith(b"\x89PNG")
    assert all(" /gpu/comfy" in line for line in server.log)


def test_a_path_prefix_that_is_wrong(nginx: Make, watched: Run) -> None:
    server = nginx(prefix="/gpu", server="location / { return 404; }")
    assert_unreachable(watched("--server", server.url + "x"), "not_comfyui", "no ComfyUI", "404", "prefix")


# --- credentials


def test_basic_auth_in_the_address(nginx: Make, watched: Run, driver: Driver) -> None:
    server = nginx(location=BASIC_ONLY)
    assert_success(watched("--server", with_userinfo(server.url), "--output", f"{driver.folder}/made/"))
    assert all(f"[Basic {BASIC}]" in line for line in server.log)
    assert {line.split()[3].split("?")[0].split("/")[1] for line in server.log} >= {"ws", "prompt", "view", "history"}


@pytest.mark.parametrize(
    ("location", "arguments", "env"),
    [
        (BASIC_ONLY, ["--header", f"Authorization: Basic {BASIC}"], {}),
        (TOKEN_ONLY, [], {"COMFYREPORT_TOKEN": TOKEN}),
        (TOKEN_ONLY, ["--header", f"authorization: Bearer {TOKEN}"], {"COMFYREPORT_TOKEN": "of-another-server"}),
        (KEY_ONLY, ["--header", f"X-Api-Key: {KEY}"], {}),
        (KEY_ONLY, ["--header", "@given-headers"], {}),
    ],
    ids=["basic-header", "token", "header-beats-token", "header", "header-file"],
)
def test_headers(
    nginx: Make, watched: Run, driver: Driver, location: str, arguments: list[str], env: dict[str, str]
) -> None:
    driver.path("given-headers", f"# for the GPU\nX-Api-Key: {KEY}\n\nX-Other: 1\n")
    server = nginx(location=location)
    assert_success(watched("--server", server.url, *arguments, "--output", f"{driver.folder}/made/", env=env))
    assert server.asked("GET /view")
    assert not [line for line in server.log if line.split()[1] == "401"]


def test_a_token_in_the_query(nginx: Make, watched: Run, driver: Driver) -> None:
    server = nginx(location=f'if ($arg_token != "{TOKEN}") {{ return 401; }}')
    ended = watched("--server", f"{server.url}/?token={TOKEN}", "--output", f"{driver.folder}/made/")
    assert_success(ended)
    assert all(f"token={TOKEN}" in line for line in server.log)


def test_secrets_that_the_server_says_back(nginx: Make, watched: Run) -> None:
    error = f'{{"error": {{"type": "x", "message": "no: $http_x_api_key {TOKEN}"}}}}'
    echo = f"location /prompt {{ default_type application/json; return 400 '{error}'; }}"
    server = nginx(server=echo)
    ended = watched("--server", server.url, "--header", f"X-Api-Key: {KEY}", env={"COMFYREPORT_TOKEN": TOKEN})
    assert ended.code == 4
    assert ended.result["error"]["message"] == "no: [removed] [removed]"


def test_a_cookie_of_the_handshake_comes_with_all_that_follows(nginx: Make, watched: Run, authority: Authority) -> None:
    server = nginx(
        certificate=authority.pair,
        http='map "$request_method $cookie_route" $lost { default 0; ~^POST\\s*$ 1; }',
        location="if ($lost) { return 503; }",
        server=(
            'location = /ws { add_header Set-Cookie "route=backend-2; Path=/; Secure; HttpOnly; SameSite=None; '
            'Partitioned" always; add_header Set-Cookie "more=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT" always; PROXY }'
        ),
    )
    assert_success(watched("--server", server.url, "--cacert", authority.cacert, "--header", "Cookie: mine=7"))
    (post,) = server.asked("POST /prompt")
    assert "[mine=7; route=backend-2; more=1]" in post


# --- those that are in the way


@pytest.mark.parametrize(
    ("answer", "code", "words", "retryable"),
    [
        ("return 401;", "auth", ["credentials", "401", "COMFYREPORT_TOKEN"], False),
        ("return 403;", "auth", ["403", "Origin"], False),
        ('default_type text/html; return 200 "<html>Please sign in</html>";', "auth", ["login page"], False),
        ("return 502;", "not_comfyui", ["502"], True),
        ("return 503;", "not_comfyui", ["503"], True),
        ('default_type text/plain; return 200 "hello";', "not_comfyui", ["no ComfyUI"], False),
    ],
    ids=["401", "403", "login-page", "502", "503", "something-else"],
)
@pytest.mark.parametrize("where", ["socket", "post"])
def test_refusals(
    nginx: Make, watched: Run, answer: str, code: str, words: list[str], retryable: bool, where: str
) -> None:
    server = nginx(location=answer) if where == "socket" else nginx(server=f"location = /prompt {{ {answer} }}")
    ended = watched("--server", with_userinfo(server.url), env={"COMFYREPORT_TOKEN": TOKEN})
    assert_unreachable(ended, code, *words, retryable=retryable)
    assert len(server.asked("POST")) == (where == "post")


def test_a_dead_upstream(nginx: Make, watched: Run) -> None:
    server = nginx(f"http://127.0.0.1:{free_port()}")
    assert_unreachable(watched("--server", server.url), "not_comfyui", "502", retryable=True)


def login(port: int) -> str:
    return f"return 302 http://localhost:{port}/login?from=$request_uri;"


@pytest.mark.parametrize("where", ["socket", "post"])
def test_credentials_never_follow_a_redirect(nginx: Make, watched: Run, where: str) -> None:
    other = nginx(location='return 200 "thanks";')
    if where == "socket":
        server = nginx(location=login(other.port))
    else:
        server = nginx(server=f"location = /prompt {{ {login(other.port)} }}")
    ended = watched("--server", f"{with_userinfo(server.url)}?token={TOKEN}", "--header", f"X-Api-Key: {KEY}")
    assert_unreachable(ended, "auth", f"redirects to http://localhost:{other.port}/login:", "login page")
    assert not other.log


def test_a_download_that_is_redirected_fails(nginx: Make, watched: Run, driver: Driver) -> None:
    other = nginx(location='return 200 "thanks";')
    server = nginx(server=f"location = /view {{ {login(other.port)} }}")
    ended = watched("--server", with_userinfo(server.url), "--output", f"{driver.folder}/made/")
    assert (ended.code, ended.result["status"], ended.result["error"]["code"]) == (8, "partial", "download_failed")
    assert [event["code"] for event in ended.of("warning")] == ["download_failed"]
    assert not other.log
    assert not list((driver.folder / "made").iterdir())


def test_a_login_page_is_not_saved_as_a_picture(nginx: Make, watched: Run, driver: Driver) -> None:
    server = nginx(server='location = /view { default_type text/html; return 200 "<html>Sign in</html>"; }')
    ended = watched("--server", server.url, "--output", driver.folder / "made.png")
    assert (ended.code, ended.result["error"]["code"]) == (8, "download_failed")
    assert "login page" in ended.err
    assert not (driver.folder / "made.png").exists()
