"""BaseKernel: what a kernel tells of itself, with the answers that hold for most kernels."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from wsesim.program.kv import KVCache
from wsesim.program.operands import ALONG, LineSum, Operand, Tile

DECODE = "decode"
PREFILL = "prefill"


class BaseKernel:
    """What is the same for most kernels."""

    __slots__ = ()
    cache: KVCache | None = None
    prefill_reduce: str = ""
    form: str = ""  # the first of the software's forms
    prefill_form: str = ""  # the same as `form`

    @property
    def role(self) -> str:
        """What the kernel is for in its stage: a kernel's name is STAGE.ROLE."""
        own: Any = self
        return str(own.name.rpartition(".")[2])

    @property
    def reads(self) -> tuple[Operand, ...]:
        """Values that the kernel reads. An Embed reads token ids, which are no value."""
        own: Any = self
        return (Operand(own.source, own.layout, ALONG),)

    @property
    def makes(self) -> tuple[Operand, ...]:
        """Values that the kernel makes."""
        own: Any = self
        return (Operand(own.target, own.layout, self.reads[0].axis),)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Weights that a PE holds for the kernel."""
        return ()

    @property
    def lines(self) -> str:
        """Lines of the kernel's collective: ALONG, ACROSS, or SEGMENT; "" without a collective."""
        return ""

    @property
    def kv_width(self) -> int:
        """Elements that the fullest PE appends to its KV cache for each position."""
        return 0

    @property
    def last_token_only(self) -> bool:
        """Whether only the last token of a prompt goes through the kernel. In a decode step every token does."""
        return False

    def collective(self, positions: int) -> LineSum | None:
        """The sum over each of `lines`, with `positions` on the fullest PE's KV cache; None without a collective."""
        return None

    def value_elements(self, positions: int) -> dict[str, int]:
        """Elements of each value made that the fullest PE holds for a token, over `positions` of its KV cache."""
        return {made.value: made.layout.width for made in self.makes}

    def scratch_elements(self, positions: int) -> int:
        """Elements that a PE holds only while it runs the kernel: sums to be added, lists to be sorted."""
        return 0

    def multiply_adds(self, context: int) -> int:
        """Multiply-adds that the model asks for: of one token, the last of `context`."""
        return 0

    def padded_multiply_adds(self, context: int, along: int) -> int:
        """Multiply-adds that the PEs do for it: each PE with a share does as many as the fullest one."""
        return 0

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        """The sizes that the steps of the kernel's form compute with (`wsesim.software.form`), of one PE."""
        raise NotImplementedError

    def written(self, form: str, prefill_form: str = "") -> Self:
        """The kernel in other forms of the software; "" as the second is the same form in both phases."""
        own = "" if prefill_form == form else prefill_form
        return dataclasses.replace(self, form=form, prefill_form=own)  # type: ignore[type-var]

    def summed(self, reduce: str) -> Self:
        """The kernel with another collective in both phases; a kernel without one stays as it is."""
        if not hasattr(self, "reduce"):
            return self
        return dataclasses.replace(self, reduce=reduce)  # type: ignore[type-var]

    def in_phase(self, phase: str) -> Self:
        """The kernel with the collective and the form of DECODE or PREFILL as its only ones."""
        if not self.prefill_reduce and not self.prefill_form:
            return self
        fields: dict[str, str] = {"prefill_form": ""} | ({"prefill_reduce": ""} if self.prefill_reduce else {})
        if phase == PREFILL:
            fields |= {"form": self.prefill_form} if self.prefill_form else {}
            fields |= {"reduce": self.prefill_reduce} if self.prefill_reduce else {}
        return dataclasses.replace(self, **fields)  # type: ignore[type-var]
