"""The machine: frozen numbers of one wafer, its presets, and routes over its mesh."""

from wsesim.machine.errors import UnknownMachineError as UnknownMachineError
from wsesim.machine.load import load_machine as load_machine
from wsesim.machine.load import with_defects as with_defects
from wsesim.machine.machine import Machine as Machine
from wsesim.machine.parts import Fabric as Fabric
from wsesim.machine.parts import Host as Host
from wsesim.machine.parts import OpCost as OpCost
from wsesim.machine.parts import Rect as Rect
from wsesim.machine.presets import machine_names as machine_names
from wsesim.machine.settings import parse_setting as parse_setting
from wsesim.machine.text import Difference as Difference
from wsesim.machine.text import differences as differences
from wsesim.machine.text import differences_text as differences_text
from wsesim.machine.text import machine_text as machine_text
