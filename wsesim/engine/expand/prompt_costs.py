"""The cost of the kernels of a whole prompt, without the products: vector operations on tiles, AllReduces along rows.

In a tile, the tokens of one feature are contiguous. Work on each token is a loop over the features, with one vector
operation over all tokens in each turn.
"""

from __future__ import annotations

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.collective import all_reduce
from wsesim.program.layout import ceil_div
from wsesim.program.prompt_kernels import TokenAdd, TokenNorm, TokenRope, TokenSoftmax, TokenSwiGLU

TokenKernel = TokenNorm | TokenRope | TokenSoftmax | TokenSwiGLU | TokenAdd


def expand_token_kernel(canvas: Canvas, kernel: TokenKernel, rows: PELines) -> None:
    """Appends the kernel's tasks on rows of PEs as long as the block is wide."""
    tokens = ceil_div(kernel.tokens, rows.length)
    match kernel:
        case TokenNorm():
            _norm(canvas, rows, tokens, ceil_div(kernel.features, rows.length), kernel.reduce, kernel.name)
        case TokenRope():  # four products, a difference and a sum for each pair of features
            pairs = ceil_div(ceil_div(kernel.features, rows.length), 2)
            canvas.loop(rows.pes, kernel.name, "elementwise", tokens, pairs, 6)
        case TokenSoftmax():
            _softmax(canvas, rows, tokens, kernel.reduce, kernel.name)
        case TokenSwiGLU():  # exponential and quotient, a product
            elements = tokens * ceil_div(kernel.features, rows.length)
            for op in ("exp", "divide", "elementwise"):
                canvas.compute(rows.pes, kernel.name, op, elements)
        case TokenAdd():
            elements = tokens * ceil_div(kernel.features, rows.length)
            canvas.compute(rows.pes, kernel.name, "elementwise", elements)


def _norm(canvas: Canvas, rows: PELines, tokens: int, features: int, reduce: str, label: str) -> None:
    """Squares, their sums, the root; times the weight, times the root."""
    canvas.compute(rows.pes, label, "elementwise", tokens * features)
    canvas.loop(rows.pes, label, "elementwise", tokens, features)
    all_reduce(canvas, rows, rows.length, tokens, reduce, label)
    canvas.compute(rows.pes, label, "divide", tokens)
    canvas.compute(rows.pes, label, "rsqrt", tokens)
    for _ in ("weight", "root"):
        canvas.loop(rows.pes, label, "elementwise", tokens, features)


def _softmax(canvas: Canvas, rows: PELines, tokens: int, reduce: str, label: str) -> None:
    """Scale, maximum, difference, exponential, sum, quotient: none masked."""
    canvas.compute(rows.pes, label, "elementwise", tokens * tokens)
    canvas.loop(rows.pes, label, "elementwise", tokens, tokens)
    all_reduce(canvas, rows, rows.length, tokens, reduce, label)
    canvas.loop(rows.pes, label, "elementwise", tokens, tokens)
    canvas.compute(rows.pes, label, "exp", tokens * tokens)
    canvas.loop(rows.pes, label, "elementwise", tokens, tokens)
    all_reduce(canvas, rows, rows.length, tokens, reduce, label)
    canvas.compute(rows.pes, label, "divide", tokens)
    canvas.loop(rows.pes, label, "elementwise", tokens, tokens)
