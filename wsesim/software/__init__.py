"""Software: how the kernels on a machine are written. Presets, TOML files, forms."""

from wsesim.software.errors import SoftwareFileError as SoftwareFileError
from wsesim.software.errors import UnknownSoftwareError as UnknownSoftwareError
from wsesim.software.form import Form as Form
from wsesim.software.load import WSESIM as WSESIM
from wsesim.software.load import load_software as load_software
from wsesim.software.load import software_names as software_names
from wsesim.software.load import software_text as software_text
from wsesim.software.software import Software as Software
