"""Serve the scripted engine over HTTP as `cynosure serve` does a model. Knows nothing of who asks.

    python -m benchmarks.stream_server FOLDER STEP_S DELAY_S

FOLDER holds a tokenizer. A line says the port, and the engine's process, once it is ready.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from benchmarks.scripted_engine import CARD, NAME
from cynosure.cli.engine_completer import EngineCompleter
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.messages import CALLS, REPLIES, Call, Reply, Setup
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.template import ChatTemplate, read_templates
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.listening import listen, take_port
from cynosure.server.remote.engine import RemoteEngine
from cynosure.server.remote.link import EngineLink
from cynosure.server.remote.supervisor import Supervisor
from cynosure.server.runtime import Report, Runtime
from cynosure.server.services import Services
from cynosure.server.settings import ServerSettings


@dataclass(frozen=True)
class OneLink:
    """What a remote engine needs of a supervisor."""

    link: EngineLink


def started(step_s: float, delay_s: float) -> tuple[subprocess.Popen[bytes], EngineLink]:
    """A process of the scripted engine, and the connection to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "benchmarks.scripted_engine", str(theirs.fileno()), str(step_s)]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    channel: Channel[Call, Reply] = Channel(ours, CALLS, REPLIES)
    link = EngineLink(channel)
    threading.Thread(target=link.read, name="engine link", daemon=True).start()
    link.send(Setup((), PoolSettings(), stream_delay_s=delay_s))
    link.cards.result(60)
    return process, link


def services_of(folder: Path, link: EngineLink) -> Services:
    """The scripted model, with a tokenizer."""
    tokenizer = Tokenizer.from_folder(folder)
    template = ChatTemplate(read_templates(folder), tokenizer.named_tokens, tokenizer.control_tokens)
    engine = RemoteEngine(CARD, cast(Supervisor, OneLink(link)))
    completer = EngineCompleter(NAME, CARD, tokenizer, ChatFormat.of(template, tokenizer, None), engine)
    return Services({}, {}, {NAME: completer}, int(time.time()))


def main() -> None:
    folder, step_s, delay_s = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    process, link = started(step_s, delay_s)

    def load(report: Report) -> Services:
        return services_of(folder, link)

    settings = ServerSettings(port=0)
    listener = take_port(settings)

    def ready() -> None:
        print(listener.getsockname()[1], process.pid, flush=True)

    try:
        listen(listener, Runtime(load), settings, ready)
    finally:
        process.kill()


if __name__ == "__main__":
    main()
