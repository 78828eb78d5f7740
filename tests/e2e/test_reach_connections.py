"""Connections through a real nginx that don't last, servers that come late, and proxies on the way."""

from __future__ import annotations

import time

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import ComfyUI, free_port
from tests.e2e.driver import Driver, Ended
from tests.e2e.nginx import NGINX, Authority, Nginx, Proxy
from tests.e2e.raw_client import chain
from tests.e2e.reaching import (
    BASIC_ONLY,
    KEY,
    Make,
    Run,
    assert_no_secret,
    assert_success,
    assert_unreachable,
    with_userinfo,
)
from tests.simulator.prompts import picture

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="NGINX NOT TESTED: it isn't installed (apt-get install nginx-light)"),
]


# --- connections that don't last


class Quiet:
    """A run whose sampler says nothing after its first step, until `end`."""

    def __init__(self, driver: Driver, server: Nginx, simulator: Simulator, *arguments: str) -> None:
        self._graph = picture(seed=time.monotonic_ns() % 10**9, steps=4)
        self._hold = simulator.pause_at("5", 1)
        self._running = driver.begin(self._graph, "--server", server.url, *arguments)

    def wait(self) -> None:
        """Wait until it is quiet."""
        assert self._hold.reached.wait(30)

    def wait_for_restored(self) -> None:
        """Wait until it is connected anew."""
        self._running.wait_for(lambda event: event.get("state") == "restored", "the connection")

    def go_on(self) -> None:
        """Let it say more."""
        self._hold.release()

    def end(self) -> Ended:
        """Let it go on to its end, a success of which everything was told."""
        self.go_on()
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
        # Of none of them is the connection to be idle for so long again.
        kept.go_on()
        broken.go_on()
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
        run.wait_for_restored()
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


def test_waiting_is_of_no_use_where_credentials_are_wanted(nginx: Make, watched: Run) -> None:
    server = nginx(location="return 401;")
    assert_unreachable(watched("--server", server.url, "--wait-for-server", "60"), "auth")


# --- proxies


def proxied(proxy: Proxy, **more: str) -> dict[str, str]:
    return {
        "HTTP_PROXY": proxy.url,
        "http_proxy": proxy.url,
        "HTTPS_PROXY": proxy.url,
        "https_proxy": proxy.url,
        **more,
    }


def test_a_proxy_for_http_and_the_socket_alike(reached: Simulator, watched: Run, driver: Driver) -> None:
    port = int(reached.url.rpartition(":")[2])
    with Proxy(port, f"proxy:{KEY}") as proxy:
        made = driver.folder / "made.png"
        ended = watched("--server", "http://comfy.invalid:8188", "--output", made, env=proxied(proxy))
        assert_success(ended)
        assert made.read_bytes().startswith(b"\x89PNG")
        assert "CONNECT comfy.invalid:8188" in proxy.asked
        assert "POST http://comfy.invalid:8188/prompt" in proxy.asked
        assert [line for line in proxy.asked if line.startswith("GET http://comfy.invalid:8188/view?")]


def test_a_proxy_to_https(nginx: Make, watched: Run, authority: Authority, driver: Driver) -> None:
    server = nginx(certificate=authority.pair, location=BASIC_ONLY)
    with Proxy(server.port) as proxy:
        ended = watched(
            "--server", with_userinfo("https://comfy.invalid"), "--cacert", authority.cacert,
            "--output", f"{driver.folder}/made/", env=proxied(proxy),
        )  # fmt: skip
        assert_success(ended)
        assert set(proxy.asked) == {"CONNECT comfy.invalid:443"}


def test_a_proxy_never_to_this_machine_nor_where_no_proxy_says_so(reached: Simulator, watched: Run) -> None:
    with Proxy(int(reached.url.rpartition(":")[2])) as proxy:
        assert_success(watched("--server", reached.url, env=proxied(proxy)))
        assert_success(watched("--server", "sim", env=proxied(proxy)))
        no_proxy = proxied(proxy, NO_PROXY="192.0.2.0/24", no_proxy="192.0.2.0/24")
        ended = watched("--server", "http://192.0.2.1:9", env=no_proxy | {"COMFYREPORT_TIME_SCALE": "0.1"})
        assert ended.result["status"] == "unreachable"
        assert not proxy.asked


def test_a_proxy_that_wants_other_credentials(reached: Simulator, watched: Run) -> None:
    with Proxy(int(reached.url.rpartition(":")[2]), "proxy:right") as proxy:
        wrong = proxied(proxy)
        wrong = {name: url.replace("right", KEY) for name, url in wrong.items()}
        ended = watched("--server", "http://comfy.invalid", env=wrong)
        assert_unreachable(ended, "auth", "the proxy 127.0.0.1:", "407", "HTTP_PROXY")


def test_a_proxy_that_is_not_there(watched: Run) -> None:
    url = f"http://proxy:{KEY}@127.0.0.1:{free_port()}"
    ended = watched("--server", "http://comfy.invalid", env={"http_proxy": url, "HTTP_PROXY": url})
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
