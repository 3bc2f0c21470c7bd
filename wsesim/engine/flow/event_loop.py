"""The event loop of `simulate`, compiled. The rules are in `simulate.py`, the twin is `reference.py`.

An event is the head of a message at a router, ready for its next link. A message has at most one event, so events are
message numbers in linked lists. They wait in a calendar: slots of one cycle, of 2^12 cycles, of 2^24 cycles and so on,
each a list. When the time of a coarse slot comes, its list is dealt out to finer slots. Every event is later than its
cause, so the list of a cycle is complete when the cycle begins. It is then sorted by message number, which is the order
(source PE, position among the messages of that PE). The requests for a link are a list in the order of their arrival.
"""

from __future__ import annotations

from typing import Any, Final

from wsesim.engine.flow.records import Constants, World
from wsesim.engine.flow.state import NEVER
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, LAUNCHED
from wsesim.jit import njit

SLOT_BITS: Final = 12
SLOTS: Final = 1 << SLOT_BITS
LEVELS: Final = 5  # 2^60 cycles

AHEAD: Final = 64  # events whose records are read together

# Fields of `World.counts`; of WAITING there are LEVELS.
NOW, RELEASED, LINK_EVENTS, PREFETCHED, WAITING = 0, 1, 2, 3, 4

# Without reference counts: the arrays are the caller's, and counting them took more than half of the time.
compiled = njit(_nrt=False)
inlined = njit(_nrt=False, inline="always")


@compiled
def run(world: World, fabric: Constants) -> None:
    """Runs all tasks that can run. Tasks in a deadlock are left as they are."""
    for pe in range(world.pes.size):
        _run_program(world, fabric, pe)
    events = _next_cycle(world, fabric)
    while events > 0:
        for first in range(0, events, AHEAD):
            stop = min(first + AHEAD, events)
            _prefetch(world, first, stop)
            for i in range(first, stop):
                _arrive(world, fabric, world.batch[i])
        events = _next_cycle(world, fabric)


@compiled
def _prefetch(world: World, first: int, stop: int) -> None:
    """Reads the records of the next events in a batch, so that their waits for memory overlap."""
    total = 0
    for i in range(first, stop):
        total += world.messages[world.batch[i]].position
    for i in range(first, stop):
        message = world.messages[world.batch[i]]
        total += world.links[_link(message, message.position)].owner
        if message.position == message.drop_position:
            total += world.drop_task[message.drop] + world.pes[message.router].next_task
    for i in range(first, stop):
        message = world.messages[world.batch[i]]
        if message.position == message.drop_position:
            number = _consumer(world, message)
            total += world.missing[number] + world.tasks[number].first_message
    world.counts[PREFETCHED] = total  # keeps the compiler from leaving out the reads


@inlined
def _run_program(world: World, fabric: Constants, pe: int) -> None:
    program = world.pes[pe]
    while program.next_task < program.last_task and world.missing[program.next_task] == 0:
        task = world.tasks[program.next_task]
        _time_task(task, program.free)
        program.free = task.end
        program.next_task += 1
        for message in range(task.first_message, world.tasks[program.next_task].first_message):
            _send(world, fabric, task, program, message)
    if world.parked.size > 0 and program.next_task < program.last_task:
        _wake(world, fabric, program)


@compiled
def _wake(world: World, fabric: Constants, program: Any) -> None:
    """The next task of a PE receives the streams that wait for it; their events are later than now."""
    number = world.parked[program.next_task]
    world.parked[program.next_task] = -1
    while number >= 0:
        following = world.next[number]
        _schedule(world, fabric, number, _taken_in_from(world.tasks[program.next_task], program.free))
        number = following


@inlined
def _taken_in_from(task: Any, free: int) -> Any:
    return free + task.launch if task.start == LAUNCHED else free


@compiled
def _waits_for_consumer(world: World, fabric: Constants, number: int) -> bool:
    """Whether the head of a stream stays in the router. Its event comes again when its task receives it."""
    message = world.messages[number]
    program, consumer = world.pes[message.router], _consumer(world, message)
    if program.next_task != consumer:
        world.next[number] = world.parked[consumer]
        world.parked[consumer] = number
        return True
    cycle = _taken_in_from(world.tasks[consumer], program.free)
    if cycle <= message.cycle:
        return False
    _schedule(world, fabric, number, cycle)
    return True


@inlined
def _consumer(world: World, message: Any) -> Any:
    return max(world.drop_task[message.drop], ~world.drop_task[message.drop])


@inlined
def _time_task(task: Any, free: int) -> None:
    head, tail = task.begin, task.end
    if task.start == LAUNCHED:
        task.begin = max(free + task.launch, head)
    else:
        task.begin = max(free, tail if task.start == BLOCKING else head) + task.launch
    end = task.begin + task.work
    if task.start in (LAUNCHED, ACTIVATED):
        end = max(end, tail)
    task.end = end + task.delay


@inlined
def _send(world: World, fabric: Constants, task: Any, program: Any, number: int) -> None:
    message = world.messages[number]
    ramp = world.ramps[number]
    head_out = task.begin + task.delay if task.streams else task.end
    if fabric.free_links:
        ramp.head = head_out
    elif message.shares_ramp:
        ramp.head = world.ramps[number - 1].head
    else:
        ramp.head = max(head_out, program.ramp_out_free)
    ramp.tail = max(ramp.head + message.duration, task.end)
    if not fabric.free_links and not message.shares_ramp:
        program.ramp_out_free = ramp.tail
    message.tail = ramp.tail + fabric.ramp_send_cycles - fabric.hop_cycles
    _schedule(world, fabric, number, ramp.head + fabric.ramp_send_cycles)


@inlined
def _arrive(world: World, fabric: Constants, number: int) -> None:
    message = world.messages[number]
    if message.position == message.drop_position:
        if world.drop_task[message.drop] < 0 and _waits_for_consumer(world, fabric, number):
            return
        _deliver(world, fabric, number)
        if message.position == message.hops:
            if message.window > 0 and not fabric.free_links:
                _finish(world, fabric, number)
            return
    if message.turn_due and message.position == message.hops1:
        message.turn_due = 0
        if fabric.turn_cycles > 0:
            _schedule(world, fabric, number, message.cycle + fabric.turn_cycles)
            return
    _request(world, fabric, number)


@inlined
def _request(world: World, fabric: Constants, number: int) -> None:
    message = world.messages[number]
    if fabric.free_links:
        _grant(world, fabric, number, message.cycle)
        return
    link = world.links[_link(message, message.position)]
    if link.last_request == NEVER:
        link.first_request = message.cycle
    link.last_request = message.cycle
    if link.owner < 0:
        _grant(world, fabric, number, max(message.cycle, link.free))
        if world.counts[RELEASED] >= 0:
            _hand_on(world, fabric)
    else:
        _wait(world, link, number)


@inlined
def _link(message: Any, position: int) -> Any:
    """Number of the link at a position of the path, at or behind the head."""
    back = message.position - position
    if position >= message.hops1:
        return 4 * (message.router - back * message.step2) + message.direction2
    back2 = max(message.position - message.hops1, 0)
    return 4 * (message.router - back2 * message.step2 - (back - back2) * message.step1) + message.direction1


@compiled
def _wait(world: World, link: Any, number: int) -> None:
    world.next[number] = -1
    if link.first_waiter < 0:
        link.first_waiter = number
    else:
        world.next[link.last_waiter] = number
    link.last_waiter = number


@inlined
def _grant(world: World, fabric: Constants, number: int, granted: int) -> None:
    """Gives the message the link before its head, and puts the one that leaves its window on the list."""
    message = world.messages[number]
    position = message.position
    message.tail = max(granted + message.duration, message.tail + fabric.hop_cycles)
    world.counts[LINK_EVENTS] += 1
    if not fabric.free_links:
        link = world.links[_link(message, position)]
        link.free = message.tail
        link.owner = number if message.window > 0 else -1
        if message.window > 0:
            turned = position == message.hops1
            if turned or fabric.shallow or granted > message.cycle:
                _hold(world, fabric, message, granted)
            if position >= message.window:
                _release(world, _link(message, position - message.window))
    message.router += message.step1 if position < message.hops1 else message.step2
    message.position = position + 1
    _schedule(world, fabric, number, granted + fabric.hop_cycles)


@compiled
def _hold(world: World, fabric: Constants, message: Any, granted: int) -> None:
    """Behind a head that goes on at `granted`, k routers hold k queues of it: the rest passes after that."""
    rest = message.wavelets
    for back in range(1, min(message.window, message.position) + 1):
        rest -= fabric.queue_wavelets
        duration = -(-rest * fabric.wavelet_numerator // fabric.wavelet_denominator)
        link = world.links[_link(message, message.position - back)]
        link.free = max(link.free, granted + duration)


@inlined
def _deliver(world: World, fabric: Constants, number: int) -> None:
    message = world.messages[number]
    drop = world.drops[message.drop]
    program = world.pes[message.router]
    granted = message.cycle
    if not fabric.free_links:
        if program.ramp_last_request == NEVER:
            program.ramp_first_request = message.cycle
        program.ramp_last_request = message.cycle
        granted = max(message.cycle, program.ramp_in_free)
        program.ramp_in_free = granted + message.duration
        if fabric.shallow or granted > message.cycle or world.drop_task[message.drop] < 0:
            _hold(world, fabric, message, granted)
    drop.head = granted + fabric.ramp_receive_cycles
    drop.tail = max(granted + message.duration, message.tail + fabric.hop_cycles) + fabric.ramp_receive_cycles
    task_number = _consumer(world, message)
    task = world.tasks[task_number]
    task.begin = max(task.begin, drop.head)
    task.end = max(task.end, drop.tail)
    world.missing[task_number] -= 1
    message.drop += 1
    if message.position < message.hops:
        message.drop_position = world.drop_hop[message.drop]
    if world.missing[task_number] == 0:
        _run_program(world, fabric, message.router)


@compiled
def _finish(world: World, fabric: Constants, number: int) -> None:
    message = world.messages[number]
    for back in range(1, min(message.window, message.position) + 1):
        _release(world, _link(message, message.position - back))
    _hand_on(world, fabric)


@inlined
def _release(world: World, link_number: int) -> None:
    link = world.links[link_number]
    link.owner = -1
    if link.first_waiter >= 0:
        link.next = world.counts[RELEASED]
        world.counts[RELEASED] = link_number


@compiled
def _hand_on(world: World, fabric: Constants) -> None:
    """Grants released links to their waiters. That may release more of them: hence a list, not a call."""
    while world.counts[RELEASED] >= 0:
        link = world.links[world.counts[RELEASED]]
        world.counts[RELEASED] = link.next
        while link.owner < 0 and link.first_waiter >= 0:
            waiter = link.first_waiter
            link.first_waiter = world.next[waiter]
            # Not before its request: a link is free only after the cycle in which that is known, now.
            _grant(world, fabric, waiter, link.free)


@inlined
def _schedule(world: World, fabric: Constants, number: int, cycle: int) -> None:
    world.messages[number].cycle = cycle
    _insert(world, number, cycle - fabric.origin)


@inlined
def _insert(world: World, number: int, when: int) -> None:
    """Puts an event into the finest level whose slots reach from now to `when`."""
    apart = (when ^ world.counts[NOW]) >> SLOT_BITS
    level = 0
    while apart > 0:
        apart >>= SLOT_BITS
        level += 1
    slot = (when >> (SLOT_BITS * level)) & (SLOTS - 1)
    world.next[number] = -1
    if world.first[level, slot] < 0:
        world.first[level, slot] = number
    else:
        world.next[world.last[level, slot]] = number
    world.last[level, slot] = number
    world.counts[WAITING + level] += 1


@compiled
def _next_cycle(world: World, fabric: Constants) -> int:
    """Moves to the next cycle that has events and puts them into `batch`, sorted; 0 of them at the end."""
    while world.counts[WAITING] == 0:
        level = 1
        while level < LEVELS and world.counts[WAITING + level] == 0:
            level += 1
        if level == LEVELS:
            return 0
        _deal_out(world, fabric, level)
    slot = world.counts[NOW] & (SLOTS - 1)
    while world.first[0, slot] < 0:
        slot += 1
    world.counts[NOW] = (world.counts[NOW] & -SLOTS) | slot
    events, number = 0, world.first[0, slot]
    while number >= 0:
        world.batch[events] = number
        number = world.next[number]
        events += 1
    world.first[0, slot] = -1
    world.counts[WAITING] -= events
    _sort(world.batch, world.scratch, events)
    return events


@compiled
def _deal_out(world: World, fabric: Constants, level: int) -> None:
    shift = SLOT_BITS * level
    slot = (world.counts[NOW] >> shift) & (SLOTS - 1)
    while world.first[level, slot] < 0:
        slot += 1
    world.counts[NOW] = (((world.counts[NOW] >> shift) & -SLOTS) | slot) << shift
    number = world.first[level, slot]
    world.first[level, slot] = -1
    while number >= 0:
        following = world.next[number]
        world.counts[WAITING + level] -= 1
        _insert(world, number, world.messages[number].cycle - fabric.origin)
        number = following


@compiled
def _sort(values: Any, scratch: Any, n: int) -> None:
    """Natural merge sort: the events of a cycle are a few ascending runs, one per cycle that caused them."""
    while _merge_runs(values, scratch, n) > 1:
        for i in range(n):
            values[i] = scratch[i]


@compiled
def _merge_runs(values: Any, out: Any, n: int) -> int:
    """Merges each pair of adjacent ascending runs into `out`; the number of runs that there were."""
    runs, first = 0, 0
    while first < n:
        middle = _run_end(values, first, n)
        runs += 1 if middle == n else 2
        if runs == 1:
            return 1
        end = _run_end(values, middle, n) if middle < n else n
        left, right = first, middle
        for i in range(first, end):
            if right == end or (left < middle and values[left] < values[right]):
                out[i] = values[left]
                left += 1
            else:
                out[i] = values[right]
                right += 1
        first = end
    return runs


@compiled
def _run_end(values: Any, first: int, n: int) -> int:
    end = first + 1
    while end < n and values[end - 1] < values[end]:
        end += 1
    return end
