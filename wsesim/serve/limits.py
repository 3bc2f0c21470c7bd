"""Limits on what a client may ask of a server, and the buckets that count it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from wsesim.errors import InvalidInputError
from wsesim.serve.errors import REQUEST_QUOTA, TOKEN_QUOTA, WRONG_FORMAT, ApiError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server. Raises InvalidInputError unless queue is at least 0 and each other one is above 0.

    queue: most requests that wait for a slot of a wafer.
    body_bytes: most bytes of a request's body, after decompression.
    body_s: seconds within which a body must arrive.
    write_s: seconds within which a client must read 64 KiB of a reply, or all that is ready.
    requests_per_day, tokens_per_minute: what one key may use.
    """

    queue: int = 256
    body_bytes: int = 4_000_000
    body_s: float = 30.0
    write_s: float = 60.0
    requests_per_day: int = 10_000_000
    tokens_per_minute: int = 100_000_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (value >= 0 if field.name == "queue" else 0 < value < math.inf):
                raise InvalidInputError(f"{field.name} is {value}; it is a number above 0")


class Bucket:
    """A token bucket: it holds `size`, and refills evenly within `period_s`."""

    def __init__(self, size: int, period_s: float, clock: Callable[[], float]) -> None:
        self.size = size
        self._period_s = period_s
        self._clock = clock
        self._left = float(size)
        self._at_s = clock()

    @property
    def left(self) -> int:
        self._refill()
        return max(0, int(self._left))

    @property
    def full_in_s(self) -> float:
        self._refill()
        return (self.size - self._left) / self.size * self._period_s

    def consume(self, amount: int) -> bool:
        """Removes `amount` and returns True, or returns False if less is left."""
        self._refill()
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def give_back(self, amount: int) -> None:
        self._left = min(self.size, self._left + amount)

    def _refill(self) -> None:
        now_s = self._clock()
        self._left = min(self.size, self._left + (now_s - self._at_s) / self._period_s * self.size)
        self._at_s = now_s


class Quota:
    """The requests and tokens that one key has left."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = Bucket(limits.requests_per_day, 86_400, clock)
        self.tokens = Bucket(limits.tokens_per_minute, 60, clock)

    def consume(self, tokens: int) -> None:
        """Counts one request and its estimated `tokens`. Raises ApiError if either quota is used up or too small."""
        if tokens > self.tokens.size:
            raise ApiError(
                WRONG_FORMAT,
                f"this request may come to {tokens} tokens, more than the {self.tokens.size} of a whole minute; "
                "ask for fewer max_tokens or texts",
                param="max_tokens",
            )
        if not self.requests.consume(1):
            raise ApiError(REQUEST_QUOTA, "Requests per day limit exceeded - too many requests sent.")
        if not self.tokens.consume(tokens):
            self.requests.give_back(1)
            raise ApiError(TOKEN_QUOTA, "Tokens per minute limit exceeded - too many tokens processed.")

    def headers(self) -> dict[str, str]:
        """The headers, with the service's names. A reset is the number of seconds until the bucket is full."""
        return {
            "x-ratelimit-limit-requests-day": str(self.requests.size),
            "x-ratelimit-limit-tokens-minute": str(self.tokens.size),
            "x-ratelimit-remaining-requests-day": str(self.requests.left),
            "x-ratelimit-remaining-tokens-minute": str(self.tokens.left),
            "x-ratelimit-reset-requests-day": str(self.requests.full_in_s),
            "x-ratelimit-reset-tokens-minute": str(self.tokens.full_in_s),
        }
