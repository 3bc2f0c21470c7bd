"""The composition root: it joins models, compiler, engine, execute and runtime, and may import all of them.

    compile(model, ...)            -> Program
    simulate(model | Program, ...) -> Report
    complete(prompt, model, ...)   -> Answer           open_session(...) for several prompts, or token by token

It imports torch, numba and other large packages only where they are used.
"""

from wsesim.toolchain.compiling import compile as compile
from wsesim.toolchain.session import Answer as Answer
from wsesim.toolchain.session import Session as Session
from wsesim.toolchain.session import complete as complete
from wsesim.toolchain.session import open_session as open_session
from wsesim.toolchain.simulating import simulate as simulate
from wsesim.toolchain.step_timing import make_timing as make_timing
from wsesim.toolchain.text_source import make_executor as make_executor
from wsesim.toolchain.warm_up import warm_up as warm_up
