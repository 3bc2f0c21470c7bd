"""The compiled loads and stores of records beside their NumPy twins."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS, graphs, states
from wsesim.engine.flow import loads, reference_loads
from wsesim.engine.flow.records import LINK, MESSAGE, TASK, records
from wsesim.engine.flow.state import State
from wsesim.engine.graph.taskgraph import TaskGraph, steps
from wsesim.machine import Fabric


def loaded(module: ModuleType, graph: TaskGraph, fabric: Fabric, state: State) -> dict[str, Any]:
    """All arrays that `module` fills."""
    tasks, missing = records(graph.task_count + 1, TASK), np.zeros(graph.task_count, np.int32)
    messages, links = records(graph.message_count, MESSAGE), records(4 * graph.pes, LINK)
    module.load_tasks(tasks, graph.launch, graph.work, graph.delay, graph.start, graph.streams, graph.out_ptr)
    module.count_inputs(missing, graph.drop_task)
    legs = graph.direction1, graph.hops1, graph.direction2, graph.hops2
    module.load_routes(messages, graph.pe, graph.source, *legs, steps(graph.columns))
    rate = fabric.wavelet_numerator, fabric.wavelet_denominator, fabric.queue_wavelets
    module.load_lengths(messages, graph.wavelets, graph.shares_ramp, graph.drop_ptr, graph.drop_hop, *rate)
    module.load_links(links, state.link_free)
    return {"tasks": tasks, "missing": missing, "messages": messages, "links": links}


@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_records_are_loaded_as_by_numpy(data: st.DataObject) -> None:
    graph = data.draw(graphs(xy_only=False))
    fabric, state = data.draw(st.sampled_from(FABRICS)), data.draw(states(graph.columns, graph.rows))
    twin = loaded(reference_loads, graph, fabric, state)
    for name, array in loaded(loads, graph, fabric, state).items():
        np.testing.assert_array_equal(array, twin[name], err_msg=name)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_times_are_stored_as_by_numpy(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    rng, tasks = np.random.default_rng(data.draw(st.integers(0, 99))), records(graph.task_count + 1, TASK)
    reference_loads.load_tasks(tasks, graph.launch, graph.work, graph.delay, graph.start, graph.streams, graph.out_ptr)
    tasks["begin"], tasks["end"] = rng.integers(0, 10**12, (2, tasks.size))
    free = rng.integers(0, 10**12, graph.pes)
    stored = []
    for module in (loads, reference_loads):
        times = np.empty((3, graph.task_count), np.int64)
        module.store_tasks(tasks, graph.pe, free, *times)
        stored.append(times)
    np.testing.assert_array_equal(stored[0], stored[1])


def test_records_begin_with_a_cache_line() -> None:
    for size in (1, 7, 1000):
        assert records(size, MESSAGE).ctypes.data % 64 == 0
    assert 64 % TASK.itemsize == 0 and MESSAGE.itemsize == 64
