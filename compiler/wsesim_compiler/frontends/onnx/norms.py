"""RMSNorm whole, as opset 23 and onnxruntime's transformers have it, alone or after a residual sum."""

from __future__ import annotations

from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.rule import Given, Rule, rule
from wsesim_compiler.frontends.onnx.values import Dynamic, NotReadError, Operand

_EPSILON = 1e-5


def _rms_norm(build: Builder, given: Given, x: Operand, weight: Operand) -> Operand:
    shape = build.shape(x)
    if given.get("axis", -1) not in (-1, len(shape) - 1):
        raise NotReadError("over more than the last dimension")
    made = build.add("rms_norm", x, weight, normalized_shape=shape[-1:], eps=given.get("epsilon", _EPSILON))
    if isinstance(x, Dynamic) and x.name in build.head_rows:
        build.head_rows.add(made.name)
    return made


def _skip_rms_norm(
    build: Builder, given: Given, x: Operand, skip: Operand, weight: Operand, bias: Operand = None
) -> tuple[Operand, ...]:
    """The norm of a sum; results 1 and 2 are for training, result 3 is the sum."""
    total = build.add("add", x, skip)
    if bias is not None:
        total = build.add("add", total, bias)
    return _rms_norm(build, given, total, weight), None, None, total


NORM_RULES: dict[str, Rule] = {
    "RMSNormalization": rule(_rms_norm, "axis epsilon stash_type"),
    "SimplifiedLayerNormalization": rule(_rms_norm, "axis epsilon stash_type"),
    "com.microsoft.SimplifiedLayerNormalization": rule(_rms_norm, "axis epsilon stash_type"),
    "com.microsoft.SkipSimplifiedLayerNormalization": rule(_skip_rms_norm, "epsilon"),
}
