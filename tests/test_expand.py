"""expand: tasks and messages of collectives, kernels and transfers, against cycles calculated by hand."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from tests.programs import NORMED, UNTIED, program
from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.collective import adding, all_reduce, broadcast, reduce, routes_name
from wsesim.engine.expand.kernel_costs import Site, stage_parts
from wsesim.engine.expand.stage import expand_stage
from wsesim.engine.expand.transfer import expand_feedback, expand_transfer
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.graph.taskgraph import REROUTE, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.machine import Machine, Rect, load_machine
from wsesim.machine.parts import SlowPE
from wsesim.program import Program
from wsesim.program.collectives import ALGORITHMS, COLLECTIVES
from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    Embed,
    FlashSum,
    Kernel,
    Linear,
    Output,
    QKNorm,
    RMSNorm,
    Sample,
    Score,
    Softmax,
    WeightedSum,
    WeightRef,
)
from wsesim.program.kv import POLICIES, KVCache
from wsesim.program.layout import Heads, Uniform, ceil_div
from wsesim.program.operands import CANDIDATE_ELEMENTS, ID_ELEMENTS
from wsesim.program.parts import Block, Transfer
from wsesim.program.routes import entry_pe, sampler_pe
from wsesim.program.written import is_folded
from wsesim.software import WSESIM
from wsesim_models.config import LlamaConfig

TOY = load_machine("toy4x4")
NO_WEIGHT = WeightRef("", 0, 0)
CONTEXT = 20
CANDIDATES = 4
PLACES = [(machine, strategy) for machine in ("toy4x4", "wse2", "wse3") for strategy in ("pipelined", "shared")]


def column(length: int) -> Block:
    """A column of PEs, north to south; the residual stream is split along it."""
    return Block("line", 0, 0, 1, length, "rows")


def canvas_of(block: Block, machine: Machine = TOY, tokens: int = 1) -> Canvas:
    return Canvas(block.rect, machine, "fp16", tokens)


def draw(canvas: Canvas, kernel: Kernel, site: Site) -> None:
    for part in stage_parts((kernel,), site.software):
        part.draw(canvas, site)


def last_ends(graph: TaskGraph, machine: Machine = TOY) -> list[int]:
    """End of each PE's last task, 0 for a PE without tasks."""
    verify(graph)
    timeline = simulate(graph, machine.fabric)
    return [int(timeline.task_end[graph.pe == pe].max(initial=0)) for pe in range(graph.pes)]


# By hand. On toy4x4 a task starts `activate` 1 cycle after its input is complete; a message takes ramp out 1, a cycle
# a hop, its length D, ramp in 1; adding goes at the pace of the link (2 fp16 a cycle, a wavelet holds 2).
#
# Four elements (D = 2). A merge begins at B; the next one, h hops away, begins at B + (1 + h + 2 + 1) + 1 and ends 2
# later; the first PE begins at 1.
#   chain of 4      begins 1, 7, 13, 19; the last ends at 21.   chain of 16: begins 1 + 15 * 6 = 91, ends 93
#   two_phase of 4  0 -> 1 and 2 -> 3 at once: both begin 7, end 9. 1 -> 3 is two hops: begins 7 + 6 + 1 = 14, ends 16
#   two_phase of 16 groups of 4 around 2, 6, 10, 14. In each: the one from the south begins 7, ends 9; then the chain of
#                   3 from the north begins 13, ends 15. Roots, 4 hops apart: 2 -> 6 begins 13 + 8 + 1 = 22, ends 24, so
#                   does 14 -> 10; then 6 -> 10 begins 31, ends 33
REDUCED = [
    (4, "chain", [1, 9, 15, 21]),
    (4, "two_phase", [1, 9, 1, 16]),
    (16, "chain", [1, *range(9, 94, 6)]),
    (16, "two_phase", [1, 9, 15, 1, 1, 9, 24, 1, 1, 9, 33, 1, 1, 9, 15, 1]),
    (4, "star", [1, 1, 15, 1]),
    (4, "streamed_chain", [1, 7, 11, 15]),
    (4, "streamed_star", [1, 1, 11, 1]),
    (4, "streamed_tree", [12, 1, 7, 1]),
]
# Star of 4 around PE 2: all begin at 1; PE 1's and PE 3's sums are at its router at 3 and queue for the ramp, until 5
# and 7; PE 0's follows PE 1's on the link into 2, and is the last. Complete at 6, 8 and 10: begins 7, 10, 13, each adds
# for 2 before the next one is started.
#
# Streamed, a PE is set up (1) before its wavelets come, begins at the head and has each result 1 later.
#   chain of 4      heads at 4, 8, 12: sent on at 5 and 9; a PE ends 2 + 1 after its head
#   star of 4       heads 4, 6 and 8, added as they come in one operation: ends 8 + 2 + 1
#   tree of 4       PE 2 takes PE 3's at 4, sends it on at 5: two hops, head at 9; PE 0 has PE 1's from 4 to 6


@pytest.mark.parametrize(("length", "algorithm", "ends"), REDUCED)
def test_reduction_by_hand(length: int, algorithm: str, ends: list[int]) -> None:
    canvas = canvas_of(column(length))
    root = reduce(canvas, canvas.lines(column(length), ALONG, 1), length, adding(4), algorithm, "sum")
    assert last_ends(canvas.builder.build()) == ends
    assert ends[root] == max(ends)


def test_a_ring_by_hand() -> None:
    """Four elements around 0, 2, 3, 1: one element, one wavelet a message, a send begins at 1.

    A stage begins h + 4 after the one before it, over h hops; a PE goes over 2 and 1 hops by turns. Begins of the
    second round 6 or 7, of the third 12, of the fourth 17 (one hop) or 18, ends 1 later; copies sent off at 19 or 20,
    then 25, then 30 (one hop) or 31, and the last is there, over the other number of hops, at 36.
    """
    canvas = canvas_of(column(4))
    all_reduce(canvas, canvas.lines(column(4), ALONG, 1), 4, 4, "ring", "sum")
    assert last_ends(canvas.builder.build()) == [36] * 4


@pytest.mark.parametrize("collective", [*COLLECTIVES, "two_phase:3"])
@pytest.mark.parametrize(("used", "elements", "tokens"), [(1, 5, 1), (2, 5, 1), (9, 5, 1), (9, 60, 3), (16, 1, 1)])
def test_an_all_reduce_reaches_everybody(collective: str, used: int, elements: int, tokens: int) -> None:
    """used - 1 sums and 15 copies; around a ring every range twice, and from there to those that have no share."""
    canvas = canvas_of(column(16), tokens=tokens)
    all_reduce(canvas, canvas.lines(column(16), ALONG, 1), used, elements, collective, "sum")
    graph = canvas.builder.build()
    last_ends(graph)
    ring = collective.endswith("ring") and used > 1
    ranges = min(used, elements // tokens)
    assert graph.drop_count == (2 * ranges * (used - 1) + 16 - used if ring else used - 1 + 15)
    assert set(np.unique(graph.drop_task).tolist()) == set(np.flatnonzero(graph.input_counts()).tolist())
    assert np.unique(graph.pe).size == 16


@pytest.mark.parametrize("collective", ALGORITHMS)
def test_streaming_pays_the_length_once(collective: str) -> None:
    """A longer vector costs a streamed reduction no more than what its busiest PE receives of it."""
    received = {"chain": 1, "star": 15, "tree": 4, "two_phase": 4, "two_phase_end": 2, "ring": 1}[collective]

    def cycles(staging: str, elements: int) -> int:
        canvas = canvas_of(column(16))
        reduce(canvas, canvas.lines(column(16), ALONG, 1), 16, adding(elements), staging + collective, "sum")
        return max(last_ends(canvas.builder.build()))

    longer = cycles("streamed_", 2000) - cycles("streamed_", 1000)
    assert longer == received * 500
    assert cycles("", 2000) - cycles("", 1000) >= longer


# The root begins at 1. At distance h the message is complete at 1 + 1 + h + 2 + 1 = 5 + h, its task ends 1 later.
@pytest.mark.parametrize(("root", "ends"), [(3, [9, 8, 7, 1]), (1, [7, 1, 7, 8]), (0, [1, 7, 8, 9])])
def test_broadcast_by_hand(root: int, ends: list[int]) -> None:
    canvas = canvas_of(column(4))
    broadcast(canvas, canvas.lines(column(4), ALONG, 1), root, 4, "copy")
    assert last_ends(canvas.builder.build()) == ends


NORM = RMSNorm("norm", "line", "x", "y", NO_WEIGHT, Uniform(8, 4), 1e-5, "chain")
LINEAR = Linear("o", "line", "x", Uniform(8, 4), ALONG, (Output("y", NO_WEIGHT, Uniform(4, 1)),), "chain", True)
HEAD = dataclasses.replace(LINEAR, broadcast=False)
# Norm of 8 elements on 4 PEs: two squares 1 + 2, their sum 1 + 2: 6. Sum of one element (D = 1): begins 7, 12, 17, 22,
# ends 23. Back from PE 3: begins 24, ends at distance h at 24 + 1 + h + 1 + 1 + 1. rsqrt 1 + 4, two products
# 1 + (1 + 2 * 2): 11 more.
NORM_ENDS = [31 + 11, 30 + 11, 29 + 11, 24 + 11]
# Linear, 8 inputs on 4 PEs, 4 outputs: zeros 1 + 4, two FMAs of 4 elements 2 + (1 + 2 * 4): 16, then the chain above,
# ends 16 + 21 = 37, and back: begins 38, ends at distance h at 38 + 5 + h.
LINEAR_ENDS = [46, 45, 44, 38]
# Three tokens: twelve zeros 1 + 12, six FMAs 2 + (5 + 24): 44. D = 6: begins 45, then every 1 + 1 + 6 + 1 + 1 = 10,
# ends 75 + 6 = 81, and back: begins 82, ends at distance h at 82 + 9 + h.
LINEAR_3_ENDS = [94, 93, 92, 82]
# A bias of four elements: 1 + 4 more, on every PE that has the sums.
BIASED = (Output("y", NO_WEIGHT, Uniform(4, 1), NO_WEIGHT),)
KERNELS = [
    (NORM, 1, NORM_ENDS),
    (dataclasses.replace(LINEAR, outputs=BIASED), 1, [end + 5 for end in LINEAR_ENDS]),
    (dataclasses.replace(LINEAR, outputs=BIASED), 3, [end + 13 for end in LINEAR_3_ENDS]),
    (dataclasses.replace(HEAD, outputs=BIASED), 1, [17, 25, 31, 37 + 5]),
    (LINEAR, 1, LINEAR_ENDS),
    (LINEAR, 3, LINEAR_3_ENDS),
    (HEAD, 1, [17, 25, 31, 37]),  # the chain, 16 later, and nothing back
]


def kernel_graph(kernel: Kernel, tokens: int = 1, machine: Machine = TOY, configured: str = "") -> TaskGraph:
    canvas = canvas_of(column(4), machine, tokens)
    canvas.configured = configured
    draw(canvas, kernel, Site(column(4), 1, 1, (0, 0), 0, WSESIM))
    return canvas.builder.build()


@pytest.mark.parametrize(("kernel", "tokens", "ends"), KERNELS)
def test_kernel_by_hand(kernel: Kernel, tokens: int, ends: list[int]) -> None:
    assert last_ends(kernel_graph(kernel, tokens)) == ends


# Heads of 8 features on 4 PEs of a row, two of queries and one of keys: squares of three times two elements on each PE
# 1 + 6, three turns of a loop (2) around their sums 1 + 3 * (2 + 2): 20. Chain of three elements (D = 2): begins 21,
# 27, 33, 39, ends 41, and back: begins 42, ends at distance h at 42 + 5 + h. Three rsqrt 1 + 12, then three turns
# around two products of two elements, 1 + (5 + 6 * 2) + 3 * 2.
QUERIES, KEYS = Heads(1, 2, 8, 4, "half"), Heads(1, 1, 8, 4, "half")
QK_NORM = QKNorm("qk_norm", "row", ("q", "k"), ("a", "b"), (QUERIES, KEYS), (NO_WEIGHT,) * 2, (1e-5,) * 2, "chain")
QK_NORM_ENDS = [50 + 37, 49 + 37, 48 + 37, 42 + 37]


def test_norm_of_heads_by_hand() -> None:
    assert QUERIES.segment == 4 and QUERIES.heads == 2 and QUERIES.features == 2
    assert last_ends(row_graph(QK_NORM)) == QK_NORM_ENDS


def row_graph(kernel: Kernel, tokens: int = 1, context: int = 1) -> TaskGraph:
    """A kernel on a row of four PEs: one line along, four positions across."""
    block = Block("row", 0, 0, 4, 1, "rows")
    canvas = canvas_of(block, TOY, tokens)
    draw(canvas, kernel, Site(block, context, 1, (0, 0), 0, WSESIM))
    return canvas.builder.build()


def test_norms_of_heads_on_one_position_need_no_collective() -> None:
    whole = tuple(dataclasses.replace(layout, parts=1) for layout in QK_NORM.layouts)
    graph = row_graph(dataclasses.replace(QK_NORM, layouts=whole))
    assert graph.message_count == 0 and graph.task_count == 4


ONE_HEAD = Heads(1, 1, 8, 1, "half")
WEIGHTED_SUM = WeightedSum("pv", "line", "p", "v", "y", ONE_HEAD, ONE_HEAD, "chain")


@pytest.mark.parametrize(("dtype", "wavelets"), [(None, 8), ("int8", 4)])
def test_a_shifting_cache_is_one_message_to_the_neighbour(dtype: str | None, wavelets: int) -> None:
    """K and V of 8 features each are 16 elements, two fp16 or four int8 a wavelet; the northern PE sends none."""
    still, shifting = (
        kernel_graph(dataclasses.replace(WEIGHTED_SUM, cache=KVCache(policy, dtype)))
        for policy in ("interleaved", "shift")
    )
    more = deliveries(shifting)
    more.subtract(deliveries(still))
    assert +more == {("pv", wavelets): 3}
    assert shifting.message_count == still.message_count + 3


def test_a_shift_by_hand() -> None:
    """After the sum every PE but the first begins to send a cycle later; 1 + 1 + 8 + 1 later all is there, one more and
    its task ends. The chain's root, last in line, only sends: three wavelets of its broadcast are still to leave then.
    """
    still = last_ends(kernel_graph(WEIGHTED_SUM))
    shifting = last_ends(kernel_graph(dataclasses.replace(WEIGHTED_SUM, cache=KVCache("shift"))))
    begins = [end + 1 for end in still[1:]]
    arrivals = [begin + 1 + 1 + 8 + 1 + 1 for begin in begins]
    arrivals[-1] += 3
    own = [still[0], *begins[:-1]]
    assert shifting[:-1] == [max(arrival, busy) for arrival, busy in zip(arrivals, own, strict=True)]
    assert shifting[-1] == begins[-1]


@pytest.mark.parametrize("policy", POLICIES)
def test_contexts_with_as_many_positions_on_the_fullest_line_share_a_graph(policy: str) -> None:
    """Where all lie on one line, every context has its own."""
    made = program("tiny", "wse3", kv=policy, block=(4, 4))
    along, stage = made.block("layer0").along, made.stages[1]
    one, full, more = (
        expand_stage(made, stage, 1, context, 1).plan for context in (along + 1, 2 * along, 2 * along + 1)
    )
    assert (one is full) == (policy != "concat")
    assert more is not full


# One position and one head of 8 features on each of 4 PEs. V appended 1 + 8; maximum, difference and sum of one score
# 2 each, its exponential 1 + 4; 8 zeros 1 + 8, one FMA of 8 elements 2 + 8: 39. Maximum of one element (D = 1): begins
# 40, 45, 50, 55, ends 56, and back: begins 57, ends at distance h at 57 + 4 + h: 64 on PE 0. Difference 2, exponential
# 5, scale of 8 values and a sum 1 + 9: begins to send at 82. Nine elements (D = 5): the others begin at 91, 100, 109,
# the root ends at 114, and back: begins 115, ends at distance h at 115 + 8 + h. One quotient 1 + 4, times 8 values
# 1 + 8. One head: no loop.
FLASH = FlashSum("flash", "line", "s", "v", "y", ONE_HEAD, ONE_HEAD, "chain")


def test_flash_sum_by_hand() -> None:
    assert last_ends(kernel_graph(FLASH)) == [126 + 14, 125 + 14, 124 + 14, 115 + 14]


@pytest.mark.parametrize("there", [(ACROSS, "chain"), (ALONG, "tree"), (ALONG, "two_phase:2")])
def test_other_routes_cost_one_reroute(there: tuple[str, str]) -> None:
    """toy4x4's 10 cycles stand between the PEs' own sums and their sum, on every PE."""
    assert last_ends(kernel_graph(NORM, configured=routes_name(*there))) == [end + 10 for end in NORM_ENDS]


def test_routes_in_place_cost_nothing() -> None:
    """A chain's, streamed or not."""
    for collective in ("chain", "streamed_chain"):
        assert last_ends(kernel_graph(NORM, configured=routes_name(ALONG, collective))) == NORM_ENDS


# One PE at 3/2, its zeros take 1 + 6, its FMAs 2 + 14 (13.5 rounded up): 23. PE 0: it begins to send 7 later, so
# everything behind it is 7 later. PE 1: PE 0's sum is there at 22, the PE is free at 23; it begins at 24 instead of 23,
# adds for 3 instead of 2 and sends its last wavelet two cycles late, and so is everything behind it.
@pytest.mark.parametrize(("slow", "later"), [(0, 7), (1, 2)])
def test_straggler_by_hand(slow: int, later: int) -> None:
    machine = dataclasses.replace(TOY, slow=(SlowPE(0, slow, Fraction(3, 2)),))
    assert last_ends(kernel_graph(LINEAR, machine=machine), machine) == [end + later for end in LINEAR_ENDS]


# Lines go along for the norms, qkv, softmax, weighted sum and gate_up, across for o and down; a head split over
# several PEs sums its scores over a segment. A layer begins with the routes that the one before it, or the token
# before it, left behind: along, (segment, along,) across, along, across and back are 4 (6) changes.
@pytest.mark.parametrize(("model", "machine", "reroutes"), [("tiny", "toy4x4", 4), ("smollm2-135m", "wse3", 6)])
def test_reroutes_of_a_layer_by_hand(model: str, machine: str, reroutes: int) -> None:
    made = program(model, machine)
    graph = expand_stage(made, made.stages[1], 1, CONTEXT, 1).plan.graph
    rerouting = np.array([operation.op == REROUTE for operation in graph.operations])[graph.operation]
    on_each_pe = np.bincount(graph.pe[rerouting], minlength=graph.pes)
    assert on_each_pe.max() == reroutes
    assert set(graph.work[rerouting]) == {made.software.change_cycles(made.machine)}


def test_straight_transfer_by_hand() -> None:
    """tiny on toy4x4, layer0 (2 x 3 at (0, 1)) to layer1 (at (2, 1)): 32 elements on 3 lines are 11 a line, 6 wavelets.

    The eastern PEs begin at 1; h hops on the line is complete at 1 + 1 + h + 6 + 1, its task ends 1 later.
    """
    made = program("tiny", "toy4x4")
    transfer = next(t for t in made.transfers if t.kind == "straight")
    segment = expand_transfer(made, transfer, 1)
    assert segment.window == Rect(1, 1, 3, 3)  # from the sending column on
    assert last_ends(segment.plan.graph) == [1, 11, 12] * 3


def test_feedback_by_hand() -> None:
    """Untied tiny on wse3: the id is one wavelet, D = ceil(9/8) = 2; a copy is launched in 15, a task started in 5."""
    made = program(UNTIED, "wse3")
    segment = expand_feedback(made)
    (x, y), (to_x, to_y) = sampler_pe(made), entry_pe(made)
    hops = abs(to_x - x) + abs(to_y - y)
    assert segment is not None and hops > 0
    turn = 20 if to_x != x and to_y != y else 0
    assert max(last_ends(segment.plan.graph, made.machine)) == 15 + 7 + 2 * hops + turn + 2 + 3 + 5


def test_no_feedback_where_sampler_and_entry_are_one_pe() -> None:
    made = program("tiny", "toy4x4")
    assert sampler_pe(made) == entry_pe(made)
    assert expand_feedback(made) is None


def deliveries(graph: TaskGraph) -> Counter[tuple[str, int]]:
    """How often a message of so many wavelets is dropped, by (operator, wavelets)."""
    labels = [graph.operation_of(task).label for task in graph.drop_task]
    return Counter(zip(labels, graph.wavelets[graph.drop_message()].tolist(), strict=True))


def expected_deliveries(made: Program, kernel: Kernel, tokens: int) -> list[tuple[int, int]]:
    """(drops, elements) of each collective: on a line of n PEs, u of which have a share, a sum is received u - 1
    times on its way to the root, and n - 1 times on its way back."""
    block = made.block(kernel.block)
    along, across = block.along, block.across
    positions = ceil_div(CONTEXT, along)
    match kernel:
        case Embed():
            ids = (across - 1) + across * (along - 1)
            return [(ids, tokens * ID_ELEMENTS), (kernel.layout.used * (across - 1), tokens * kernel.layout.width)]
        case RMSNorm():
            folded = is_folded(kernel, made.software)
            return [] if folded else [(across * (kernel.layout.used - 1 + along - 1), tokens)]
        case Linear():
            lines = max(output.layout.used for output in kernel.outputs)
            back = (along if kernel.axis == ALONG else across) - 1 if kernel.broadcast else 0
            norms = [k for k in made.kernels if k.makes[0].value == kernel.source and is_folded(k, made.software)]
            elements = tokens * (sum(output.layout.width for output in kernel.outputs) + 2 * len(norms))
            return [(lines * (kernel.layout.used - 1 + back), elements)]
        case QKNorm():
            layout = kernel.layouts[0]
            parts = layout.used // layout.segment * along
            return [(parts * 2 * (layout.segment - 1), tokens * sum(map(heads_of, kernel.layouts)))]
        case Score():
            layout = kernel.query_layout
            parts = layout.used // layout.segment * along
            return [(parts * 2 * (layout.segment - 1), tokens * heads_of(layout) * positions)]
        case Softmax():
            return [(2 * kernel.layout.used * 2 * (along - 1), tokens * heads_of(kernel.layout))]
        case FlashSum():
            lines, heads = kernel.layout.used * 2 * (along - 1), tokens * heads_of(kernel.layout)
            return [(lines, heads), (lines, heads + tokens * kernel.layout.width)]
        case WeightedSum():
            return [(kernel.layout.used * 2 * (along - 1), tokens * kernel.layout.width)]
        case Sample():
            return [(kernel.layout.used - 1, tokens * CANDIDATE_ELEMENTS * CANDIDATES)]
        case _:
            return []


def heads_of(layout: Heads) -> int:
    return layout.groups_per_position * layout.repeat


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("model", ["tiny", NORMED], ids=["tiny", "normed"])
@pytest.mark.parametrize(("machine", "strategy"), PLACES)
def test_every_wavelet_that_a_stage_sends_is_received(
    machine: str, strategy: str, model: str | LlamaConfig, tokens: int
) -> None:
    # each sum is one message
    options = {"softmax": "two_pass" if model == "tiny" else "fused", "collective": "streamed_two_phase"}
    made = program(model, machine, strategy, **options)
    for stage in made.stages:
        graph = expand_stage(made, stage, tokens, CONTEXT, CANDIDATES).plan.graph
        expected: Counter[tuple[str, int]] = Counter()
        for kernel in made.kernels_in(stage):
            for drops, elements in expected_deliveries(made, kernel, tokens):
                expected[kernel.role, made.machine.wavelets(elements, "fp16")] += drops
        assert deliveries(graph) == +expected
        assert_each_message_arrives(graph, made.machine)


def assert_each_message_arrives(graph: TaskGraph, machine: Machine) -> None:
    """The last drop is at the route's end, and each drop's tail comes no sooner than its length after its head left."""
    assert graph.message_count == np.unique(graph.drop_message()).size
    last = graph.drop_ptr[1:] - 1
    assert (graph.drop_hop[last] == graph.hops1 + graph.hops2).all()
    timeline = simulate(graph, machine.fabric)
    fabric, message = machine.fabric, graph.drop_message()
    lasts = -(-graph.wavelets[message] * fabric.wavelet_numerator // fabric.wavelet_denominator)
    way = fabric.ramp_send_cycles + graph.drop_hop * fabric.hop_cycles + fabric.ramp_receive_cycles
    assert (timeline.drop_tail >= timeline.message_head[message] + way + lasts).all()


@pytest.mark.parametrize(("machine", "strategy"), PLACES)
def test_a_transfer_brings_every_line_its_whole_share(machine: str, strategy: str) -> None:
    """Each PE of the target receives its line's share of the residual, in as many pieces as source lines hold it."""
    made = program("tiny", machine, strategy)
    assert made.transfers
    for transfer in made.transfers:
        segment = expand_transfer(made, transfer, 2)
        graph, block = segment.plan.graph, made.block(transfer.target)
        got = np.bincount(graph.pe[graph.drop_task], graph.wavelets[graph.drop_message()], graph.pes)
        got = got.reshape(segment.window.rows, segment.window.columns)
        x, y = block.x - segment.window.x, block.y - segment.window.y
        lines = got[y : y + transfer.target_layout.used, x : x + block.columns]
        shares = [line_wavelets(made, transfer, line, tokens=2) for line in range(transfer.target_layout.used)]
        assert (lines == np.array(shares)[:, None]).all()
        assert got.sum() == lines.sum()  # nobody else receives


def line_wavelets(made: Program, transfer: Transfer, line: int, tokens: int) -> int:
    """A straight line brings the whole width, padding included; pieces bring what source and target line share."""
    source, target = transfer.source_layout, transfer.target_layout
    if transfer.kind == "straight":
        return made.machine.wavelets(tokens * target.width, "fp16")
    start, stop = line * target.width, min((line + 1) * target.width, target.size)
    pieces = [min(stop, (other + 1) * source.width) - max(start, other * source.width) for other in range(source.used)]
    return sum(made.machine.wavelets(tokens * piece, "fp16") for piece in pieces if piece > 0)


def test_equal_stages_share_one_graph_and_unequal_ones_do_not() -> None:
    made = program("smollm2-135m", "wse3")
    first, second = (expand_stage(made, stage, 1, 1, 1) for stage in made.stages[1:3])
    assert first.window != second.window
    assert first.plan is second.plan
    x, y = second.window.x + 1, second.window.y + 1
    slow = dataclasses.replace(made, machine=dataclasses.replace(made.machine, slow=(SlowPE(x, y, Fraction(2)),)))
    first, second = (expand_stage(slow, stage, 1, 1, 1) for stage in slow.stages[1:3])
    assert first.plan is not second.plan
    graphs = [segment.plan.graph for segment in (first, second)]
    computes = [np.array([o.computes for o in graph.operations])[graph.operation] for graph in graphs]
    work = [graph.work[own].sum() for graph, own in zip(graphs, computes, strict=True)]
    assert work[0] < work[1]
