"""The colours of all figures, on pages and in plots. Readers with any colour vision tell them apart.

Kinds of cycles and roles of blocks differ in lightness too, so that they survive a black and white printer.
"""

from __future__ import annotations

from wsesim.program.parts import EMBED, HEAD, LAYER, LAYER_KINDS, Block
from wsesim.program.program import Program

KIND_COLOURS = {
    "compute": "#3b6ea5",
    "launch": "#9ccbe8",
    "network": "#e6863b",
    "wait": "#a9a9a9",
    "reroute": "#8c6bb1",
}
"""Of the cycles on the critical path."""
TABLE = "table"
ROLE_COLOURS = {TABLE: "#59a14f", EMBED: "#59a14f", HEAD: "#d8a72a", LAYER: "#4e79a7"}
ROLE_NAMES = {TABLE: "embedding and head", EMBED: "embedding", HEAD: "head", LAYER: "layers"}


def role_of(program: Program, block: Block) -> str:
    """The key of ROLE_COLOURS for the stages on a block: the embedding, the head, both, or layers."""
    kinds = {stage.kind for stage in program.stages if stage.block == block.name}
    if kinds & set(LAYER_KINDS):
        return LAYER
    return TABLE if {EMBED, HEAD} <= kinds else HEAD if HEAD in kinds else EMBED
