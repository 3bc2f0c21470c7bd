"""StopFilter: passes text on up to the first stop sequence."""

from __future__ import annotations


class StopFilter:
    """Passes text on. It holds back text that may be the beginning of a stop sequence.

    `stopped` is True after a stop sequence. No part of a stop sequence is ever released.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Adds `text`. Returns the text that can be released now."""
        if self.stopped:
            return ""
        self._held += text
        cut = min((at for s in self._stop if (at := self._held.find(s)) >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            return self._release(cut, keep="")
        held = max((self._overlap(s) for s in self._stop), default=0)
        return self._release(len(self._held) - held)

    def flush(self) -> str:
        """Returns the text that is still held back, at the end."""
        return "" if self.stopped else self._release(len(self._held))

    def _overlap(self, stop: str) -> int:
        """Number of held characters at the end that may begin `stop`."""
        return next((n for n in range(len(stop) - 1, 0, -1) if self._held.endswith(stop[:n])), 0)

    def _release(self, count: int, keep: str | None = None) -> str:
        released = self._held[:count]
        self._held = self._held[count:] if keep is None else keep
        return released
