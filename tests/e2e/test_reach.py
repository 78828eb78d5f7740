"""The installed command reaches servers behind a real nginx: certificates, prefixes, credentials, idle connections."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import ComfyUI, free_port
from tests.e2e.driver import Driver, Ended
from tests.e2e.nginx import NGINX, Authority, Nginx, Proxy
from tests.e2e.raw_client import chain
from tests.simulator.prompts import picture

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="NGINX NOT TESTED: it isn't installed (apt-get install nginx-light)"),
]

PASSWORD = "p%40ss:wörd/1"
USER = "k@te"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
USERINFO = "k%40te:p%2540ss%3Aw%C3%B6rd%2F1@"
TOKEN = "tok-0123456789abcdef"
KEY = "key-fedcba9876543210"
SECRETS = (PASSWORD, USERINFO[:-1], "p%2540ss%3Aw%C3%B6rd%2F1", BASIC, TOKEN, KEY)

Make = Callable[..., Nginx]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=40) as made:
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "own")


@pytest.fixture
def nginx(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts an nginx in front of the simulator, or of another server; ended with the test."""
    folder = tmp_path_factory.mktemp("nginx")
    made: list[Nginx] = []

    def make(upstream: str = "", **options: Any) -> Nginx:
        server = Nginx(folder / str(len(made)), upstream or simulator.url, **options)
        made.append(server)
        return server.__enter__()

    yield make
    for server in made:
        server.__exit__(None, None, None)


@pytest.fixture
def run(driver: Driver) -> Iterator[Callable[..., Ended]]:
    """Runs a workflow with everything on that writes something; nothing secret may be in any of it."""
    count = 0

    def make(*arguments: Any, env: dict[str, str] | None = None, **options: Any) -> Ended:
        nonlocal count
        count += 1
        return driver.follow(
            picture(seed=time.monotonic_ns() % 10**9, steps=2), *arguments,
            "--record", driver.folder / f"{count}.recording", "--reporter", f"filelog={count}.log",
            "--reporter", "console", env={"COMFYREPORT_DEBUG": "1", **(env or {})}, **options,
        )  # fmt: skip

    yield make
    assert count
    assert_no_secret(driver.folder)


def assert_no_secret(folder: Path) -> None:
    """No file that was written holds a secret; those that were given are named given-…."""
    looked = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("given-"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for secret in SECRETS:
                assert secret not in text, (path.name, secret)
            looked += 1
    assert looked >= 4


def with_userinfo(url: str, userinfo: str = USERINFO) -> str:
    return url.replace("://", f"://{userinfo}", 1)


def assert_success(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert ended.result["status"] == "success"
    assert ended.of("node_progress")


def assert_unreachable(ended: Ended, code: str, *words: str, retryable: bool = False) -> None:
    """Exit 3 with this error, whose message holds these words; nothing was submitted."""
    assert ended.code == 3, ended.err
    result = ended.result
    assert (result["status"], result["error"]["code"]) == ("unreachable", code), result
    assert (result["prompt_state"], result["submitted"]) == ("none", "no")
    assert result["retryable"] is retryable
    for word in words:
        assert word in f"{result['error']['message']} {result['error']['hint']}", result["error"]
    assert result["error"]["message"] in ended.err


# --- TLS


def test_a_private_authority(nginx: Make, run: Callable[..., Ended], authority: Authority, tmp_path: Path) -> None:
    server = nginx(certificate=authority.pair)
    ended = run("--server", server.url, "--cacert", authority.cacert, "--output", tmp_path / "made.png")
    assert_success(ended)
    assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG")
    assert ended.events[0]["server"] == server.url
    assert all(output["url"].startswith(server.url) for output in ended.result["outputs"])
    assert server.asked("GET /ws")
    assert server.asked("GET /view")


def test_an_authority_that_is_not_trusted(
    nginx: Make, run: Callable[..., Ended], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("authority") / "other")
    server = nginx(certificate=authority.pair)
    assert_unreachable(run("--server", server.url, "--cacert", other.cacert), "tls", "TLS", "certificate", "--cacert")
    assert_unreachable(run("--server", server.url), "tls", "TLS")
    assert not server.asked("POST")


def test_https_where_there_is_none(nginx: Make, run: Callable[..., Ended], simulator: Simulator) -> None:
    assert_unreachable(run("--server", simulator.url.replace("http", "https")), "tls")


def test_a_certificate_that_is_not_checked(nginx: Make, run: Callable[..., Ended], authority: Authority) -> None:
    server = nginx(certificate=authority.pair)
    ended = run("--server", server.url, "--insecure")
    assert_success(ended)
    assert [event["code"] for event in ended.of("warning")] == ["insecure"]
    assert "InsecureRequestWarning" not in ended.err


def test_a_certificate_for_another_host(
    nginx: Make, run: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("authority") / "names", names="DNS:elsewhere.invalid")
    server = nginx(certificate=other.pair)
    assert_unreachable(run("--server", server.url, "--cacert", other.cacert), "tls", "127.0.0.1")


# --- paths


@pytest.mark.parametrize("ending", ["", "/", "/ws", "/api", "/api/ws/"])
def test_a_path_prefix(nginx: Make, run: Callable[..., Ended], driver: Driver, ending: str) -> None:
    server = nginx(
        prefix="/gpu/comfy%20ui" if not ending else "/gpu/comfy", location="if ($http_origin) { return 403; }"
    )
    made = driver.folder / "made.png"
    ended = run("--server", server.url + ending, "--output", made)
    assert_success(ended)
    assert made.read_bytes().startswith(b"\x89PNG")
    assert all(" /gpu/comfy" in line for line in server.log)


def test_a_path_prefix_that_is_wrong(nginx: Make, run: Callable[..., Ended]) -> None:
    server = nginx(prefix="/gpu", server="location / { return 404; }")
    assert_unreachable(run("--server", server.url + "x"), "not_comfyui", "no ComfyUI", "404", "prefix")


# --- credentials


BASIC_ONLY = f'if ($http_authorization != "Basic {BASIC}") {{ return 401; }}'
TOKEN_ONLY = f'if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}'
KEY_ONLY = f'if ($http_x_api_key != "{KEY}") {{ return 401; }}'


def test_basic_auth_in_the_address(nginx: Make, run: Callable[..., Ended], driver: Driver) -> None:
    server = nginx(location=BASIC_ONLY)
    assert_success(run("--server", with_userinfo(server.url), "--output", f"{driver.folder}/made/"))
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
    nginx: Make, run: Callable[..., Ended], driver: Driver, location: str, arguments: list[str], env: dict[str, str]
) -> None:
    driver.path("given-headers", f"# for the GPU\nX-Api-Key: {KEY}\n\nX-Other: 1\n")
    server = nginx(location=location)
    assert_success(run("--server", server.url, *arguments, "--output", f"{driver.folder}/made/", env=env))
    assert server.asked("GET /view")
    assert not [line for line in server.log if line.split()[1] == "401"]


def test_a_token_in_the_query(nginx: Make, run: Callable[..., Ended], driver: Driver) -> None:
    server = nginx(location=f'if ($arg_token != "{TOKEN}") {{ return 401; }}')
    ended = run("--server", f"{server.url}/?token={TOKEN}", "--output", f"{driver.folder}/made/")
    assert_success(ended)
    assert all(f"token={TOKEN}" in line for line in server.log)


def test_secrets_that_the_server_says_back(nginx: Make, run: Callable[..., Ended]) -> None:
    error = f'{{"error": {{"type": "x", "message": "no: $http_x_api_key {TOKEN}"}}}}'
    echo = f"location /prompt {{ default_type application/json; return 400 '{error}'; }}"
    server = nginx(server=echo)
    ended = run("--server", server.url, "--header", f"X-Api-Key: {KEY}", env={"COMFYREPORT_TOKEN": TOKEN})
    assert ended.code == 4
    assert ended.result["error"]["message"] == "no: [removed] [removed]"


def test_a_cookie_of_the_handshake_comes_with_all_that_follows(nginx: Make, run: Callable[..., Ended]) -> None:
    server = nginx(
        http='map "$request_method $cookie_route" $lost { default 0; ~^POST\\s*$ 1; }',
        location="if ($lost) { return 503; }",
        server=(
            'location = /ws { add_header Set-Cookie "route=backend-2; Path=/; Secure; HttpOnly; SameSite=None; '
            'Partitioned" always; add_header Set-Cookie "more=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT" always; PROXY }'
        ),
    )
    assert_success(run("--server", server.url, "--header", "Cookie: mine=7"))
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
    nginx: Make, run: Callable[..., Ended], answer: str, code: str, words: list[str], retryable: bool, where: str
) -> None:
    server = nginx(location=answer) if where == "socket" else nginx(server=f"location = /prompt {{ {answer} }}")
    ended = run("--server", with_userinfo(server.url), env={"COMFYREPORT_TOKEN": TOKEN})
    assert_unreachable(ended, code, *words, retryable=retryable)
    assert len(server.asked("POST")) == (where == "post")


def test_a_dead_upstream(nginx: Make, run: Callable[..., Ended]) -> None:
    server = nginx(f"http://127.0.0.1:{free_port()}")
    assert_unreachable(run("--server", server.url), "not_comfyui", "502", retryable=True)


def login(port: int) -> str:
    return f"return 302 http://localhost:{port}/login?from=$request_uri;"


@pytest.mark.parametrize("where", ["socket", "post"])
def test_credentials_never_follow_a_redirect(nginx: Make, run: Callable[..., Ended], where: str) -> None:
    other = nginx(location='return 200 "thanks";')
    if where == "socket":
        server = nginx(location=login(other.port))
    else:
        server = nginx(server=f"location = /prompt {{ {login(other.port)} }}")
    ended = run("--server", f"{with_userinfo(server.url)}?token={TOKEN}", "--header", f"X-Api-Key: {KEY}")
    assert_unreachable(ended, "auth", f"redirects to http://localhost:{other.port}/login:", "login page")
    assert not other.log


def test_a_download_that_is_redirected_fails(nginx: Make, run: Callable[..., Ended], driver: Driver) -> None:
    other = nginx(location='return 200 "thanks";')
    server = nginx(server=f"location = /view {{ {login(other.port)} }}")
    ended = run("--server", with_userinfo(server.url), "--output", f"{driver.folder}/made/")
    assert (ended.code, ended.result["status"], ended.result["error"]["code"]) == (8, "partial", "download_failed")
    assert [event["code"] for event in ended.of("warning")] == ["download_failed"]
    assert not other.log
    assert not list((driver.folder / "made").iterdir())


def test_a_login_page_is_not_saved_as_a_picture(nginx: Make, run: Callable[..., Ended], driver: Driver) -> None:
    server = nginx(server='location = /view { default_type text/html; return 200 "<html>Sign in</html>"; }')
    ended = run("--server", server.url, "--output", driver.folder / "made.png")
    assert (ended.code, ended.result["error"]["code"]) == (8, "download_failed")
    assert "login page" in ended.err
    assert not (driver.folder / "made.png").exists()


# --- connections that don't last


class Quiet:
    """A run whose sampler says nothing after its first step, until `end`."""

    def __init__(self, driver: Driver, server: Nginx, simulator: Simulator, *arguments: str) -> None:
        self._graph = picture(seed=time.monotonic_ns() % 10**9, steps=4)
        self._hold = simulator.hold("5", 1)
        self._running = driver.begin(self._graph, "--server", server.url, *arguments)

    def wait(self) -> None:
        """Wait until it is quiet."""
        assert self._hold.reached.wait(30)

    def end(self) -> Ended:
        """Let it go on to its end, a success of which everything was told."""
        self._hold.release()
        ended = self._running.end()
        assert_success(ended)
        assert set(ended.result["executed"]) == set(self._graph)
        assert set(ended.nodes("node_finished")) == set(self._graph)
        return ended


def states(ended: Ended) -> list[str]:
    return [event["state"] for event in ended.of("connection_changed")]


def test_an_idle_timeout_with_and_without_pings(nginx: Make, driver: Driver, authority: Authority) -> None:
    with Simulator(speed=40) as one, Simulator(speed=40) as two:
        secure = nginx(one.url, certificate=authority.pair, location="proxy_read_timeout 5s;")
        plain = nginx(two.url, location="proxy_read_timeout 5s;")
        kept = Quiet(driver, secure, one, "--cacert", str(authority.cacert), "--ping-interval", "2")
        broken = Quiet(driver, plain, two, "--ping-interval", "0")
        kept.wait()
        broken.wait()
        time.sleep(7.5)
        with_pings, without = kept.end(), broken.end()
    assert states(with_pings) == ["connected"]
    assert len(secure.asked("GET /ws")) == 1
    assert [event["step"] for event in with_pings.of("node_progress")] == [1, 2, 3, 4]
    assert states(without)[:2] == ["connected", "lost"]
    assert "restored" in states(without)
    assert len(plain.asked("GET /ws")) == 2
    assert without.of("node_progress")[-1]["step"] == 4


def test_a_reload_in_mid_run(nginx: Make, driver: Driver) -> None:
    with Simulator(speed=40) as simulator:
        server = nginx(simulator.url)
        run = Quiet(driver, server, simulator)
        run.wait()
        server.reload()
        time.sleep(3)
        ended = run.end()
    assert "lost" in states(ended)
    assert "restored" in states(ended)
    assert ended.of("node_progress")[-1]["step"] == 4


def test_waiting_for_a_server_that_comes_up_late(nginx: Make, driver: Driver) -> None:
    port = free_port()
    direct, behind = f"http://127.0.0.1:{port}", nginx(f"http://127.0.0.1:{port}").url
    waiting = [
        driver.begin(picture(seed=seed, steps=2), "--server", url, "--wait-for-server", "30")
        for seed, url in enumerate((direct, behind))
    ]
    time.sleep(1.5)
    with Simulator(port=port, speed=40):
        for each in waiting:
            assert_success(each.end())


def test_waiting_has_an_end(driver: Driver) -> None:
    from_now = time.monotonic()
    url = f"http://127.0.0.1:{free_port()}"
    ended = driver.follow(picture(), "--server", url, "--wait-for-server", "1.5")
    assert_unreachable_plainly(ended)
    assert 1.5 <= time.monotonic() - from_now < 10


def assert_unreachable_plainly(ended: Ended) -> None:
    assert (ended.code, ended.result["error"]["code"], ended.result["submitted"]) == (3, "refused", "no")


def test_waiting_is_of_no_use_where_credentials_are_wanted(nginx: Make, run: Callable[..., Ended]) -> None:
    server = nginx(location="return 401;")
    assert_unreachable(run("--server", server.url, "--wait-for-server", "60"), "auth")


# --- proxies


def proxied(proxy: Proxy, **more: str) -> dict[str, str]:
    return {
        "HTTP_PROXY": proxy.url,
        "http_proxy": proxy.url,
        "HTTPS_PROXY": proxy.url,
        "https_proxy": proxy.url,
        **more,
    }


def test_a_proxy_for_http_and_the_socket_alike(simulator: Simulator, run: Callable[..., Ended], driver: Driver) -> None:
    port = int(simulator.url.rpartition(":")[2])
    with Proxy(port, f"proxy:{KEY}") as proxy:
        made = driver.folder / "made.png"
        ended = run("--server", "http://comfy.invalid:8188", "--output", made, env=proxied(proxy))
        assert_success(ended)
        assert made.read_bytes().startswith(b"\x89PNG")
        assert "CONNECT comfy.invalid:8188" in proxy.asked
        assert "POST http://comfy.invalid:8188/prompt" in proxy.asked
        assert [line for line in proxy.asked if line.startswith("GET http://comfy.invalid:8188/view?")]


def test_a_proxy_to_https(nginx: Make, run: Callable[..., Ended], authority: Authority, driver: Driver) -> None:
    server = nginx(certificate=authority.pair, location=BASIC_ONLY)
    with Proxy(server.port) as proxy:
        ended = run(
            "--server", with_userinfo("https://comfy.invalid"), "--cacert", authority.cacert,
            "--output", f"{driver.folder}/made/", env=proxied(proxy),
        )  # fmt: skip
        assert_success(ended)
        assert set(proxy.asked) == {"CONNECT comfy.invalid:443"}


def test_a_proxy_even_to_loopback_unless_no_proxy_names_it(simulator: Simulator, run: Callable[..., Ended]) -> None:
    with Proxy(int(simulator.url.rpartition(":")[2])) as proxy:
        assert_success(run("--server", simulator.url, env=proxied(proxy)))
        assert {line.split()[0] for line in proxy.asked} == {"CONNECT", "GET", "POST"}
        proxy.asked.clear()
        assert_success(run("--server", simulator.url, env=proxied(proxy, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")))
        assert not proxy.asked


def test_a_proxy_that_wants_other_credentials(simulator: Simulator, run: Callable[..., Ended]) -> None:
    with Proxy(int(simulator.url.rpartition(":")[2]), "proxy:right") as proxy:
        wrong = proxied(proxy)
        wrong = {name: url.replace("right", KEY) for name, url in wrong.items()}
        ended = run("--server", "http://comfy.invalid", env=wrong)
        assert_unreachable(ended, "auth", "the proxy 127.0.0.1:", "407", "HTTP_PROXY")


def test_a_proxy_that_is_not_there(run: Callable[..., Ended]) -> None:
    url = f"http://proxy:{KEY}@127.0.0.1:{free_port()}"
    ended = run("--server", "http://comfy.invalid", env={"http_proxy": url, "HTTP_PROXY": url})
    assert_unreachable(ended, "refused", "the proxy 127.0.0.1:", "HTTP_PROXY", retryable=True)


# --- a real one


@pytest.mark.real
def test_a_real_server_behind_everything_at_once(
    nginx: Make, authority: Authority, comfyui: ComfyUI, driver: Driver
) -> None:
    server = nginx(comfyui.url, prefix="/gpu/1", certificate=authority.pair, location=BASIC_ONLY)
    made = driver.folder / "made.png"
    address = f"{with_userinfo(server.url)}/api/"
    ended = driver.follow(
        chain(), "--server", address, "--cacert", authority.cacert, "--output", made, "--record", "recording"
    )
    assert ended.code == 0, ended.err
    assert made.read_bytes().startswith(b"\x89PNG")
    assert not [line for line in server.log if line.split()[1] == "401"]
    assert_no_secret(driver.folder)
