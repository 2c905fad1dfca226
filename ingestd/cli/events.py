"""What happens to a publication, in the words of the terminal: one line for each change."""

from __future__ import annotations

from attrs import define
from rich.console import Console

from ingestd.cli.wording import counted, size
from ingestd.client.messages import Drain, Hello, Pressure, SourceWarning
from ingestd.client.publisher import Dropped, Event, Lost


@define(eq=False)
class Narrator:
    """Prints what is out of the ordinary to *console*, once however often it is told."""

    console: Console
    _session: str | None = None
    _lost: bool = False
    _pressed: bool = False

    def hear(self, event: Event) -> None:
        """Print a line for *event*, if it is worth one."""
        line = self._line(event)
        if line:
            self.console.print(line, soft_wrap=True, markup=False)

    def _line(self, event: Event) -> str | None:
        match event:
            case Hello(session=session):
                before, self._session, self._lost = self._session, session, False
                if before is None:
                    return f"session {session} of stream {event.stream}"
                resumed = before == session
                return f"connected again: {'going on' if resumed else 'another session'}, {session}"
            case Lost(code, reason):
                said, self._lost = self._lost, True
                return None if said else f"lost the connection ({code}: {reason}); trying again"
            case Dropped(chunks, count):
                return f"dropped {counted(chunks, 'chunk')} ({size(count)}): the buffer was full"
            case Pressure(active=active) if active is not self._pressed:
                self._pressed = active
                return "the daemon is behind" if active else "the daemon has caught up"
            case SourceWarning(_, text):
                return f"the daemon warns: {text}"
            case Drain(reason):
                return f"the daemon is about to stop{f': {reason}' if reason else ''}"
        return None
