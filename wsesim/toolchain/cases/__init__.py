"""The cases of `wsesim validate`: which published rows are simulated, how, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator

from wsesim.errors import UnknownNameError
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Band, Case, Group, Validation, validate
from wsesim.toolchain.cases import capacity, collectives, gemm, layers, parts, service

GROUPS = (
    Group(
        "parts",
        "single PE and fabric",
        Band(2, 6),
        "One vector operation, one message, one chain of stages, each on the profile that it was measured on.",
        "The presets take these very rows: the group holds the engine to its own constants.",
    ),
    Group(
        collectives.STRAIGHT,
        "chain, star and broadcast on a line, against HPDC'24's formulas",
        Band(1, 3),
        "Messages, ramps and queues of one line, P from 4 to 512 PEs, B from 1 to 1024 wavelets.",
        "wse2; what the formulas do not know, launches, is nought. The star's formula leaves out the hop that its "
        "nearest PE is away: one cycle, which is much of the shortest stars.",
        shown=8,
    ),
    Group(
        collectives.ROUNDS,
        "tree, two phases and ring on a line, against HPDC'24's formulas",
        Band(10, 25),
        "Overlap of what several PEs send at once, over the same grid.",
        "As above. The formulas are bounds by contention and distance, which the simulation need not reach or keep to; "
        "the formula of two phases is the table's general model, with groups of sqrt(P).",
        shown=8,
    ),
    Group(
        "qwen3",
        "a Qwen3-4B layer and its phases, and a full-attention layer of Qwen3.5-9B, on a CS-3, block 256 x 256",
        Band(12, 25),
        "Kernels of a real decode on silicon: GEMVs, AllReduces, norms of heads, softmax and their growth with the "
        "context. A phase is timed within a layer that follows one like itself. The 9B layer has other kernels than "
        "the 4B's; its output gate is timed as a SwiGLU.",
        "wse3, unchanged; collectives two_phase, as the layout that the measured kernels follow. The measured kernels "
        "keep sums and softmax in fp32 and have scalar code between their vector operations; neither is modelled.",
    ),
    Group(
        "waferllm",
        "WaferLLM's LLaMA3-8B decode layer on a WSE-2",
        Band(8, 20),
        "A whole layer, padded as theirs, on three grids: more cores are slower.",
        "wse2, unchanged; collectives two_phase.",
    ),
    Group(
        "meshgemm",
        "MeshGEMM on 3 x 3 PEs in the vendor's simulator",
        Band(10, 25),
        "A distributed product of 1 to 16 tokens a PE; a step multiplies never, once or twice, tiles move or not.",
        "wse3-simulator, unchanged; scalar instructions are counted in the published program, one a cycle.",
    ),
    Group(
        "waferllm-prefill",
        "WaferLLM's LLaMA3-8B prefill of 4K tokens on a WSE-2",
        Band(8, 20),
        "Eight products of a layer by MeshGEMM, their alignments, softmax and norms, padded as theirs, on three grids.",
        "wse2, unchanged; collectives two_phase.",
    ),
    Group(
        "waferllm-e2e",
        "WaferLLM's LLaMA3-8B requests on a WSE-2: prefill on 660 x 660, decode on 360 x 360",
        Band(8, 20),
        "Prompt and tokens together, as a request has them.",
        "As the two groups before; what moves weights and cache between the grids is not in the measurement.",
    ),
    Group(
        "waferllm-inferred",
        "Prompt and token of these requests, apart",
        Band(8, 20),
        "Solved from the requests' rates, with a token's time taken as constant: no measurements of their own.",
        "As before. No source says what the vector operations of a WSE-2 cost when they are as short as 4 elements.",
    ),
    Group(
        "kv-capacity",
        "longest sequence of WaferLLM's LLaMA3-8B on a WSE-2, decode grid 360 x 360",
        None,
        "Bytes of the fullest PE: weights, buffers, K and V of one padded layer, as their decode kernel holds them.",
        "wse2, unchanged: 24,576 bytes of code are an assumption, and 256 bytes of it are five tokens a line.",
    ),
    Group(
        "service",
        "Cerebras Inference, llama3.1-8b",
        None,
        "Times that the service reports, beside those of this compiler's own placement.",
        "wse3 at 750 MHz, which is not known to be the service's clock; its placement and kernels are not public.",
    ),
)


def run_validation(only: str | None = None) -> Validation:
    """All groups, or the one that is named. Raises UnknownNameError."""
    names = [group.name for group in GROUPS]
    if only is not None and only not in names:
        raise UnknownNameError("group", only, names)
    chosen = [case for case in cases() if only in (None, case.group)]
    return validate(GROUPS, chosen, left_out())


def cases() -> Iterator[Case]:
    """Every case of every group."""
    for measurement in measurements():
        yield from collectives.cases(measurement)
        yield from service.cases(measurement)
        for make in (parts.case, layers.case, gemm.case, capacity.case):
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
        "padded_config": "a configuration, no measurement: used by the layer rows",
        "decode_step": "a whole model whose head and strips between blocks are not in the source",
        "gemv_latency": "the grid is not stated",
        "decode_TPR": "the same runs as waferllm's rows, as cycles per layer, which are simulated",
        "meshgemm_total_span": "the whole program with its host copies",
        "broadcast_2D": "one message whose route forks at every column: here a message has one route",
        "reduce_speedup_vs_vendor": "a ratio to a library that is not public",
        "allreduce_speedup_vs_vendor": "a ratio to a library that is not public",
        "autogen_vs_lower_bound": "a bound of generated reductions, none of which is published",
    }
    by_table = {
        "ed_host_io": "the host is constants here, not a model",
        "alcf_wse3_simulator": "scalar code of a PE is not modelled",
        "alcf_wse3_silicon": "one direction beyond 32 hops, unexplained by its source; bank conflicts are not modelled",
        "hpc_headlines": "another machine or program",
        "cerebras_published_speeds": "a service of unknown placement, speculative decoding or several systems",
        "cerebras_api_time_info": "another model, or several systems",
    }
    return by_metric.get(measurement.metric) or by_table.get(measurement.table, "not expressible")
