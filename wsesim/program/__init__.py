"""Program: what the compiler emits and the simulator runs. Frozen, printable, and free of weights."""

from wsesim.program.program import Program as Program
from wsesim.program.protocols import WeightStore as WeightStore
from wsesim.program.text import parse_program as parse_program
from wsesim.program.text import print_program as print_program
from wsesim.program.verify import verify_program as verify_program
