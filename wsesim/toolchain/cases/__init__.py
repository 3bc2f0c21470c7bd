"""The cases of `wsesim validate`: which published rows are simulated, how, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator

from wsesim.errors import UnknownNameError
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Band, Case, Group, Validation, validate
from wsesim.toolchain.cases import capacity, layers, parts, service
from wsesim.toolchain.running import use_numba_cache

GROUPS = (
    Group(
        "parts",
        "single PE and fabric",
        Band(2, 6),
        "One vector operation, one message, one chain of stages, each on the profile that it was measured on.",
        "The presets take these very rows: the group holds the engine to its own constants.",
    ),
    Group(
        "qwen3-4b",
        "phases of one Qwen3-4B layer on a CS-3, block 256 x 256",
        Band(12, 25),
        "Kernels of a real decode on silicon: GEMVs, AllReduces, softmax and their growth with the context.",
        "wse3, unchanged; collectives two_phase, as the layout that the measured kernels follow.",
    ),
    Group(
        "waferllm",
        "WaferLLM's LLaMA3-8B decode layer on a WSE-2",
        Band(8, 20),
        "A whole layer, padded as theirs, on three grids: more cores are slower.",
        "wse2, unchanged; collectives two_phase.",
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
    use_numba_cache()
    chosen = [case for case in cases() if only in (None, case.group)]
    return validate(GROUPS, chosen, left_out())


def cases() -> Iterator[Case]:
    """Every case of every group."""
    for measurement in measurements():
        for make in (parts.case, layers.case, capacity.case, service.case):
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
        "decode_step": "how its layers are placed is not in the source",
        "attn_context_slope": "the slope of the attention rows, which are simulated",
        "pipelined_period_one_layer": "the longer half of a layer, which is simulated",
        "gemv_latency": "the grid is not stated",
        "prefill_TPR": "needs MeshGEMM",
        "meshgemm_cycles": "needs MeshGEMM",
        "meshgemm_total_span": "needs MeshGEMM",
        "end_to_end_TPR": "needs MeshGEMM",
        "prefill_time": "needs MeshGEMM",
        "prefill_rate": "needs MeshGEMM",
    }
    by_table = {
        "hpdc24_model": "a formula: needs streamed collectives",
        "ed_meshrt_9b_region": "the model's dimensions are not in the source",
        "ed_host_io": "the host is constants here, not a model",
        "alcf_wse3_simulator": "scalar code of a PE is not modelled",
        "alcf_wse3_silicon": "one direction beyond 32 hops, unexplained by its source; bank conflicts are not modelled",
        "hpc_headlines": "another machine or program",
        "cerebras_published_speeds": "a service of unknown placement, speculative decoding or several systems",
        "cerebras_api_time_info": "another model, or several systems",
        "waferllm_t2_decomposed": "inferred from other rows",
    }
    return by_metric.get(measurement.metric) or by_table.get(measurement.table, "not expressible")
