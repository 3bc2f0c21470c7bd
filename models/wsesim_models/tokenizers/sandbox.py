"""Jinja with limits: a template runs in Jinja's sandbox, and its steps are counted.

Each turn of a loop, each call and each operator costs `_STEP_COST`; each text or list that it makes costs its length.
At `MOST_COST` the template is stopped. Filters and functions that multiply a text by a number are removed. The work of
the other filters on one value is not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_COST = 1 << 27
_STEP_COST = 1 << 10
_MOST_NUMBER = 1 << 63
_MOST_ARGUMENT = 1 << 20
_LEFT_OUT = ("batch", "center", "filesizeformat", "format", "indent", "pprint", "slice", "wordwrap", "xmlattr")
_WIDE_FORMAT = re.compile(r"[0-9]{5}|\*")


def rendered(source: str, **names: object) -> str:
    """The template's output for these names. Raises TemplateError, and whatever its expressions raise."""
    return _Environment().from_string(source).render(names)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=self._count,
            optimized=False,  # folding constants takes cubic time in a chain of attributes, and nothing counts it
        )
        self._cost = 0
        for name in _LEFT_OUT:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters |= {"counted": self._turns, "joined": self._joined, "replace": _replaced}
        self.globals["raise_exception"] = _refuse

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """The template, with filters that count inserted into its loops and into each `a ~ b`."""
        template = super()._parse(source, name, filename)
        for loop in template.find_all(nodes.For):
            if loop.recursive:
                raise TemplateSyntaxError("recursive loops are not run here", loop.lineno)
            fixed = nodes.Const(sum(len(text.data) for text in loop.find_all(nodes.TemplateData)))
            loop.iter = nodes.Filter(loop.iter, "counted", [fixed], [], None, None, lineno=loop.lineno)
        for text in template.find_all(nodes.Concat):
            parts = nodes.List(text.nodes, lineno=text.lineno)
            text.nodes = [nodes.Filter(parts, "joined", [], [], None, None, lineno=text.lineno)]
        return template

    def call(self, context: Context, callee: Any, /, *arguments: Any, **named: Any) -> Any:
        method = getattr(callee, "__wrapped__", callee)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes):
            _check_method(method.__name__, owner, [*arguments, *named.values()])
        return self._count(super().call(context, callee, *arguments, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_operator(operator, left, right)
        return self._count(super().call_binop(context, operator, left, right))

    def _joined(self, parts: list[object]) -> str:
        text = "".join(map(str, parts))
        self._pay(len(text))
        return text

    def _turns(self, values: Iterable[object], fixed: int) -> Iterator[object]:
        for value in values:
            self._pay(fixed)
            yield value

    def _count(self, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _MOST_NUMBER:
            raise TemplateError("it computes a number of more than 64 bits")
        self._pay(len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0)
        return value

    def _pay(self, length: int) -> None:
        self._cost += _STEP_COST + length
        if self._cost > MOST_COST:
            raise TemplateError("it takes too many steps or makes too much text")


def _check_method(name: str, owner: str | bytes, arguments: list[Any]) -> None:
    """Raises TemplateError for a call that would make a text much longer than its inputs."""
    if any(isinstance(value, int) and abs(value) > _MOST_ARGUMENT for value in arguments):
        raise TemplateError(f"{name} is called with a number beyond {_MOST_ARGUMENT}")
    if name.startswith("format") and _WIDE_FORMAT.search(str(owner)):
        raise TemplateError("it formats a text with a width of five digits")
    sizes = [len(value) for value in arguments if isinstance(value, str | bytes | list | tuple)]
    if (len(owner) + 1) * max(sizes, default=0) > MOST_COST:
        raise TemplateError(f"{name} is called with texts that are too long")


def _check_operator(operator: str, left: Any, right: Any) -> None:
    if operator == "%" and isinstance(left, str | bytes) and _WIDE_FORMAT.search(str(left)):
        raise TemplateError("it formats a text with a width of five digits")
    if operator == "**" and isinstance(right, int) and abs(right) > 64:
        raise TemplateError("it raises a number to a power beyond 64")
    if operator == "*":
        count, repeated = (left, right) if isinstance(left, int) else (right, left)
        if isinstance(count, int) and hasattr(repeated, "__len__") and count * len(repeated) > MOST_COST:
            raise TemplateError("it repeats a text or list too many times")


def _replaced(text: object, old: str, new: str) -> str:
    _check_method("replace", str(text), [old, new])
    return str(text).replace(old, new)


def _refuse(message: str) -> Any:
    raise TemplateError(message)
