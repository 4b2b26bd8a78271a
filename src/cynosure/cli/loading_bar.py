"""Draw on the terminal how far loading is. Knows nothing of what is loaded."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)


class LoadingBar:
    """A line that moves on a terminal, and one line a stage where there is none."""

    def __init__(self, console: Console) -> None:
        """Count time from here."""
        self._console = console
        self._begun = perf_counter()
        self._stage = ""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("Starting", total=None)

    def __enter__(self) -> LoadingBar:
        """Begin to draw."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """Say the stage and how much of it is done; 0 where that is unknown."""
        if stage != self._stage and not self._console.is_terminal:
            self._console.print(stage)
        self._stage = stage
        self._bar.update(self._task, description=stage, completed=done, total=total or None)

    def finish(self, url: str | None = None) -> None:
        """Say that it is done and how long it took."""
        self._bar.stop()
        where = f": open [bold]{url}[/]" if url else ""
        self._console.print(f"Ready after {perf_counter() - self._begun:.1f} s{where}")
