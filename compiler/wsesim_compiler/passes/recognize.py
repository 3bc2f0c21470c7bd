"""recognize: canonical Graph -> recognised Graph: the operators that a Llama is made of, every value [T,
features].

Recognition goes by structure and numbers, never by a name: masks, cos and sin tables, the rotation and the
split into heads are computed on a small input and compared with their formulas. Reshapes, casts and masks
are absorbed.
"""

from __future__ import annotations

from wsesim_compiler.errors import Unsupported, UnsupportedOperatorError
from wsesim_compiler.ir import Graph
from wsesim_compiler.operators.operator import RECOGNIZED
from wsesim_compiler.patterns.attention import Refused, recognize_attention
from wsesim_compiler.patterns.flatten import flatten
from wsesim_compiler.patterns.linear import recognize_linear
from wsesim_compiler.patterns.matching import Matcher
from wsesim_compiler.patterns.rename import renamed
from wsesim_compiler.patterns.rmsnorm import recognize_rmsnorm
from wsesim_compiler.patterns.swiglu import recognize_swiglu
from wsesim_compiler.verify import verify


def recognize(graph: Graph) -> Graph:
    """The model in the recognised vocabulary (wsesim_compiler.ops), in an order and with names of its own.

    Raises UnsupportedOperatorError with every operator that is left over, and why attention was not
    recognised.
    """
    graph = recognize_linear(graph)
    graph = recognize_rmsnorm(graph)
    graph = recognize_swiglu(graph)
    graph, refused = recognize_attention(graph)
    flat, left = flatten(graph)
    if refused or left:
        raise UnsupportedOperatorError(graph.name, _unsupported(graph, refused, left))
    result = renamed(flat)
    verify(result, RECOGNIZED)
    return result


def _unsupported(
    graph: Graph, refused: tuple[Refused, ...], left: tuple[tuple[str, Unsupported], ...]
) -> list[Unsupported]:
    """Refused attentions, and what is left over for another reason than belonging to one."""
    explained = Matcher(graph).static.union(*(attention.covered for attention in refused))
    return [a.unsupported for a in refused] + [what for name, what in left if name not in explained]
