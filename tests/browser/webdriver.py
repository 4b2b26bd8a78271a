"""Drive Chromium over the W3C WebDriver protocol. Knows nothing of the page.

A client of a dozen calls, so that testing the page needs nothing but Chromium and its driver.
"""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

T = TypeVar("T")

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
]  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's own key
ENTER, TAB, ESCAPE, SHIFT, CONTROL = "\ue007", "\ue004", "\ue00c", "\ue008", "\ue009"
LEFT, RIGHT, END = "\ue012", "\ue014", "\ue010"


class Browser:
    """One window."""

    def __init__(self, client: httpx.Client, number: str) -> None:
        self._client = client
        self._session = f"/session/{number}"

    def open(self, url: str) -> None:
        self._post("/url", url=url)

    def back(self) -> None:
        self._post("/back")

    def forward(self) -> None:
        self._post("/forward")

    def run(self, script: str, *values: object) -> object:
        """Run the body of a function in the page; `values` are its `arguments`."""
        return self._post("/execute/sync", script=script, args=list(values))

    def type(self, selector: str, text: str) -> None:
        found = self._post("/element", using="css selector", value=selector)
        assert isinstance(found, dict)
        self._post(f"/element/{found[ELEMENT]}/value", text=text)

    def click(self, selector: str) -> None:
        found = self._post("/element", using="css selector", value=selector)
        assert isinstance(found, dict)
        self._post(f"/element/{found[ELEMENT]}/click")

    def press(self, *keys: str) -> None:
        """Press keys together, wherever the focus is."""
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._post("/actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def texts(self, selector: str) -> list[str]:
        """The text of every element that is shown."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        found = self.run(script, selector)
        assert isinstance(found, list)
        return found

    def is_shown(self, selector: str) -> bool:
        return bool(
            self.run("return document.querySelector(arguments[0])?.checkVisibility() ?? false", selector)
        )

    def log(self) -> list[str]:
        """What the page said to the console since the last call: errors, refused loads, broken policies."""
        entries = self._post("/se/log", type="browser")
        assert isinstance(entries, list)
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def resize(self, width: int, height: int, scale: float = 2) -> None:
        self._post("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params={
            "width": width, "height": height, "deviceScaleFactor": scale, "mobile": False,
        })  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Have the reader's setting be `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._post("/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": [feature]})

    def screenshot(self, path: Path) -> None:
        response = self._client.get(f"{self._session}/screenshot")
        path.write_bytes(base64.b64decode(response.json()["value"]))

    def wait(self, what: Callable[[], T], seconds: float = 15.0) -> T:
        """Ask again until the answer is true."""
        deadline = time.monotonic() + seconds
        while not (answer := what()):
            assert time.monotonic() < deadline, "the page did not get there"
            time.sleep(0.05)
        return answer

    def _post(self, path: str, **body: object) -> object:
        response = self._client.post(self._session + path, json=body)
        value = response.json()["value"]
        assert response.status_code == 200, value
        return value


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start the driver and one window, with a profile that nobody else uses."""
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium")
    assert driver is not None, "chromedriver is missing; `make test-browser` installs it"
    assert program is not None, "chromium is missing; `make test-browser` installs it"
    port = _free_port()
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            _wait_for(client)
            options = {"binary": program, "args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            assert "sessionId" in answer, answer
            try:
                yield Browser(client, answer["sessionId"])
            finally:
                client.delete(f"/session/{answer['sessionId']}")
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if client.get("/status").json()["value"]["ready"]:
                return
        except (httpx.TransportError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError("chromedriver did not start")
