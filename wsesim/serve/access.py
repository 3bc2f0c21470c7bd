"""Access: which Hosts a server answers, and which web pages may call it.

A browser runs the scripts of any page, and these scripts can reach servers on loopback. There are two ways. A script
can point a name of its own at the server's address (DNS rebinding); the header Host then has that name. Or it calls the
server from a foreign page; the headers Origin and Sec-Fetch-Site then tell so. Scripts cannot change these headers.
Clients other than browsers send no Origin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsesim.errors import InvalidInputError
from wsesim.serve.errors import FOREIGN_HOST, FOREIGN_ORIGIN, ApiError

ANY = "*"
_NAME = r"\[[0-9a-f:.]+\]|[a-z0-9._-]+?"
_HOST = re.compile(rf"({_NAME})\.?(?::[0-9]*)?", re.IGNORECASE)
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://(?:{_NAME})(?::[0-9]+)?|null", re.IGNORECASE)
_OTHER_SITES = ("cross-site", "same-site")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a server.

    hosts: names and addresses, without a port, that are answered beside loopback's own; `*` means any.
    origins: origins of web pages that may call, as browsers write them (`https://ui.example`); `*` means any.

    Loopback's own Hosts are localhost, names that end in .localhost, and loopback addresses. Ports are not compared,
    because a tunnel changes them.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def check(self, headers: Mapping[str, str], host: str | None) -> None:
        """Raises ApiError for a foreign Host or page. `host` is the header as sent; HTTP/1.0 may leave it out."""
        known = host is None or self._knows(host)
        if not known and ANY not in self.hosts:
            option = f"--allow-host {host_name(host or '') or 'HOST'}"
            raise ApiError(FOREIGN_HOST, f"Host {_shown(host)} is not this server's; {option} allows it")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "")
        if ANY in self.origins or origin in self.origins:
            return
        if site not in _OTHER_SITES and (origin is None or (known and _own(origin, host))):
            return
        if origin is None:
            said = f"a page of another site may not do this (Sec-Fetch-Site: {site}); --allow-origin '*' allows it"
            raise ApiError(FOREIGN_ORIGIN, said)
        option = f"--allow-origin {origin if _ORIGIN.fullmatch(origin) and len(origin) < 80 else 'ORIGIN'}"
        raise ApiError(FOREIGN_ORIGIN, f"pages of {_shown(origin)} may not call this server; {option} allows it")

    def _knows(self, host: str) -> bool:
        name = host_name(host)
        return name is not None and (name in self.hosts or is_loopback(name))


def access_of(address: str, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> Access:
    """The Access of a server that is bound to `address`. Its user allows `hosts` and `origins`.

    On a loopback address, the server answers loopback's own Hosts and `hosts`. On another address, clients use names
    that the server cannot know, so it answers any Host. If `hosts` are given there, it answers only these, `address`
    and loopback's own.

    Raises InvalidInputError for a host with a port, and for an origin without a scheme or with a path.
    """
    names = {_allowed_host(host) for host in hosts}
    if not names and not is_loopback(address):
        names = {ANY}
    return Access(frozenset(names | {_bracketed(address)}), frozenset(map(_allowed_origin, origins)))


def host_name(host: str) -> str | None:
    """The name or address in a Host header, in lower case and without its port; None for any other text."""
    match = _HOST.fullmatch(host)
    return match[1].lower() if match else None


def is_loopback(name: str) -> bool:
    """Whether a name or an address, in brackets or not, is this computer's own."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _allowed_host(given: str) -> str:
    name = _bracketed(given.lower())
    if name != ANY and host_name(name) != name:
        raise InvalidInputError(f"--allow-host {given!r}: a name or an address without a port is needed, or *")
    return name


def _allowed_origin(given: str) -> str:
    if given != ANY and not _ORIGIN.fullmatch(given):
        raise InvalidInputError(f"--allow-origin {given!r}: scheme://host or scheme://host:port is needed, null, or *")
    return given.lower()


def _bracketed(name: str) -> str:
    """An IPv6 address as a Host header writes it; every other name as it is."""
    try:
        return f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        return name


def _own(origin: str, host: str | None) -> bool:
    """Whether a page of this server itself calls."""
    return host is not None and origin == f"http://{host.lower()}"


def _shown(value: str | None) -> str:
    return repr((value or "")[:80])
