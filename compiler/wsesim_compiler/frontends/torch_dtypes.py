"""Names of element types in a Graph, for those of torch."""

from __future__ import annotations

_DTYPES = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint8": "u8",
    "bool": "bool",
    "complex64": "c64",
}


def dtype_name(dtype: object) -> str | None:
    """Our name of a torch dtype, None for anything else."""
    return _DTYPES.get(str(dtype).removeprefix("torch."))
