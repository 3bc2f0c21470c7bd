"""Products with weights that are quantised in blocks: the graph sees the dequantised weight, and the store dequantises
it when it is read.
"""

from __future__ import annotations

from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.rules import Given, Rule, rule
from wsesim_compiler.frontends.onnx.tensors import Tensor
from wsesim_compiler.frontends.onnx.values import NotReadError, Operand, Weight
from wsesim_compiler.frontends.onnx.weights import Blocks, WeightView

_BITS = (2, 4, 8)


def _matmul_nbits(
    build: Builder,
    given: Given,
    x: Operand,
    weight: Operand,
    scales: Operand,
    zero_points: Operand = None,
    order: Operand = None,
    bias: Operand = None,
) -> Operand:
    if order is not None:
        raise NotReadError("with g_idx, an order of its columns")
    columns, rows = given["K"], given["N"]
    blocks = _blocks(given, columns, scales, zero_points)
    stored = _stored(weight, rows * -(-columns // blocks.block_size) * (blocks.block_size * blocks.bits // 8))
    if stored.shape[0] != rows:
        raise NotReadError(f"of {rows} rows by a weight {list(stored.shape)}")
    _check_points(blocks, rows)
    return build.add("linear", x, Weight(WeightView(stored, blocks=blocks)), *(() if bias is None else (bias,)))


def _blocks(given: Given, columns: int, scales: Operand, zero_points: Operand) -> Blocks:
    bits, size = given.get("bits", 4), given["block_size"]
    if bits not in _BITS or size < 16 or size & (size - 1) or columns <= 0:
        raise NotReadError(f"of {bits} bits in blocks of {size} over {columns} columns")
    points = None if zero_points is None else _tensor(zero_points)
    return Blocks(bits, size, columns, _tensor(scales), points)


def _check_points(blocks: Blocks, rows: int) -> None:
    count = -(-blocks.columns // blocks.block_size)
    points = blocks.zero_points
    each = -(-count * blocks.bits // 8) if points is not None and points.dtype == "u8" else count
    for tensor, expected in ((blocks.scales, rows * count), (points, rows * each)):
        if tensor is not None and _count(tensor) != expected:
            raise NotReadError(f"with {tensor.name!r} {list(tensor.shape)} for {rows} rows of {count} blocks")


def _stored(weight: Operand, expected_bytes: int) -> Tensor:
    tensor = _tensor(weight)
    if tensor.dtype != "u8" or not tensor.shape or _count(tensor) != expected_bytes:
        raise NotReadError(f"by a weight {tensor.dtype} {list(tensor.shape)} where {expected_bytes:,} bytes are read")
    return tensor


def _count(tensor: Tensor) -> int:
    count = 1
    for dim in tensor.shape:
        count *= dim
    return count


def _tensor(operand: Operand) -> Tensor:
    if not isinstance(operand, Weight) or operand.view.transposed:
        raise NotReadError("by something else than stored weights")
    return operand.view.tensor


QUANTIZED_RULES: dict[str, Rule] = {
    "com.microsoft.MatMulNBits": rule(_matmul_nbits, "K N bits block_size accuracy_level weight_prepacked"),
}
