"""Metrics of a server in Prometheus' text form: answers, tokens, modelled times and the virtual clock."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from wsesim.serve.api import Api
from wsesim.serve.reply import Reply

_SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counters of one server. Each has its own registry, so a process may run several servers."""

    def __init__(self, api: Api) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._answers = Counter("wsesim_answers", "Answers by route and status", ["route", "status"], registry=r)
        self._tokens = Counter("wsesim_tokens", "Tokens of completed calls", ["model", "kind"], registry=r)
        self._times = Histogram(
            "wsesim_modelled_seconds", "Modelled times of calls", ["model", "part"], buckets=_SECONDS, registry=r
        )
        in_flight = Gauge("wsesim_in_flight", "Requests in a slot of the wafer", ["model"], registry=r)
        waiting = Gauge("wsesim_waiting", "Requests that wait for a slot", ["model"], registry=r)
        slots = Gauge("wsesim_slots", "Slots of the wafer", ["model"], registry=r)
        clock = Gauge("wsesim_virtual_seconds", "The wafer's virtual clock", ["model"], registry=r)
        for name, deployment in api.deployments.items():
            loop = deployment.loop
            in_flight.labels(name).set_function(partial(getattr, loop, "in_flight"))
            waiting.labels(name).set_function(partial(getattr, loop, "waiting"))
            slots.labels(name).set(loop.slots)
            clock.labels(name).set_function(partial(getattr, loop, "now_s"))

    def answered(self, route: str, status: int) -> None:
        self._answers.labels(route, str(status)).inc()

    def completed(self, last: Reply) -> None:
        """Counts a call, by its last chunk."""
        if last.usage is None or last.time_info is None:
            return
        self._tokens.labels(last.model, "prompt").inc(last.usage.prompt_tokens)
        self._tokens.labels(last.model, "completion").inc(last.usage.completion_tokens)
        for part in ("queue", "prompt", "completion", "total"):
            self._times.labels(last.model, part).observe(getattr(last.time_info, f"{part}_time"))

    def text(self) -> bytes:
        return generate_latest(self.registry)
