"""Lines of PEs, many at once, compiled: their state taken from a window's, run, and written back.

The state of a line is one LINE_STATE record per PE, its requests are one LINE_REQUESTS record per PE. A PE has two
links of its line, in the order of `directions`. The NumPy twins are in `reference_lines.py`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from wsesim.engine.flow.event_loop import LINK_EVENTS, NOW, RELEASED, run
from wsesim.engine.flow.loads import store_tasks
from wsesim.engine.flow.records import Constants, Records, World
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.jit import njit

LINE_STATE: Final = np.dtype(
    [("pe_free", "i8"), ("ramp_out_free", "i8"), ("ramp_in_free", "i8"), ("link_free", "i8", (2,))]
)
LINE_REQUESTS: Final = np.dtype(
    [("ramp_first", "i8"), ("ramp_last", "i8"), ("link_first", "i8", (2,)), ("link_last", "i8", (2,))]
)

compiled = njit(_nrt=False)
inlined = njit(_nrt=False, inline="always")


class Image(NamedTuple):
    """A World of one line before a run, and where it lies.

    `tasks` and `messages` are copies of the records as words of 8 bytes, `missing` a copy of the missing inputs.
    `task_words` and `message_words` are the World's own records as words. `pe_ptr`, `pe` and `directions` belong to the
    line: the program of each PE, the PE of each task, and the two directions of its links.
    """

    tasks: Any
    messages: Any
    missing: Any
    task_words: Any
    message_words: Any
    pe_ptr: Any
    pe: Any
    directions: Any


class LineEffect(NamedTuple):
    """The effect of a line, in cycles after its base; or of several copies of it, with an axis [copies] in front.

    `after` [PEs] LINE_STATE: NEVER where nothing changed. `requests` [PEs] LINE_REQUESTS: NEVER where there are none.
    The times of tasks [T], messages [M] and drops [D] are empty if they are not kept.
    """

    after: Records
    requests: Records
    end: Any
    link_events: Any
    task_start: Any
    task_begin: Any
    task_end: Any
    message_head: Any
    message_tail: Any
    drop_head: Any
    drop_tail: Any


@compiled
def gather(
    state: State, members: Any, busy: Any, starters: Any, directions: Any, bases: Any, line_states: Records
) -> None:
    """Fills `bases` [lines] and `line_states` [lines, PEs], in cycles after the base; 0 for all that is free before.

    PEs without tasks are free at the base.
    """
    lines, length = members.shape
    for line in range(lines):
        base = state.pe_free[members[line, starters[0]]]
        for i in range(1, starters.size):
            base = min(base, state.pe_free[members[line, starters[i]]])
        bases[line] = base
        for i in range(length):
            pe, own = members[line, i], line_states[line, i]
            own.pe_free = max(state.pe_free[pe] - base, 0) if busy[i] else 0
            own.ramp_out_free = max(state.ramp_out_free[pe] - base, 0)
            own.ramp_in_free = max(state.ramp_in_free[pe] - base, 0)
            for k in range(2):
                own.link_free[k] = max(state.link_free[4 * pe + directions[k]] - base, 0)


@compiled
def hash_rows(words: Any, multipliers: Any, hashes: Any) -> None:
    """Fills `hashes` [rows] from `words` [rows, n]: equal rows have equal hashes."""
    for row in range(words.shape[0]):
        found = 0
        for i in range(words.shape[1]):
            found += words[row, i] * multipliers[i]
        hashes[row] = found


@compiled
def rows_equal(words: Any, other: Any) -> bool:
    """Whether each row of `words` equals the row whose number `other` [rows] gives."""
    for row in range(words.shape[0]):
        if other[row] != row:
            for i in range(words.shape[1]):
                if words[row, i] != words[other[row], i]:
                    return False
    return True


@compiled
def scatter(
    state: State, requests: Requests, members: Any, lines: Any, bases: Any, directions: Any, effect: LineEffect
) -> bool:
    """Writes one effect for each of `lines`, rows of `members` and `bases`; False if they make a request too early.

    A request is too early if a line before requested the same ramp or link at the same cycle or at a later one.
    """
    for line in lines:
        base = bases[line]
        for i in range(members.shape[1]):
            pe, after, asked = members[line, i], effect.after[i], effect.requests[i]
            _write(state.pe_free, pe, after.pe_free, base)
            _write(state.ramp_out_free, pe, after.ramp_out_free, base)
            _write(state.ramp_in_free, pe, after.ramp_in_free, base)
            if not _ask(requests.ramp_first, requests.ramp_last, pe, asked.ramp_first, asked.ramp_last, base):
                return False
            for k in range(2):
                link, first, last = 4 * pe + directions[k], asked.link_first[k], asked.link_last[k]
                _write(state.link_free, link, after.link_free[k], base)
                if not _ask(requests.link_first, requests.link_last, link, first, last, base):
                    return False
    return True


@inlined
def _write(field: Any, place: int, value: int, base: int) -> None:
    if value != NEVER:
        field[place] = value + base


@inlined
def _ask(firsts: Any, lasts: Any, place: int, first: int, last: int, base: int) -> bool:
    if first == NEVER:
        return True
    if firsts[place] == NEVER:
        firsts[place] = first + base
    elif first + base <= lasts[place]:
        return False
    lasts[place] = last + base
    return True


@compiled
def run_lines(world: World, fabric: Constants, image: Image, line_states: Records, out: LineEffect) -> int:
    """Runs one line from each of `line_states` [copies, PEs]; the number of copies before the first deadlock."""
    for copy in range(line_states.shape[0]):
        _restore(world, image, line_states, copy)
        run(world, fabric)
        for i in range(world.pes.size):
            if world.pes[i].next_task < world.pes[i].last_task:
                return copy
        _store(world, image, line_states, copy, out)
        if out.task_end.shape[0] > 0:
            _store_times(world, image, line_states, copy, out)
    return int(line_states.shape[0])


@compiled
def _restore(world: World, image: Image, line_states: Records, copy: int) -> None:
    for i in range(image.tasks.size):
        image.task_words[i] = image.tasks[i]
    for i in range(image.messages.size):
        image.message_words[i] = image.messages[i]
    for i in range(image.missing.size):
        world.missing[i] = image.missing[i]
    for i in range(world.pes.size):
        program, own = world.pes[i], line_states[copy, i]
        program.free = own.pe_free
        program.ramp_out_free = own.ramp_out_free
        program.ramp_in_free = own.ramp_in_free
        program.ramp_first_request = NEVER
        program.ramp_last_request = NEVER
        program.next_task = image.pe_ptr[i]
        program.last_task = image.pe_ptr[i + 1]
        for k in range(2):
            link = world.links[4 * i + image.directions[k]]
            link.free = own.link_free[k]
            link.first_request = NEVER
            link.last_request = NEVER
            link.owner = -1
            link.first_waiter = -1
    world.counts[NOW] = 0
    world.counts[RELEASED] = -1
    world.counts[LINK_EVENTS] = 0


@compiled
def _store(world: World, image: Image, line_states: Records, copy: int, out: LineEffect) -> None:
    end = 0
    for i in range(world.pes.size):
        program, before = world.pes[i], line_states[copy, i]
        after, asked = out.after[copy, i], out.requests[copy, i]
        busy = image.pe_ptr[i] < image.pe_ptr[i + 1]
        if busy:
            end = max(end, program.free)
        after.pe_free = program.free if busy else NEVER
        after.ramp_out_free = _changed(program.ramp_out_free, before.ramp_out_free)
        after.ramp_in_free = _changed(program.ramp_in_free, before.ramp_in_free)
        asked.ramp_first = program.ramp_first_request
        asked.ramp_last = program.ramp_last_request
        for k in range(2):
            link = world.links[4 * i + image.directions[k]]
            after.link_free[k] = _changed(link.free, before.link_free[k])
            asked.link_first[k] = link.first_request
            asked.link_last[k] = link.last_request
    out.end[copy] = end
    out.link_events[copy] = world.counts[LINK_EVENTS]


@inlined
def _changed(value: int, before: int) -> int:
    return value if value != before else NEVER


@compiled
def _store_times(world: World, image: Image, line_states: Records, copy: int, out: LineEffect) -> None:
    free = line_states.pe_free[copy]
    store_tasks(world.tasks, image.pe, free, out.task_start[copy], out.task_begin[copy], out.task_end[copy])
    for m in range(world.ramps.size):
        out.message_head[copy, m] = world.ramps[m].head
        out.message_tail[copy, m] = world.ramps[m].tail
    for d in range(world.drops.size):
        out.drop_head[copy, d] = world.drops[d].head
        out.drop_tail[copy, d] = world.drops[d].tail
