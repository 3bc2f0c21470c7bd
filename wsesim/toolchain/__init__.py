"""The composition root: model, compiler, engine, execute and runtime joined. Imports upward, and lazily.

    compile(model, ...)            -> Program
    simulate(model | Program, ...) -> Report
    complete(prompt, model, ...)   -> Answer           open_session(...) for several prompts, or token by token

Nothing heavy is imported before it is used.
"""

from wsesim.toolchain.compiling import compile as compile
from wsesim.toolchain.compiling import compile_from as compile_from
from wsesim.toolchain.compiling import compile_model as compile_model
from wsesim.toolchain.running import Answer as Answer
from wsesim.toolchain.running import Session as Session
from wsesim.toolchain.running import check_request as check_request
from wsesim.toolchain.running import complete as complete
from wsesim.toolchain.running import make_executor as make_executor
from wsesim.toolchain.running import make_timing as make_timing
from wsesim.toolchain.running import open_session as open_session
from wsesim.toolchain.running import warm_up as warm_up
from wsesim.toolchain.simulating import PHASES as PHASES
from wsesim.toolchain.simulating import check_step as check_step
from wsesim.toolchain.simulating import program_for as program_for
from wsesim.toolchain.simulating import simulate as simulate
from wsesim.toolchain.words import DEFAULT_MACHINE as DEFAULT_MACHINE
from wsesim.toolchain.words import DEFAULT_MODEL as DEFAULT_MODEL
from wsesim.toolchain.words import STAGES as STAGES
from wsesim.toolchain.words import Lowering as Lowering
from wsesim.toolchain.words import is_saved_program as is_saved_program
