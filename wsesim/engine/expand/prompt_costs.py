"""The cost of the kernels of a whole prompt, without the products: the steps of their forms, on tiles.

In a tile, the tokens of one feature are contiguous. AllReduces go along the rows of PEs.
"""

from __future__ import annotations

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.collective import all_reduce
from wsesim.engine.expand.forms import Place, draw_steps
from wsesim.program.layout import ceil_div
from wsesim.program.prompt_kernels import TokenAdd, TokenNorm, TokenRope, TokenSoftmax, TokenSwiGLU

TokenKernel = TokenNorm | TokenRope | TokenSoftmax | TokenSwiGLU | TokenAdd


def expand_token_kernel(canvas: Canvas, kernel: TokenKernel, rows: PELines) -> None:
    """Appends the kernel's tasks on rows of PEs as long as the block is wide."""

    def collective(elements: int) -> None:
        assert isinstance(kernel, TokenNorm | TokenSoftmax)
        all_reduce(canvas, rows, rows.length, elements, kernel.reduce, kernel.name)

    sizes = {"tokens": ceil_div(kernel.tokens, rows.length)}
    if not isinstance(kernel, TokenSoftmax):
        sizes["features"] = ceil_div(kernel.features, rows.length)
    place = Place(kernel.name, rows.pes, collective, canvas.dtype)
    draw_steps(canvas, canvas.software.form(type(kernel).__name__).steps, sizes, place)
