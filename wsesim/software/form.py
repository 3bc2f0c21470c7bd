"""Form: how one kind of kernel is written, as data.

A form is a list of steps. Every PE that holds part of the kernel runs them in order. A step is written as a call:

    elementwise(width)                          one vector operation on `width` elements
    elementwise(features, times=2, slots=heads) a loop over (head, sequence) slots, two operations in each turn
    fma(output, times=inputs, loop=tokens)      a loop over the tokens, `inputs` operations in each turn
    product(positions, times=features, slots=heads)  a matrix of `positions` x `features` times a vector for each slot:
                                                an operation on a column for each feature
    scalar(positions, cycles="72/5", slots=heads) scalar code: cycles for each element, in each turn
    product(..., groups=key_width//features)    the slots of a group share a matrix: an operation on a whole group for
                                                each element of the matrix is another way; the cheaper one is taken
    fold(positions, slots=heads)                a sum or a maximum for each slot: `heads` reductions, or `positions`
                                                vector operations on all slots, whichever is cheaper
    elementwise(width, times=24, slice=32)      in pieces of at most 32 elements, a loop around them
    divide(heads, vector=7)                     scalar operations, or seven vector operations on as many elements,
                                                whichever is cheaper; exp, divide and rsqrt alone have `vector`
    setup(3, slots=heads)                       three descriptors are set up in each turn
    all_reduce(tokens)                          the kernel's collective, over its lines of PEs

The first argument and `times`, `loop` and `slots` are sizes: sums and products of integers and of the names that
`SIZES` lists for the kernel. `dtype="fp32"` computes or sends in fp32 whatever the timing dtype is, `dtype="cache"` in
what the KV cache is stored in. A step of size 0 is left out. `wsesim/engine/expand/forms.py` says what a step costs.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from wsesim.errors import brief

VECTOR_OPS = ("copy", "fma", "elementwise", "reduce", "exp", "divide", "rsqrt", "compare")
"""Vector operations of the machine."""

VECTORISED = ("exp", "divide", "rsqrt")
"""Operations that take one element after the other, and that vector operations can replace."""

PRODUCT, FOLD, SCALAR, SETUP, ALL_REDUCE = "product", "fold", "scalar", "setup", "all_reduce"
STEP_NAMES = (*VECTOR_OPS, PRODUCT, FOLD, SCALAR, SETUP, ALL_REDUCE)
STEP_FIELDS = ("times", "loop", "slots", "groups", "slice", "vector", "dtype", "cycles")
LARGEST = 100_000
"""The largest integer in a size."""

CACHE = "cache"
DTYPES = ("", "fp16", "fp32", CACHE)

SIZES: dict[str, tuple[str, ...]] = {
    "RMSNorm": ("tokens", "width"),
    "Linear": ("tokens", "inputs", "outputs", "output", "norms"),
    "QKNorm": ("tokens", "heads", "features"),
    "Rope": ("tokens", "heads", "features", "query_heads", "key_heads"),
    "Score": ("tokens", "heads", "features", "positions", "key_width"),
    "Softmax": ("tokens", "heads", "positions"),
    "WeightedSum": ("tokens", "heads", "features", "positions", "value_width"),
    "FlashSum": ("tokens", "heads", "features", "positions", "value_width"),
    "SwiGLU": ("tokens", "width", "residual_width"),
    "Add": ("tokens", "width"),
    "Sample": ("tokens", "logits", "kept", "halvings", "drawn"),
    "TokenNorm": ("tokens", "features"),
    "TokenRope": ("tokens", "features"),
    "TokenSoftmax": ("tokens",),
    "TokenSwiGLU": ("tokens", "features"),
    "TokenAdd": ("tokens", "features"),
}
"""What a PE of each kind of kernel holds, by the names that its steps use.

tokens        tokens that go through the kernel together; in a decode step the batch
width         elements of the vector for each token
inputs        of a Linear: elements of its input for each token
output        of a Linear: elements of one of its outputs for each token (in `each_output` alone)
outputs       of a Linear: elements of all of its outputs for each token
norms         of a Linear: 1 if its input comes from a norm that left its scale to it, else 0
heads         (head, token) slots: query heads, and with norms and rotations key heads too
query_heads   slots of query heads alone
key_heads     slots of key heads alone
features      features of a head
residual_width  elements of the residual stream for each token
positions     cached positions of a sequence
logits        of a Sample: logits for each token
kept          of a Sample: candidates that are kept for each token
halvings      of a Sample: passes in which a list of `kept` candidates can be found by halving, 1 + log2(kept)
drawn         of a Sample: 1 if it draws from several candidates, 0 if it takes the best
key_width     features of all key heads
value_width   features of all value heads
"""

KINDS = tuple(SIZES)
"""Kinds of kernel that have a form."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a form. Sizes are texts; `size_value` computes them. `loop`, `slots`: "" where there is no loop.

    `vector`: as many vector operations do the same, "" where none do.
    """

    name: str
    elements: str
    times: str = "1"
    loop: str = ""
    slots: str = ""
    groups: str = ""
    slice: str = ""
    dtype: str = ""
    vector: str = ""
    cycles: Fraction | None = None  # of a scalar step, for each element

    @property
    def sizes(self) -> tuple[str, ...]:
        """All sizes that are stated."""
        stated = (self.elements, self.times, self.loop, self.slots, self.groups, self.slice, self.vector)
        return tuple(size for size in stated if size)


@dataclass(frozen=True, slots=True)
class Form:
    """How kernels of `kind` are written.

    `each_output` comes first, for each output of a Linear. `at_root` comes last, on the PE where the candidates of a
    Sample are merged. `scratch` is a size: elements that a PE holds while it runs the form, beside the kernel's own.
    """

    kind: str
    name: str
    steps: tuple[str, ...]
    each_output: tuple[str, ...] = ()
    at_root: tuple[str, ...] = ()
    scratch: str = ""

    @property
    def communicates(self) -> bool:
        """Whether it has a collective."""
        return any(parse_step(step).name == ALL_REDUCE for step in self.steps)

    @property
    def takes_norms(self) -> bool:
        """Whether it sums and applies what a folded norm leaves to it."""
        return any("norms" in names_in(parse_step(step).elements) for step in self.steps)

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@lru_cache(maxsize=1024)
def parse_step(text: str) -> Step:
    """The step that a text describes. Raises ValueError with what is wrong."""
    call = _parsed(text, "a step")
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or len(call.args) != 1:
        raise ValueError(f"{brief(text)} is no step; write it as elementwise(width)")
    name = call.func.id
    if name not in STEP_NAMES:
        raise ValueError(f"{brief(text)}: unknown step {name!r}; known: {', '.join(STEP_NAMES)}")
    fields: dict[str, str] = {}
    for keyword in call.keywords:
        if keyword.arg not in STEP_FIELDS or keyword.arg in fields:
            raise ValueError(f"{brief(text)}: a step has {', '.join(STEP_FIELDS)}, each once")
        fields[keyword.arg] = _text_of(keyword.value)
    cycles = fields.pop("cycles", None)
    if (cycles is not None) != (name == SCALAR):
        raise ValueError(f"{brief(text)}: `cycles` goes with scalar, and scalar with `cycles`")
    for field, having in (("vector", VECTORISED), ("groups", (PRODUCT,)), ("slice", VECTOR_OPS)):
        if field in fields and name not in having:
            raise ValueError(f"{brief(text)}: `{field}` goes with {', '.join(having)}")
    if fields.get("dtype", "") not in DTYPES:
        raise ValueError(f"{brief(text)}: dtype is {fields['dtype']!r}; known: {', '.join(DTYPES[1:])}")
    if name == ALL_REDUCE and set(fields) - {"dtype"}:
        raise ValueError(f"{brief(text)}: all_reduce has a dtype alone")
    return Step(name, _text_of(call.args[0]), cycles=None if cycles is None else _fraction(text, cycles), **fields)


def names_in(size: str) -> frozenset[str]:
    """Names that a size uses. Raises ValueError for what is no sum and product of names and integers."""
    return _names(_parsed(size, "a size"), size)


@lru_cache(maxsize=1024)
def _compiled(size: str) -> ast.expr:
    return _parsed(size, "a size")


def size_value(size: str, sizes: Mapping[str, int]) -> int:
    """The integer that a size stands for. A quotient by 0 is 0."""
    return _value(_compiled(size), sizes)


def check_form(form: Form) -> None:
    """Raises ValueError for a form whose kind, steps or sizes are unknown."""
    if form.kind not in KINDS:
        raise ValueError(f"kernel {form.kind!r} has no form; those that have: {', '.join(KINDS)}")
    if form.each_output and form.kind != "Linear":
        raise ValueError(f"{form}: only a Linear has outputs")
    if form.at_root and form.kind != "Sample":
        raise ValueError(f"{form}: only a Sample has a root")
    if form.scratch and (unknown := names_in(form.scratch) - set(SIZES[form.kind])):
        raise ValueError(f"{form}: scratch: unknown size {sorted(unknown)[0]!r}")
    for text in (*form.each_output, *form.steps, *form.at_root):
        step = parse_step(text)
        known = set(SIZES[form.kind]) - ({"output"} if text not in form.each_output else set())
        used = frozenset[str]().union(*map(names_in, step.sizes))
        for name in sorted(used - known):
            raise ValueError(f"{form}: {brief(text)}: unknown size {name!r}; known: {', '.join(sorted(known))}")


def _parsed(text: str, what: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{brief(text)} is not {what}") from None


def _text_of(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def _fraction(step: str, text: str) -> Fraction:
    try:
        found = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{brief(step)}: cycles is {brief(text)}, not a number or a fraction as in 72/5") from None
    if not 0 <= found <= 10_000:
        raise ValueError(f"{brief(step)}: cycles is {found}; it is from 0 to 10,000")
    return found


def _names(node: ast.expr, size: str) -> frozenset[str]:
    match node:
        case ast.Name(name):
            return frozenset((name,))
        case ast.Constant(int(number)) if not isinstance(number, bool) and number <= LARGEST:
            return frozenset()
        case ast.BinOp(left, ast.Add() | ast.Mult() | ast.FloorDiv(), right):
            return _names(left, size) | _names(right, size)
        case _:
            raise ValueError(
                f"{brief(size)} is no size: sums, products and // of names and of integers up to {LARGEST:,}"
            )


def _value(node: ast.expr, sizes: Mapping[str, int]) -> int:
    match node:
        case ast.Name(name):
            return sizes[name]
        case ast.Constant(int(number)):
            return number
        case ast.BinOp(left, ast.Add(), right):
            return _value(left, sizes) + _value(right, sizes)
        case ast.BinOp(left, ast.Mult(), right):
            return _value(left, sizes) * _value(right, sizes)
        case ast.BinOp(left, ast.FloorDiv(), right):
            divisor = _value(right, sizes)
            return _value(left, sizes) // divisor if divisor else 0
    raise AssertionError(ast.unparse(node))
