"""The operators of a model, looked through before anything else is read: what no rule reads is said at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wsesim_compiler.errors import Unsupported, UnsupportedOperatorError


def refuse_unknown(model: str, operators: Iterable[tuple[str, str]], known: Callable[[str], bool]) -> None:
    """Raises UnsupportedOperatorError with every operator for which there is no rule.

    operators: name and source of each node that the model's output depends on.
    """
    unknown = [Unsupported(operator, source, "") for operator, source in operators if not known(operator)]
    if unknown:
        raise UnsupportedOperatorError(model, unknown)
