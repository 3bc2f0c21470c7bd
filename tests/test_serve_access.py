"""Who may call a server: Hosts, and the pages of browsers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

import wsesim
from tests.serving import served, tiny_api
from wsesim.errors import InvalidInputError
from wsesim.serve.access import access_of
from wsesim.serve.errors import ApiError

BODY = {"model": "tiny", "prompt": "It was a dark", "max_tokens": 2, "seed": 0}
UI = "https://ui.example"


def refused(
    host: str | None = "localhost:8000",
    address: str = "127.0.0.1",
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    **headers: str,
) -> str | None:
    """The code of the refusal, None without one."""
    try:
        access_of(address, hosts, origins).check({k.replace("_", "-"): v for k, v in headers.items()}, host)
    except ApiError as error:
        assert error.status == 403 and "\n" not in error.message and "--allow-" in error.message
        return error.code
    return None


# Hosts


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.:80", "ui.localhost:3000", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000", "[::1]", None],
)
def test_loopback_knows_its_own_hosts_with_any_port(host: str | None) -> None:
    assert refused(host) is None
    assert refused(host, address="::1") is None


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example", "192.168.1.5:8000",
     "[::2]", "", ":8000", "localhost@evil.example", "localhost/", "a b", "localhost:80:80", "[localhost]"],
)  # fmt: skip
def test_loopback_refuses_foreign_hosts(host: str) -> None:
    assert refused(host) == "host_not_allowed"
    assert refused(host, hosts=["wafer.example.com"], origins=["*"]) == "host_not_allowed"


def test_hosts_are_added_by_name() -> None:
    for host in ("Wafer.Example.com", "wafer.example.com:8443", "wafer.example.com.", "[fe80::1]:8000"):
        assert refused(host, hosts=["wafer.example.com", "fe80::1"]) is None
    assert refused("a.wafer.example.com", hosts=["wafer.example.com"]) == "host_not_allowed"
    assert refused("evil.example.com", hosts=["*"]) is None


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5"])
def test_another_address_answers_any_host_until_some_are_named(address: str) -> None:
    assert refused("wafer.example.com", address) is None
    assert refused("wafer.example.com", address, hosts=["wafer.example.com"]) is None
    for host in ("localhost", f"[{address}]" if ":" in address else address):
        assert refused(host, address, hosts=["wafer.example.com"]) is None
    assert refused("evil.example.com", address, hosts=["wafer.example.com"]) == "host_not_allowed"


@pytest.mark.parametrize("host", ["http://x", "x:80", "a/b", "", "*.example.com", "a b"])
def test_a_host_that_is_no_host_cannot_be_allowed(host: str) -> None:
    with pytest.raises(InvalidInputError, match=r"--allow-host .* without a port is needed"):
        access_of("127.0.0.1", hosts=[host])


# Pages


@pytest.mark.parametrize("site", ["", "none", "same-origin"])
def test_clients_that_are_no_foreign_pages_may_call(site: str) -> None:
    headers = {"sec_fetch_site": site} if site else {}
    assert refused(**headers) is None
    assert refused(origin="http://localhost:8000", **headers) is None


@pytest.mark.parametrize("origin", [UI, "null", "http://localhost:3000", "https://localhost:8000", "", "x" * 1000])
def test_pages_of_other_origins_may_not(origin: str) -> None:
    for site in ({}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}):
        assert refused(origin=origin, **site) == "origin_not_allowed"
        assert refused(origin=origin, origins=["https://other.example"], **site) == "origin_not_allowed"
        assert refused(origin=origin, origins=["*"], **site) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_of_other_sites_without_an_origin_are_refused(site: str) -> None:
    assert refused(sec_fetch_site=site) == "origin_not_allowed"
    assert refused(sec_fetch_site=site, origins=[UI]) == "origin_not_allowed"
    assert refused(sec_fetch_site=site, origins=["*"]) is None


def test_an_origin_that_is_allowed_may_call_from_any_site() -> None:
    for origin in (UI, "null", "http://localhost:3000"):
        assert refused(origin=origin, sec_fetch_site="cross-site", origins=[origin]) is None


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5"])
def test_a_rebound_name_is_no_origin_of_our_own_where_any_host_is_answered(address: str) -> None:
    assert refused("evil.example:8000", address, origin="http://evil.example:8000") == "origin_not_allowed"
    assert refused("w.example", address, hosts=["w.example"], origin="http://w.example") is None


@pytest.mark.parametrize("origin", ["ui.example", "https://ui.example/", "https://a/b", "", "https://"])
def test_an_origin_that_is_none_cannot_be_allowed(origin: str) -> None:
    with pytest.raises(InvalidInputError, match=r"--allow-origin .* is needed"):
        access_of("127.0.0.1", origins=[origin])


# Over HTTP


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(tiny_api(), origins=[UI]) as found:
        yield found


def post(url: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    return httpx.post(url + "/v1/completions", json=body, headers=headers, timeout=60)


def assert_refused(response: httpx.Response, code: str, said: str) -> None:
    body = response.json()
    assert (response.status_code, body["code"], body["error"]["message"]) == (403, code, body["message"])
    assert body["message"] == said and response.headers["x-request-id"]
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/tcp_warming", "/health", "/metrics", "/openapi.json", "/nope"])
def test_no_route_answers_a_foreign_host(url: str, path: str) -> None:
    said = "Host 'evil.example.com:80' is not this server's; --allow-host evil.example.com allows it"
    assert_refused(httpx.get(url + path, headers={"host": "evil.example.com:80"}), "host_not_allowed", said)


def test_a_foreign_page_cannot_post(url: str) -> None:
    """A browser sends such a request without a preflight: it has no content type."""
    said = "pages of 'https://evil.example' may not call this server; --allow-origin https://evil.example allows it"
    for more in ({}, {"sec-fetch-site": "cross-site"}):
        headers = {"origin": "https://evil.example", **more}
        response = httpx.post(url + "/v1/completions", content=b"{}", headers=headers)
        assert_refused(response, "origin_not_allowed", said)
    response = httpx.post(url + "/v1/completions", content=b"{}", headers={"sec-fetch-site": "cross-site"})
    said = "a page of another site may not do this (Sec-Fetch-Site: cross-site); --allow-origin '*' allows it"
    assert_refused(response, "origin_not_allowed", said)


def test_a_foreign_page_s_preflight_is_refused(url: str) -> None:
    response = httpx.options(url + "/v1/completions", headers=preflight("https://evil.example"))
    assert response.status_code == 403 and "access-control-allow-origin" not in response.headers


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-lang",
        "access-control-request-private-network": "true",
        "sec-fetch-site": "cross-site",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_an_allowed_page_may_ask_and_read_the_answer(url: str, stream: bool) -> None:
    asked = httpx.options(url + "/v1/completions", headers=preflight(UI))
    assert asked.status_code == 200 and asked.headers["access-control-allow-origin"] == UI
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in asked.headers["access-control-allow-headers"]
    assert asked.headers["access-control-allow-private-network"] == "true"
    headers = {"origin": UI, "sec-fetch-site": "cross-site"}
    response = post(url, BODY | {"stream": stream}, headers)
    assert response.status_code == 200 and response.headers["access-control-allow-origin"] == UI
    assert response.headers["access-control-expose-headers"] == "*" and response.headers["x-wsesim-seed"]
    wrong = post(url, {}, headers)
    assert wrong.status_code == 400 and wrong.headers["access-control-allow-origin"] == UI


def test_without_allowed_pages_no_answer_is_for_one() -> None:
    with served(tiny_api()) as url:
        own = {"origin": url, "sec-fetch-site": "same-origin"}
        response = post(url, BODY, own)
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_every_page_may_be_allowed() -> None:
    with served(tiny_api(), origins=["*"]) as url:
        for origin in (UI, "null"):
            response = post(url, BODY, {"origin": origin})
            assert response.headers["access-control-allow-origin"] == "*"


def test_the_host_of_an_absolute_target_counts(url: str) -> None:
    def status(target: str, host: str) -> bytes:
        with socket.create_connection((url.split(":")[1][2:], int(url.split(":")[2])), timeout=60) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))[9:12]

    assert status("http://localhost/health", "evil.example.com") == b"200"
    assert status("http://evil.example.com/health", "localhost") == b"403"


@pytest.mark.parametrize("headers", [{"host": "evil.example.com"}, {"origin": UI, "sec-fetch-site": "cross-site"}])
def test_clients_in_process_are_not_asked(headers: dict[str, Any]) -> None:
    with wsesim.connect(api=tiny_api()) as client:
        assert client.completions.create(**BODY, extra_headers=headers).choices[0].text
