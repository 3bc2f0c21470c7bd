"""A Partition's text parses back, and what breaks a rule of partitions is refused with the rule and the place."""

from __future__ import annotations

import re

import pytest

from tests.programs import NORMED, recognised_graph
from wsesim_compiler.errors import GraphSyntaxError, PartitionError
from wsesim_compiler.lower import from_text
from wsesim_compiler.partition import Partition
from wsesim_compiler.partition_rules import RULES, verify_partition
from wsesim_compiler.partition_text import is_partition, parse_partition
from wsesim_compiler.passes.partition import partition
from wsesim_models.config import CONFIGS, LlamaConfig


def split(config: LlamaConfig = CONFIGS["tiny"]) -> Partition:
    return partition(recognised_graph(config))


@pytest.mark.parametrize("config", [CONFIGS["tiny"], NORMED, CONFIGS["smollm2-135m"]], ids=lambda c: c.name)
def test_the_text_parses_back(config: LlamaConfig) -> None:
    made = split(config)
    text = str(made)
    assert is_partition(text) and not is_partition(str(made.graph))
    assert parse_partition(text) == made == from_text(text) == from_text(str(made.graph))
    verify_partition(made)


def edited(*changes: tuple[str, str]) -> Partition:
    """tiny's partition, its text changed at one place each."""
    text = str(split())
    for old, new in changes:
        assert len(re.findall(old, text)) == 1, old
        text = re.sub(old, new, text)
    return parse_partition(text)


O_OF_LAYER_0 = r"  o : %linear_3 along\n"
BREAKERS = {
    "stages are embed, at least one layer, and head, each with a name of its own": [
        [("stage layer1 layer", "stage layer0 layer")],
        [("stage head head", "stage head layer")],
    ],
    "every node is in one stage, once": [
        [(O_OF_LAYER_0, "")],
        [(r"  o : %linear_10 along", "  o : %linear_10 along, %linear_3 along")],
    ],
    "a kernel is one node, linears of one source, or norms or rotations of heads": [
        [(r"  swiglu : %swiglu_0 across\n  down : %linear_6 along", "  swiglu : %swiglu_0 across, %linear_6 along")],
    ],
    "a node comes after what it reads": [
        [(O_OF_LAYER_0, ""), (r"(  attn_add : %add_0.*\n)", r"\1  o : %linear_3 along\n")],
    ],
    "a stage takes the value that the one before leaves, and no other": [
        [("from %add_1 to %add_3", "from %add_0 to %add_3")],
        [("from %embedding_0 to %add_1", "from %embedding_0 to %add_0"), ("from %add_1 to", "from %add_0 to")],
    ],
    "a linear moves its result to the other axis, everything else keeps its operands', the embedding is along": [
        [(O_OF_LAYER_0, "  o : %linear_3 across\n")],
        [("table : %embedding_0 along", "table : %embedding_0 across")],
        [("swiglu : %swiglu_0 across", "swiglu : %swiglu_0 around")],
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "changes"),
    [(rule, changes) for rule, ways in BREAKERS.items() for changes in ways],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_rule_is_said(rule: str, changes: list[tuple[str, str]]) -> None:
    with pytest.raises(PartitionError, match=re.escape(rule)):
        verify_partition(edited(*changes))


def test_every_rule_has_its_breakers() -> None:
    assert [rule for rule, _ in RULES] == list(BREAKERS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stage layer0 layer from", "stage layer0 layer of", "line 4: expected 'from' and a value"),
        (O_OF_LAYER_0, "  o : %linear_33 along\n", "line 9: %linear_33 is no node of graph tiny"),
        (O_OF_LAYER_0, "  o %linear_3 along\n", "line 9: expected ':'"),
        ("stage embed embed from %tokens to %embedding_0\n", "", "line 2: expected `stage NAME KIND from"),
        (r"\ngraph tiny\n", "\n", "a partition ends with its graph"),
        (r"(%linear_3 : )\[T, 32\]", r"\1[T, T]", "node 'linear_3' of a partition is not \\[T, features\\]"),
        (r"(%linear_3 : )\[T, 32\]", r"\1[T, 1e999]", "a dimension is a whole number below 2\\^62"),
        ("output %head_0", "output %head_0 twice", "line [0-9]+: unexpected 'twice'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises((GraphSyntaxError, PartitionError), match=message):
        edited((old, new))
