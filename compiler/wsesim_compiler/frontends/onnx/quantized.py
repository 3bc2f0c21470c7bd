"""Products with weights that are quantised in blocks: the graph sees the dequantised weight, and the store dequantises
it when it is read.
"""

from __future__ import annotations

from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.rule import Given, Rule, rule
from wsesim_compiler.frontends.onnx.tensors import Tensor
from wsesim_compiler.frontends.onnx.values import Dynamic, NotReadError, Operand, Weight
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


def _gather(
    build: Builder, given: Given, table: Operand, tokens: Operand, scales: Operand, zero_points: Operand = None
) -> Operand:
    """Rows of a table that is quantised along them."""
    if given.get("gather_axis", 0) != 0 or given.get("quantize_axis", 1) != 1 or not isinstance(tokens, Dynamic):
        raise NotReadError("of something else than rows by token ids")
    stored, bits, size = _tensor(table), given.get("bits", 4), given.get("block_size", 128)
    count = _tensor(scales).shape[-1]
    if stored.dtype != "u8" or not stored.shape or _count(stored) != stored.shape[0] * count * size * bits // 8:
        raise NotReadError(f"of a table {stored.dtype} {list(stored.shape)} in {count} blocks of {size}")
    blocks = _blocks({"bits": bits, "block_size": size}, count * size, scales, zero_points)
    _check_points(blocks, stored.shape[0])
    return build.add("embedding", tokens, Weight(WeightView(stored, blocks=blocks)), dtype=blocks.scales.dtype)


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
    "com.microsoft.GatherBlockQuantized": rule(_gather, "bits block_size gather_axis quantize_axis"),
    "com.microsoft.MatMulNBits": rule(_matmul_nbits, "K N bits block_size accuracy_level weight_prepacked"),
}
