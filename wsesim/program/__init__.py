"""Program: what the compiler emits and the simulator runs. Frozen, printable, and free of weights."""

from wsesim.program.files import parse_program as parse_program
from wsesim.program.program import Program as Program
from wsesim.program.protocols import WeightStore as WeightStore
from wsesim.program.verify import verify_program as verify_program
