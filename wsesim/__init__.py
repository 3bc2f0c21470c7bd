"""wsesim: a wafer-scale dataflow simulator and compiler toolkit. Real model graphs, real text, modelled cycles.

    import wsesim
    program = wsesim.compile("llama3.1-8b", machine="wse3", strategy="pipelined")
    report = wsesim.simulate(program, phase="decode", context=512)
    answer = wsesim.complete("It was a dark and stormy night", model="smollm2-135m", max_tokens=40)
    client = wsesim.connect()  # the unmodified cerebras client, its server simulated in process

Everything is imported at its first use: `import wsesim` itself loads neither torch nor numba.
"""

from __future__ import annotations

from wsesim.version import __version__ as __version__

TYPE_CHECKING = False  # typing's own takes half of the time in which Ctrl-C is not caught yet
if TYPE_CHECKING:
    from typing import Any

    from wsesim.machine import Machine as Machine
    from wsesim.machine import load_machine as load_machine
    from wsesim.program import Program as Program
    from wsesim.report.report import Report as Report
    from wsesim.toolchain import Answer as Answer
    from wsesim.toolchain import Session as Session
    from wsesim.toolchain import compile as compile
    from wsesim.toolchain import complete as complete
    from wsesim.toolchain import open_session as open_session
    from wsesim.toolchain import simulate as simulate
    from wsesim.toolchain.comparing import compare as compare
    from wsesim.toolchain.reporting import write_report as write_report
    from wsesim.toolchain.searching import search as search
    from wsesim.toolchain.serving import AsyncClient as AsyncClient
    from wsesim.toolchain.serving import Client as Client
    from wsesim.toolchain.serving import connect as connect

_HOMES = {
    "compile": "wsesim.toolchain",
    "complete": "wsesim.toolchain",
    "simulate": "wsesim.toolchain",
    "search": "wsesim.toolchain.searching",
    "write_report": "wsesim.toolchain.reporting",
    "compare": "wsesim.toolchain.comparing",
    "open_session": "wsesim.toolchain",
    "Answer": "wsesim.toolchain",
    "Session": "wsesim.toolchain",
    "Machine": "wsesim.machine",
    "load_machine": "wsesim.machine",
    "Program": "wsesim.program",
    "Report": "wsesim.report.report",
    "Client": "wsesim.toolchain.serving",
    "AsyncClient": "wsesim.toolchain.serving",
    "connect": "wsesim.toolchain.serving",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wsesim' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
