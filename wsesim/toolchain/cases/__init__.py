"""The cases of `wsesim validate`: the groups of published rows, and why other rows are not simulated."""

from __future__ import annotations

from collections.abc import Iterator

from wsesim.errors import UnknownNameError
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Band, Case, Group, Validation, validate
from wsesim.toolchain.cases import capacity, collectives, edinburgh, parts, service, waferllm

GROUPS = (
    Group(
        "parts",
        "single PE and fabric",
        Band(2, 6),
        "These rows test one vector operation, one message, or one chain of stages. Each row runs on the machine of "
        "its measurement: silicon, or the vendor's simulator.",
        "The presets take their constants from these rows. So this group tests the engine's arithmetic only.",
    ),
    Group(
        collectives.STRAIGHT,
        "chain, star and broadcast on a line, against HPDC'24's formulas",
        Band(1, 3),
        "These rows test messages, ramps and queues of one line: P from 4 to 512 PEs, B from 1 to 1024 wavelets.",
        "The machine is wse2, without the cycles to launch an operation, which the formulas leave out. The star's "
        "formula also leaves out one hop, to the nearest PE. This hop is one cycle, a large part of the shortest "
        "stars.",
        shown=8,
    ),
    Group(
        collectives.ROUNDS,
        "tree, two phases and ring on a line, against HPDC'24's formulas",
        Band(10, 25),
        "These rows test how well messages of several PEs overlap, over the same grid of P and B.",
        "The machine is the same as in the group before. The formulas estimate cycles from contention and distance. "
        "The simulation may be slower or faster. The formula of two phases is the table's general model, with groups "
        "of sqrt(P) PEs.",
        shown=8,
    ),
    Group(
        edinburgh.LAYER,
        "a layer of Qwen3-4B on a CS-3 and its phases, at 2K",
        Band(8, 20),
        "These rows test the kernels of a real decode step on silicon: products, AllReduces, norms of heads, and "
        "softmax. The block has 256 x 256 PEs. A phase is timed within a layer that follows an equal layer.",
        "The machine is wse3, the software edinburgh. Rows of nine layers at batch 1 and 2 decide what a slot and an "
        "element of SiLU cost.",
    ),
    Group(
        edinburgh.CONTEXT,
        "Qwen3-4B by context, 512 to 23K",
        Band(5, 10),
        "These rows test how attention grows with the context. A modelled decode step has two parts: 36 simulated "
        "layers, and a constant for all else (head, tail, strips between blocks). The constant comes from one "
        "measured step at 2K.",
        "The machine is wse3, the software edinburgh.",
    ),
    Group(
        edinburgh.MODEL_9B,
        "a full-attention layer of Qwen3.5-9B on a CS-3",
        Band(15, 15),
        "This row tests the same kernels with other dimensions and other software. The output gate is timed as a "
        "SwiGLU.",
        "The machine is wse3, the software edinburgh-9b. The kernels of this program are not published.",
    ),
    Group(
        "waferllm",
        "WaferLLM's decode layers of LLaMA3-8B and Qwen2-72B on a WSE-2",
        Band(4, 9),
        "These rows test a whole layer on three grids, padded as in the measurement. More cores are slower.",
        "The machine is wse2, the software waferllm. The rows of LLaMA3-8B decide what a stage of a collective costs.",
    ),
    Group(
        "meshgemm",
        "MeshGEMM on 3 x 3 PEs in the vendor's simulator",
        Band(5, 15),
        "These rows test a distributed matrix product of 1 to 16 tokens a PE. In each step, a PE multiplies its tiles "
        "L times (0, 1 or 2). The tiles move if comm is True.",
        "The machine is wse3-simulator, the software simfab-gemm. The scalar instructions are counted in the published "
        "program, one cycle each.",
    ),
    Group(
        "waferllm-prefill",
        "WaferLLM's prefill of 4K tokens on a WSE-2",
        Band(6, 12),
        "These rows test a layer of a prompt on three grids, padded as in the measurement: eight products by MeshGEMM, "
        "their alignments, softmax and norms.",
        "The machine is wse2, the software waferllm. The rows of LLaMA3-8B and Qwen2-72B decide what a vector "
        "operation of a WSE-2 costs, and a turn of the product's loop.",
    ),
    Group(
        "waferllm-e2e",
        "WaferLLM's LLaMA3-8B requests on a WSE-2: prefill on 660 x 660, decode on 360 x 360",
        Band(6, 15),
        "These rows test whole requests: the prompt and the tokens after it.",
        "Machine and software are those of the two groups of WaferLLM before. The measurement leaves out the time "
        "to move weights and KV cache from one grid to the other.",
    ),
    Group(
        "waferllm-inferred",
        "Prompt and token of these requests, apart",
        Band(8, 20),
        "Nobody measured these times. They are solved from the rates of the requests, under the assumption that every "
        "token takes the same time.",
        "Machine and software are the same as before.",
    ),
    Group(
        "kv-capacity",
        "longest sequence of WaferLLM's LLaMA3-8B on a WSE-2, decode grid 360 x 360",
        None,
        "These rows test the bytes of the fullest PE: weights, buffers, K and V of one padded layer, laid out as in "
        "WaferLLM's decode kernel.",
        "The machine is wse2, unchanged. Its 24,576 bytes of code are an assumption. 256 bytes more or less change the "
        "result by five tokens for each of the 360 lines of PEs.",
    ),
    Group(
        "service",
        "Cerebras Inference, llama3.1-8b",
        None,
        "These rows compare times that the service reports with those of this compiler's own placement.",
        "The machine is wse3 at 750 MHz. The service's clock, placement and kernels are not public.",
    ),
)


def run_validation(only: str | None = None, row: str | None = None) -> Validation:
    """All groups, or the one that is named, or the row of an id as `waferllm_t3_prefill:7`. Raises UnknownNameError."""
    names = [group.name for group in GROUPS]
    if only is not None and only not in names:
        raise UnknownNameError("group", only, names)
    chosen = [case for case in cases() if only in (None, case.group) and row in (None, case.measurement.id)]
    if row is not None and not chosen:
        simulated = [case.measurement for case in cases() if case.measurement.table == row.rpartition(":")[0]]
        known = [m.id for m in simulated] or sorted({f"{case.measurement.table}:N" for case in cases()})
        raise UnknownNameError("row", row, list(dict.fromkeys(known)))
    return validate(GROUPS, chosen, left_out() if row is None else ())


def cases() -> Iterator[Case]:
    """Every case of every group."""
    for measurement in measurements():
        yield from collectives.cases(measurement)
        yield from service.cases(measurement)
        for make in (parts.case, edinburgh.case, waferllm.case, capacity.case):
            found = make(measurement)
            if found is not None:
                yield found
                break


def left_out() -> Iterator[tuple[Measurement, str]]:
    """Every row that is not simulated, with the reason."""
    taken = {id(case.measurement) for case in cases()}
    for measurement in measurements():
        if id(measurement) not in taken:
            yield measurement, _reason(measurement)


def _reason(measurement: Measurement) -> str:
    by_metric = {
        "padded_config": "a configuration, not a measurement; the rows of layers use it",
        "decode_step": "a whole model; the source does not describe its head and the strips between blocks",
        "step_period": "a whole model; the source does not describe its head and the strips between blocks",
        "two_wafer_lockstep_period": "two wafers",
        "hop_pair_attn_ffn": "a message between two blocks whose place is not stated",
        "softmax_pass": "passes that the software states as its own set-ups",
        "gemv_latency": "the grid is not stated",
        "decode_TPR": "another unit for the runs in the group waferllm, which are simulated",
        "meshgemm_total_span": "a whole program, with its copies to and from the host",
        "broadcast_2D": "a message whose route forks at every column; the engine's messages have one route",
        "reduce_speedup_vs_vendor": "a speedup over a library that is not public",
        "allreduce_speedup_vs_vendor": "a speedup over a library that is not public",
        "autogen_vs_lower_bound": "generated reductions, of which none is published",
    }
    by_table = {
        "ed_qwen3_4b_two_wafers": "two wafers",
        "ed_host_io": "the host: the engine has constants for it, not a model",
        "alcf_wse3_simulator": "scalar code of a PE, which is not modelled",
        "alcf_wse3_silicon": "one direction beyond 32 hops, not explained by its source; bank conflicts, not modelled",
        "hpc_headlines": "another machine or program",
        "cerebras_published_speeds": "a service with unknown placement, speculative decoding or several systems",
        "cerebras_api_time_info": "another model, or several systems",
    }
    return by_metric.get(measurement.metric) or by_table.get(measurement.table, "not expressible")
