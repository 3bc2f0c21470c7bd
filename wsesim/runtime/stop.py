"""StopFilter: text up to the first stop sequence, holding back what may still become one."""

from __future__ import annotations


class StopFilter:
    """Feeds text through; `stopped` once a stop sequence was seen. Nothing of it is ever released."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What can be released now."""
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
        """What was held back in vain."""
        return "" if self.stopped else self._release(len(self._held))

    def _overlap(self, stop: str) -> int:
        """Characters at the end that begin `stop`."""
        return next((n for n in range(len(stop) - 1, 0, -1) if self._held.endswith(stop[:n])), 0)

    def _release(self, count: int, keep: str | None = None) -> str:
        released = self._held[:count]
        self._held = self._held[count:] if keep is None else keep
        return released
