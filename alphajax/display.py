"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any


class Display:
    """Shows rows of (label, value).

    On a terminal (and with `rich` installed) a panel is redrawn in place; elsewhere one line is
    printed at most every `every` seconds.
    """

    def __init__(self, title: str, every: float = 10.0, live: bool | None = None):
        self.title, self.every = title, every
        self._shown = 0.0
        self._live: Any = None
        if sys.stdout.isatty() if live is None else live:
            try:
                from rich.live import Live
            except ImportError:
                return
            self._live = Live(auto_refresh=False)
            self._live.start()

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._live:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def update(self, rows: dict[str, str], force: bool = False) -> None:
        """The state of the run now."""
        if self._live:
            from rich.panel import Panel
            from rich.table import Table

            table = Table.grid(padding=(0, 2))
            for label, value in rows.items():
                table.add_row(f"[dim]{label}", value)
            self._live.update(Panel(table, title=self.title, expand=False), refresh=True)
        elif force or time.time() - self._shown >= self.every:
            print("  ".join(f"{label} {value}" for label, value in rows.items()), flush=True)
            self._shown = time.time()

    def close(self) -> None:
        """Leaves the last panel on the screen."""
        if self._live:
            self._live.stop()
            self._live = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def duration(seconds: float) -> str:
    """ "1:02:03" or "2:03"."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
