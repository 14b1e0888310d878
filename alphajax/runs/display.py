"""The display of a run: a live panel on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any


class Display:
    """Shows rows of (label, value).

    On a terminal, and with `rich` installed, a panel is redrawn in place.  Elsewhere lines are
    printed.

    Args:
      title: of the panel.
      every: least seconds between two lines.
      live: whether to draw a panel (default: on a terminal).
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
        """Prints one line that stays."""
        if self._live:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def update(self, rows: dict[str, str], force: bool = False) -> None:
        """Shows the present state of the run.

        Args:
          rows: values by label.
          force: print a line even if the last one is recent.
        """
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

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """A time in words, as "1:02:03" or "2:03"."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
