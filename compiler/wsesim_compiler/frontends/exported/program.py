"""The JSON of a .pt2 file, reduced to what torch may read without running code that the file brings.

torch evaluates the sizes (`expr_str`), makes Python source of the names and runs it, and imports the modules that
pytree contexts name. So every string is compared with what torch.export.save writes in its place. Metadata, pytrees
and guards are left out: the compiler reads none but the module stack, which says where a node comes from.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from wsesim.errors import brief

_MOST_LEVELS = 64
_MOST_EXPRESSION = 2000
"""Characters of a size. torch writes about 50 for a symbol."""
_LARGEST = 1 << 63

_NAME = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,299})?")
_PATH = re.compile(r"(?:[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)?")
_OPERATOR = re.compile(r"torch\.ops\.\w+\.\w+(?:\.\w+)?|torch\.(?:_sym_|sym_)\w+|_operator\.\w+|math\.\w+", re.ASCII)
_SYMBOL = re.compile(r"(?:s|u|zf|zuf)[0-9]{1,6}")
_PRINTABLE = re.compile(r"[ -~]{0,20000}")
_FLOAT = re.compile(r"-?Infinity|NaN")

# fmt: off
_FUNCTIONS = frozenset((
    "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv",
    "CeilDiv", "CleanDiv", "ModularIndexing", "Where", "floor", "ceiling", "Abs", "ToFloat", "TruncToInt",
    "FloorToInt", "CeilToInt", "Identity", "IntTrueDiv", "Equality", "Unequality", "Eq", "Ne", "StrictLessThan",
    "StrictGreaterThan", "LessThan", "GreaterThan", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
))
# fmt: on
"""What sizes are made of. Powers and shifts of numbers are left out: they may take for ever."""


def checked_program(data: Any) -> dict[str, Any]:
    """`data`, the JSON of models/model.json, without what the compiler does not read. Raises ValueError."""
    if not isinstance(data, dict) or not isinstance(data.get("graph_module"), dict):
        raise ValueError("models/model.json is not a graph of torch.export")
    inner = data["graph_module"]
    kept = {
        "graph_module": {
            "graph": inner.get("graph"),
            "signature": inner.get("signature"),
            "module_call_graph": [{"fqn": "", "signature": None}],
        },
        "opset_version": data.get("opset_version"),
        "range_constraints": data.get("range_constraints"),
        "schema_version": data.get("schema_version"),
        "verifiers": data.get("verifiers"),
    }
    checked: dict[str, Any] = _checked(kept, "", 0)
    return checked


def _checked(value: Any, key: str, level: int) -> Any:
    """`value` that stands at `key`, with devices that are here and the metadata that is read."""
    if level > _MOST_LEVELS:
        raise ValueError("models/model.json is nested too deeply")
    if isinstance(value, str):
        _RULES.get(key, _name)(value)
        return value
    if isinstance(value, list):
        return [_checked(part, key, level + 1) for part in value]
    if not isinstance(value, dict):
        return value
    if key in ("device", "as_device"):
        return {"type": "meta" if value.get("type") == "meta" else "cpu", "index": None}
    if key == "metadata":
        stack = value.get("nn_module_stack")
        return {"nn_module_stack": stack} if isinstance(stack, str) and _PRINTABLE.fullmatch(stack) else {}
    for name in value:
        _name(name)
    return {name: _checked(part, name, level + 1) for name, part in value.items()}


def _name(text: str) -> None:
    _match(_NAME, text, "a name")


def _match(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"{brief(text)} is not {what} that torch.export.save writes")


def _size(text: str) -> None:
    """A size as sympy's srepr writes it: calls of known functions, numbers, symbols. torch evaluates the text."""
    refusal = f"{brief(text)} is not a size that torch.export.save writes"
    if len(text) > _MOST_EXPRESSION:
        raise ValueError(refusal)
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(refusal) from None
    if not _is_size(body):
        raise ValueError(refusal)


def _is_size(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return _is_call(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _is_number(node.operand)
    return _is_number(node) or (isinstance(node, ast.Name) and node.id in ("true", "false"))


def _is_call(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return False
    if not all(isinstance(word.value, ast.Constant) and word.value.value in (True, False) for word in node.keywords):
        return False
    match node.func.id, node.args:
        case "Symbol", [ast.Constant(value=str(symbol))]:
            return _SYMBOL.fullmatch(symbol) is not None
        case "Symbol", _:
            return False
        case "Pow", [ast.Call(func=ast.Name(id="Symbol")) as base, exponent]:
            return _is_call(base) and _is_size(exponent) and _is_small(exponent)
        case "Pow", _:
            return False
    return all(_is_size(argument) for argument in node.args)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) < _LARGEST


def _is_small(exponent: ast.expr) -> bool:
    numbers = [part.value for part in ast.walk(exponent) if isinstance(part, ast.Constant)]
    return ast.unparse(exponent).startswith("Integer(") and all(value in range(9) for value in numbers)


_RULES: dict[str, Callable[[str], None]] = {
    "expr_str": _size,
    "target": lambda text: _match(_OPERATOR, text, "an operator"),
    "as_operator": lambda text: _match(_OPERATOR, text, "an operator"),
    "as_string": lambda text: None,  # torch writes it with its quotes
    "as_strings": lambda text: None,
    "as_float": lambda text: _match(_FLOAT, text, "a number"),
    "as_floats": lambda text: _match(_FLOAT, text, "a number"),
    "real": lambda text: _match(_FLOAT, text, "a number"),
    "imag": lambda text: _match(_FLOAT, text, "a number"),
    "parameter_name": lambda text: _match(_PATH, text, "a name"),
    "buffer_name": lambda text: _match(_PATH, text, "a name"),
    "tensor_constant_name": lambda text: _match(_PATH, text, "a name"),
}
"""What may stand at a key; at all others, a name."""
