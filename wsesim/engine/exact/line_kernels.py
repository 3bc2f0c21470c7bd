"""Lines of PEs, many at once, compiled: their state taken from a window's, run, and written back.

A line's state is a row of numbers: when each PE, its ramp out and its ramp in are free, then each PE's two links of the
line. Its requests are a row too: ramps in, then the two links. The twins are in `reference_lines.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from wsesim.engine.flow.kernels import LINK_EVENTS, NOW, RELEASED, run
from wsesim.engine.flow.loads import store_tasks
from wsesim.engine.flow.records import Constants, World
from wsesim.engine.flow.state import NEVER
from wsesim.jit import njit

compiled = njit(_nrt=False)
inlined = njit(_nrt=False, inline="always")


class Fields(NamedTuple):
    """The arrays of a window's State and of its Requests."""

    pe_free: Any  # [PEs]
    ramp_out_free: Any
    ramp_in_free: Any
    link_free: Any  # [4 PEs]
    ramp_first: Any
    ramp_last: Any
    link_first: Any
    link_last: Any


class Image(NamedTuple):
    """What tasks, messages and missing inputs of a World of one line are before a run, and where they are, as words of
    8 bytes; and of the line the program of each PE, the PE of each task, and the two directions.
    """

    tasks: Any
    messages: Any
    missing: Any
    task_words: Any
    message_words: Any
    pe_ptr: Any
    pe: Any
    directions: Any


class Effects(NamedTuple):
    """What copies of a line do. `after` [copies, 5 PEs]: state, NEVER where unchanged; `first`, `last` [copies, 3 PEs]:
    requests, NEVER where there are none. Times of tasks [copies, T], messages and drops, of no copy if not wanted.
    """

    after: Any
    first: Any
    last: Any
    end: Any  # [copies]
    link_events: Any
    task_start: Any
    task_begin: Any
    task_end: Any
    message_head: Any
    message_tail: Any
    drop_head: Any
    drop_tail: Any


@compiled
def gather(fields: Fields, members: Any, busy: Any, starters: Any, directions: Any, bases: Any, states: Any) -> None:
    """Fills `bases` [lines] and `states` [lines, 5 PEs], which counts from them: what was free before is free then.

    PEs without tasks have no say.
    """
    lines, length = members.shape
    for line in range(lines):
        base = fields.pe_free[members[line, starters[0]]]
        for i in range(1, starters.size):
            base = min(base, fields.pe_free[members[line, starters[i]]])
        bases[line] = base
        for i in range(length):
            pe = members[line, i]
            states[line, i] = max(fields.pe_free[pe] - base, 0) if busy[i] else 0
            states[line, length + i] = max(fields.ramp_out_free[pe] - base, 0)
            states[line, 2 * length + i] = max(fields.ramp_in_free[pe] - base, 0)
            for k in range(2):
                states[line, 3 * length + 2 * i + k] = max(fields.link_free[4 * pe + directions[k]] - base, 0)


@compiled
def hash_rows(states: Any, multipliers: Any, hashes: Any) -> None:
    """Equal rows have equal hashes."""
    for row in range(states.shape[0]):
        found = 0
        for i in range(states.shape[1]):
            found += states[row, i] * multipliers[i]
        hashes[row] = found


@compiled
def rows_equal(states: Any, other: Any) -> bool:
    """Whether each row equals the row whose number `other` [rows] gives."""
    for row in range(states.shape[0]):
        if other[row] != row:
            for i in range(states.shape[1]):
                if states[row, i] != states[other[row], i]:
                    return False
    return True


@compiled
def scatter(
    fields: Fields, members: Any, lines: Any, bases: Any, directions: Any, after: Any, first: Any, last: Any
) -> bool:
    """Writes what some of the lines did, all the same; False if they asked for something that was asked for later."""
    length = members.shape[1]
    for line in lines:
        base = bases[line]
        for i in range(length):
            pe = members[line, i]
            _write(fields.pe_free, pe, after[i], base)
            _write(fields.ramp_out_free, pe, after[length + i], base)
            _write(fields.ramp_in_free, pe, after[2 * length + i], base)
            if not _ask(fields.ramp_first, fields.ramp_last, pe, first[i], last[i], base):
                return False
            for k in range(2):
                link, own = 4 * pe + directions[k], 2 * i + k
                _write(fields.link_free, link, after[3 * length + own], base)
                if not _ask(fields.link_first, fields.link_last, link, first[length + own], last[length + own], base):
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
    elif first + base < lasts[place]:
        return False
    lasts[place] = last + base
    return True


@compiled
def run_lines(world: World, fabric: Constants, image: Image, states: Any, out: Effects) -> int:
    """Runs one line from each of `states` [copies, 5 PEs]; the number of copies before the first that cannot finish."""
    for copy in range(states.shape[0]):
        _restore(world, image, states, copy)
        run(world, fabric)
        for i in range(world.pes.size):
            if world.pes[i].next_task < world.pes[i].last_task:
                return copy
        _store(world, image, states, copy, out)
        if out.task_end.shape[0] > 0:
            _store_times(world, image, states, copy, out)
    return int(states.shape[0])


@compiled
def _restore(world: World, image: Image, states: Any, copy: int) -> None:
    for i in range(image.tasks.size):
        image.task_words[i] = image.tasks[i]
    for i in range(image.messages.size):
        image.message_words[i] = image.messages[i]
    for i in range(image.missing.size):
        world.missing[i] = image.missing[i]
    length = world.pes.size
    for i in range(length):
        program = world.pes[i]
        program.free = states[copy, i]
        program.ramp_out_free = states[copy, length + i]
        program.ramp_in_free = states[copy, 2 * length + i]
        program.ramp_first_request = NEVER
        program.ramp_last_request = NEVER
        program.next_task = image.pe_ptr[i]
        program.last_task = image.pe_ptr[i + 1]
        for k in range(2):
            link = world.links[4 * i + image.directions[k]]
            link.free = states[copy, 3 * length + 2 * i + k]
            link.first_request = NEVER
            link.last_request = NEVER
            link.owner = -1
            link.first_waiter = -1
    world.counts[NOW] = 0
    world.counts[RELEASED] = -1
    world.counts[LINK_EVENTS] = 0


@compiled
def _store(world: World, image: Image, states: Any, copy: int, out: Effects) -> None:
    length, end = world.pes.size, 0
    for i in range(length):
        program = world.pes[i]
        busy = image.pe_ptr[i] < image.pe_ptr[i + 1]
        if busy:
            end = max(end, program.free)
        out.after[copy, i] = program.free if busy else NEVER
        _store_changed(out, states, copy, length + i, program.ramp_out_free)
        _store_changed(out, states, copy, 2 * length + i, program.ramp_in_free)
        out.first[copy, i] = program.ramp_first_request
        out.last[copy, i] = program.ramp_last_request
        for k in range(2):
            link, own = world.links[4 * i + image.directions[k]], 2 * i + k
            _store_changed(out, states, copy, 3 * length + own, link.free)
            out.first[copy, length + own] = link.first_request
            out.last[copy, length + own] = link.last_request
    out.end[copy] = end
    out.link_events[copy] = world.counts[LINK_EVENTS]


@inlined
def _store_changed(out: Effects, states: Any, copy: int, place: int, value: int) -> None:
    out.after[copy, place] = value if value != states[copy, place] else NEVER


@compiled
def _store_times(world: World, image: Image, states: Any, copy: int, out: Effects) -> None:
    store_tasks(world.tasks, image.pe, states[copy], out.task_start[copy], out.task_begin[copy], out.task_end[copy])
    for m in range(world.ramps.size):
        out.message_head[copy, m] = world.ramps[m].head
        out.message_tail[copy, m] = world.ramps[m].tail
    for d in range(world.drops.size):
        out.drop_head[copy, d] = world.drops[d].head
        out.drop_tail[copy, d] = world.drops[d].tail
