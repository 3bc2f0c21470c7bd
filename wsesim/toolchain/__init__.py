"""The composition root: model, compiler, engine, execute and runtime joined. Imports upward, and lazily.

    compile(model, ...)            -> Program
    simulate(model | Program, ...) -> Report
    complete(prompt, model, ...)   -> Answer           open_session(...) for several prompts, or token by token

Nothing heavy is imported before it is used.
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
