"""State what the server listens to and how much it takes. Opens nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """Addresses and limits; every limit is named in the error that it causes.

    - `allowed_hosts`: names, besides `localhost` and plain addresses, that a request may call us by.
    - `max_body_bytes`: of one request.
    - `body_timeout_s`: how long a body may take to arrive.
    - `max_upload_bytes`, `upload_timeout_s`: the same of one that uploads a file, which leaves room for what
      is around the file; `max_uploads`: how many may be under way, since each is held in memory.
    - `max_in_flight`: requests for work at one time, waiting ones included.
    - `stop_timeout_s`: how long answers under way may take to end when the server is stopped.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()
    max_body_bytes: int = 1 << 20
    body_timeout_s: float = 30.0
    max_upload_bytes: int = (16 << 20) + (64 << 10)
    upload_timeout_s: float = 300.0
    max_uploads: int = 4
    max_in_flight: int = 256
    stop_timeout_s: float = 3.0

    def admits(self, host_header: str) -> bool:
        """Whether a `Host` header may name us.

        A page elsewhere that rebinds its own name to our address still sends that name. An address can't be
        rebound, so plain addresses are let in.
        """
        name = host_name(host_header)
        return name == "localhost" or name in self.allowed_hosts or is_address(name)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches us."""
        return self.host == "localhost" or (
            is_address(self.host) and ipaddress.ip_address(self.host).is_loopback
        )

    @property
    def url(self) -> str:
        """What to type into a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def host_name(host_header: str) -> str:
    """The name in a `Host` header, without its port, in lower case."""
    name = host_header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def is_address(name: str) -> bool:
    """Whether a name is a plain IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
