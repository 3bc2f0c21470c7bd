"""runtime: ids, text and times of requests, with arithmetic and cycles simple enough to check by hand."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsesim.execute.errors import SamplingRangeError
from wsesim.execute.sampling import SamplingOptions
from wsesim.machine import load_machine
from wsesim.program.kernels import DECODE
from wsesim.runtime.completion import Completion, GenerationEvent, PromptLogprobs, Token
from wsesim.runtime.errors import RequestError
from wsesim.runtime.request import GenerationOptions, Request
from wsesim.runtime.stop import StopFilter
from wsesim.runtime.token_loop import TokenLoop
from wsesim.serve.reply import completion_reply
from wsesim.toolchain.options import RequestOptions
from wsesim.toolchain.session import Session, generation_options
from wsesim_models.tokenizers import Tokenizer

GREEDY = SamplingOptions()
EOS = 0
# Powers of two, so that the sums below are exact: a cycle is 1/1024 s, a call to the host 2 s in and 4 s out.
TOY = load_machine("toy4x4")
MACHINE = dataclasses.replace(
    TOY, clock_hz=1024.0, host=dataclasses.replace(TOY.host, send_call_s=2.0, receive_call_s=4.0)
)


@dataclass
class Cache:
    fed: list[int] = field(default_factory=list)


@dataclass
class Script:
    """Arithmetic that always answers with `script`. It notes the ids and the batch sizes that it got.

    A text's n-th id is its n-th of the script.
    """

    script: Sequence[int]
    fed: list[list[int]] = field(default_factory=list)
    passes: list[tuple[str, int]] = field(default_factory=list)
    caches: list[Cache] = field(default_factory=list)

    def new_sequence(self) -> Cache:
        self.caches.append(Cache())
        return self.caches[-1]

    def fork(self, sequence: Cache) -> Cache:
        self.caches.append(Cache(list(sequence.fed)))
        return self.caches[-1]

    def step_each(
        self, sequences: Sequence[Cache], token_ids: Sequence[Sequence[int]], *, phase: str = DECODE
    ) -> list[NDArray[np.float32]]:
        self.passes.append((phase, len(sequences)))
        return [self._answer(sequence, ids, phase) for sequence, ids in zip(sequences, token_ids, strict=True)]

    def _answer(self, sequence: Cache, token_ids: Sequence[int], phase: str) -> NDArray[np.float32]:
        self.fed.append(list(token_ids))
        sequence.fed += token_ids
        own = sequence.fed.count(-1) if phase == DECODE else 0
        sequence.fed.append(-1)  # an answer was given here
        answer = np.zeros(300, np.float32)
        answer[self.script[min(own, len(self.script) - 1)]] = 9.0
        return answer


@dataclass(frozen=True)
class Step:
    cycles: int
    logits_cycles: int
    busy_cycles: int


@dataclass
class Clock:
    """Prefill: 100 cycles a token to the logits, 28 more to the id. Decode: 1000 + context. A step holds the busiest
    block for `busy` cycles of its own, a prompt for as many a token.
    """

    busy: int = 10
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def prefill(self, tokens: int, candidates: int) -> Step:
        self.asked.append(("prefill", tokens, candidates))
        return Step(100 * tokens + 28, 100 * tokens, self.busy * tokens)

    def decode(self, context: int, candidates: int) -> Step:
        self.asked.append(("decode", context, candidates))
        return Step(1000 + context, 900 + context, self.busy)


def letters(*pieces: bytes) -> Tokenizer:
    """Id 0 ends the text, though it has bytes; id i + 1 is pieces[i]."""
    return Tokenizer(lambda text: [ord(c) for c in text], (b"<end>", *pieces), None, frozenset({EOS}), False)


LETTERS = tuple(b"%c" % i for i in range(1, 128))


def token_loop(
    script: Sequence[int], tokenizer: Tokenizer | None = None, max_context: int = 64, slots: int = 1, busy: int = 10
) -> TokenLoop:
    return TokenLoop(MACHINE, max_context, Script(script), Clock(busy), tokenizer or letters(*LETTERS), slots)


def run(loop: TokenLoop, request: Request) -> tuple[list[Token], Completion]:
    *tokens, completion = loop.run(request)
    assert isinstance(completion, Completion)
    return [token for token in tokens if isinstance(token, Token)], completion


def script_of(loop: TokenLoop) -> Script:
    assert isinstance(loop.arithmetic, Script)
    return loop.arithmetic


def asked(loop: TokenLoop) -> list[tuple[str, int, int]]:
    """Phase, tokens and candidates of each step that the engine was asked for."""
    assert isinstance(loop.cycles, Clock)
    return loop.cycles.asked


def ending(events: Sequence[GenerationEvent]) -> Completion:
    """The last event, which is a request's Completion."""
    assert isinstance(events[-1], Completion)
    return events[-1]


def request(tokens: int = 3, max_tokens: int | None = None, **options: Any) -> Request:
    return Request(tuple(range(1, tokens + 1)), GenerationOptions(GREEDY, max_tokens, **options))


def seconds(cycles: float) -> float:
    return cycles / 1024


# Times by hand. A prompt of 3: logits after 300 cycles, the first id after 28 more, then a decode over 3, 4, 5, ...
# cached tokens: 1003, 1004, 1005, ... cycles. completion = N / (N - 1) times the time from the first id to the last.
BY_HAND = [
    (0, (), 0.0),
    (1, (28,), 28),
    (2, (28, 1003), 2 / 1 * 1003),
    (3, (28, 1003, 1004), 3 / 2 * (1003 + 1004)),
    (5, (28, 1003, 1004, 1005, 1006), 5 / 4 * (1003 + 1004 + 1005 + 1006)),
]


@pytest.mark.parametrize(("count", "token_cycles", "completion_cycles"), BY_HAND)
def test_times_are_those_of_a_hand_calculation(
    count: int, token_cycles: tuple[int, ...], completion_cycles: float
) -> None:
    tokens, completion = run(token_loop([7] * 9), request(max_tokens=count))
    times = completion.times
    assert tuple(token.cycles for token in tokens) == token_cycles
    assert times.token_s == tuple(map(seconds, token_cycles))
    assert (times.queue_s, times.prompt_s) == (2.0, seconds(300))
    assert times.completion_s == seconds(completion_cycles)
    assert times.total_s == 2.0 + seconds(300) + seconds(completion_cycles) + 4.0
    assert (times.admitted_s, times.finished_s) == (2.0, 2.0 + seconds(300 + sum(token_cycles)))


def run_all(loop: TokenLoop, requests: Sequence[Request]) -> list[Completion]:
    """Run all requests, submitted at once."""
    events: list[list[GenerationEvent]] = [[] for _ in requests]
    loop.submit_all(requests, [own.append for own in events])
    while loop.busy:
        loop.advance()
    ends = [ending(own) for own in events]
    assert all(len(own) == 1 + len(end.token_ids) for own, end in zip(events, ends, strict=True))
    return ends


def test_a_second_request_waits_for_the_slot_of_the_first() -> None:
    first, second = run_all(token_loop([7] * 9), [request(max_tokens=2), request(max_tokens=1, arrival_s=1.0)])
    leaves = 2.0 + seconds(300 + 28 + 1003)
    assert first.times.finished_s == leaves
    assert (second.times.queue_s, second.times.admitted_s) == (leaves - 1.0, leaves)
    assert second.times.total_s == second.times.queue_s + seconds(300 + 28) + 4.0


def test_two_slots_share_the_busiest_block() -> None:
    """The second prompt follows the first after 30 cycles; the steps of both fit between each other's."""
    first, second = run_all(token_loop([7] * 9, slots=2), [request(max_tokens=2), request(max_tokens=2)])
    assert first.times.prompt_s == seconds(300)
    assert second.times.admitted_s == 2.0
    assert second.times.prompt_s == seconds(30 + 300)
    assert first.times.token_s == second.times.token_s == tuple(map(seconds, (28, 1003)))


def test_a_wafer_that_is_one_block_takes_turns() -> None:
    """A decode step keeps the block busy: the other's token is drawn at 628, and its step waits for the first."""
    first, second = run_all(
        token_loop([7] * 9, slots=2, busy=1003), [request(1, max_tokens=2), request(1, max_tokens=2)]
    )
    assert second.times.prompt_s == seconds(1003 + 100)
    assert first.times.token_s == tuple(map(seconds, (28, 2 * 1003 - 128 + 1001)))
    assert second.times.token_s == tuple(map(seconds, (28, 3 * 1003 - 1003 - 128 + 1001)))


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(1, 100),
)
def test_whoever_comes_first_is_admitted_first_and_no_slot_is_given_twice(
    wanted: list[tuple[int, int, int]], slots: int, busy: int
) -> None:
    requests = [request(tokens, max_tokens, arrival_s=float(at)) for tokens, max_tokens, at in wanted]
    loop = token_loop([7] * 9, slots=slots, busy=busy)
    ends = run_all(loop, requests)
    alone = [run(token_loop([7] * 9), one)[1] for one in requests]
    assert [end.token_ids for end in ends] == [end.token_ids for end in alone]
    for end, own in zip(ends, alone, strict=True):
        assert end.times.prompt_s >= own.times.prompt_s
        assert all(a >= b for a, b in zip(end.times.token_s, own.times.token_s, strict=True))
    arrived = sorted(zip(requests, ends, strict=True), key=lambda pair: pair[0].options.arrival_s or 0.0)
    assert all(a[1].times.admitted_s <= b[1].times.admitted_s for a, b in pairwise(arrived))
    for end in ends:
        together = [e for e in ends if e.times.admitted_s <= end.times.admitted_s < e.times.finished_s]
        assert len(together) <= slots
    assert (loop.in_flight, loop.waiting) == (0, 0)


def test_texts_in_flight_are_computed_in_one_pass() -> None:
    loop = token_loop([7] * 9, slots=4)
    run_all(loop, [request(3, max_tokens=3) for _ in range(4)])
    assert script_of(loop).passes == [("prefill", 1), ("decode", 4), ("decode", 4)]  # one prompt for all of them


def test_a_long_prompt_is_computed_between_the_tokens_of_others() -> None:
    loop = token_loop([7] * 9, max_context=512, slots=2)
    short, long = Request((1,), GenerationOptions(GREEDY, 3)), Request((2,) * 300, GenerationOptions(GREEDY, 1))
    run_all(loop, [short, long])
    assert script_of(loop).fed[:2] == [[1], [2] * 63]
    assert sum(len(ids) for ids in script_of(loop).fed) == 1 + 2 + 300


def test_a_client_that_goes_away_frees_its_slot_and_nothing_else_moves() -> None:
    loop = token_loop([7] * 9)
    events: list[list[GenerationEvent]] = [[], [], []]
    first, second, _ = loop.submit_all([request(max_tokens=9)] * 3, [own.append for own in events])
    while len(events[0]) < 2:
        loop.advance()
    gone_s = loop.now_s
    loop.cancel(second)
    loop.cancel(first)
    while loop.busy:
        loop.advance()
    assert len(events[0]) == 2 and not events[1]
    assert ending(events[2]).times.admitted_s == gone_s
    loop.cancel(first)  # again, to no effect
    assert (loop.in_flight, loop.waiting) == (0, 0)


def test_a_cancelled_prompt_gives_back_what_of_the_wafer_it_has_not_begun() -> None:
    loop = token_loop([7] * 9, slots=2, busy=1000)
    events: list[GenerationEvent] = []
    long = loop.submit(request(9, max_tokens=1), events.append)
    while not loop.in_flight:
        loop.advance()
    loop.cancel(long)
    times = run(loop, request(3, max_tokens=1))[1].times
    assert (times.prompt_s, events) == (seconds(300), [])


def test_a_stream_that_is_dropped_unread_waits_for_nothing() -> None:
    loop = token_loop([7] * 9)
    dropped = loop.run(request(max_tokens=3))
    del dropped
    assert not loop.busy
    assert run(loop, request(max_tokens=1))[1].times.queue_s == 2.0


def test_a_loop_that_was_cleared_begins_anew() -> None:
    loop = token_loop([7] * 9)
    events: list[list[GenerationEvent]] = [[], [], []]
    loop.submit_all([request(max_tokens=3)] * 3, [own.append for own in events])
    while not events[0]:
        loop.advance()
    loop.clear()
    assert not loop.busy and not events[1]
    assert run(loop, request(max_tokens=2))[1].token_ids == (7, 7)


def test_what_is_over_keeps_no_cache() -> None:
    loop = token_loop([7] * 9, slots=2)
    events: list[list[GenerationEvent]] = [[], [], [], []]
    runs = loop.submit_all(
        [request(max_tokens=3), request(max_tokens=9), request(2, 9), request(2, 1)], [own.append for own in events]
    )
    while len(events[0]) < 4:
        loop.advance()
    for run in runs[1:3]:
        loop.cancel(run)
    while loop.busy:
        loop.advance()
    caches = [weakref.ref(cache) for cache in script_of(loop).caches]
    script_of(loop).caches.clear()
    assert len(caches) >= 2 and not any(cache() for cache in caches)
    assert ending(events[3]).token_ids == (7,)


def test_two_streams_may_be_read_in_turns() -> None:
    loop = token_loop([7, 8, 9], slots=2)
    one, other = loop.run(request(max_tokens=3)), loop.run(request(max_tokens=3))
    pairs = list(zip(one, other, strict=True))
    ids = [[item.id for item in pair if isinstance(item, Token)] for pair in pairs]
    assert ids == [[7, 7], [8, 8], [9, 9], []]


def test_an_arrival_in_the_past_is_refused() -> None:
    loop = token_loop([7] * 9)
    run(loop, request(max_tokens=2))
    with pytest.raises(RequestError, match=r"arrival_s is 1\.0, earlier than the virtual now, 3"):
        loop.run(request(max_tokens=1, arrival_s=1.0))


def test_a_late_request_finds_the_wafer_free() -> None:
    loop = token_loop([7] * 9)
    run(loop, request(max_tokens=2))
    times = run(loop, request(max_tokens=1, arrival_s=100.0))[1].times
    assert (times.queue_s, times.admitted_s) == (2.0, 102.0)


def test_a_session_s_requests_come_one_after_the_other() -> None:
    """Without an arrival of its own a request does not wait, and costs what it would cost alone."""
    loop = token_loop([7] * 9)
    unused: Any = None  # the Program and the source of the text
    session = Session("m", None, "f", unused, loop, letters(*LETTERS), unused)
    first, second = (session.complete("abc", max_tokens=3).completion.times for _ in range(2))
    assert (first.queue_s, first.total_s) == (second.queue_s, second.total_s)
    assert second.admitted_s == first.finished_s + 2.0


def test_cycles_and_arithmetic_are_asked_for_the_same_steps() -> None:
    """The prompt, then each id but the last; the last needs no step of its own."""
    loop = token_loop([11, 12, 13, 14])
    tokens, _ = run(loop, request(max_tokens=3))
    assert script_of(loop).fed == [[1, 2, 3], [11], [12]]
    assert asked(loop) == [("prefill", 3, 1), ("decode", 3, 1), ("decode", 4, 1)]
    assert [token.id for token in tokens] == [11, 12, 13]


def test_a_draw_costs_its_candidates() -> None:
    loop = token_loop([11] * 4)
    run(loop, Request((1,), GenerationOptions(SamplingOptions(temperature=1.0, candidates=8), 2)))
    assert asked(loop) == [("prefill", 1, 8), ("decode", 1, 8)]


def test_the_end_of_the_text_is_a_token_without_text() -> None:
    tokens, completion = run(token_loop([ord("h"), ord("i"), EOS, ord("!")]), request())
    assert (completion.text, completion.finish_reason) == ("hi", "stop")
    assert [token.id for token in tokens] == list(completion.token_ids) == [ord("h"), ord("i"), EOS]


def test_a_text_that_only_ends() -> None:
    _, completion = run(token_loop([EOS]), request(max_tokens=5))
    assert (completion.text, completion.token_ids, completion.finish_reason) == ("", (EOS,), "stop")


def test_max_tokens_is_a_length() -> None:
    _, completion = run(token_loop([ord("a")] * 9), request(max_tokens=4))
    assert (completion.text, completion.finish_reason) == ("aaaa", "length")


@pytest.mark.parametrize("max_tokens", [None, 1000])
def test_the_context_ends_a_text_too(max_tokens: int | None) -> None:
    loop = token_loop([ord("a")] * 9, max_context=8)
    _, completion = run(loop, request(3, max_tokens))
    assert (len(completion.token_ids), completion.finish_reason) == (5, "length")
    assert asked(loop)[-1] == ("decode", 6, 1)  # and no cache row beyond the eighth is ever asked for


def test_the_longest_prompt_leaves_room_for_one_token() -> None:
    assert len(run(token_loop([7], max_context=8), request(7))[1].token_ids) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (request(0), "the prompt is empty"),
        (request(8), r"8 tokens, the compiled context 8.*`max_context`"),
        (request(70), "70 tokens"),
    ],
)
def test_a_request_that_cannot_run_is_refused_before_any_arithmetic(wrong: Request, said: str) -> None:
    loop = token_loop([7], max_context=8)
    with pytest.raises(RequestError, match=said):
        loop.run(wrong)
    assert (script_of(loop).fed, asked(loop)) == ([], [])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_tokens": -1}, "`max_tokens` is -1"),
        ({"stop": tuple("abcde")}, "up to 4"),
        ({"stop": ("a", "")}, "none of them empty"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"arrival_s": -1.0}, "arrival_s is -1.0"),
    ],
)
def test_a_request_that_no_wafer_can_run_is_not_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        request(**wrong)


@pytest.mark.parametrize(
    "options",
    [
        *({"temperature": t} for t in (-0.01, 1.51, float("nan"), float("inf"))),
        *({"top_p": p} for p in (0.0, -0.5, 1.01, float("nan"))),
        *({"seed": s} for s in (-1, 2**64)),
    ],
)
def test_sampling_outside_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SamplingRangeError, match=next(iter(options))):
        generation_options(RequestOptions(**options))


def test_stops_are_one_text_or_several_or_none() -> None:
    assert [generation_options(RequestOptions(stop=s)).stop for s in ("ab", ["a", "b"], None)] == [
        ("ab",),
        ("a", "b"),
        (),
    ]


def test_a_text_does_not_end_before_its_least_tokens() -> None:
    tokens, _ = run(token_loop([EOS] * 9), request(max_tokens=5, min_tokens=3))
    assert EOS not in [token.id for token in tokens[:3]]
    assert tokens[3].id == EOS


def test_log_probabilities_name_the_likeliest_in_a_token_s_place() -> None:
    tokens, _ = run(token_loop([7, 8]), request(3, max_tokens=2, logprobs=2))
    assert [[token for token, _ in t.top] for t in tokens] == [[7, 0], [8, 0]]
    assert tokens[0].top[0] == (7, tokens[0].logprob)


def test_a_prompt_s_own_log_probabilities_leave_out_its_first_token() -> None:
    loop = token_loop([2])
    events: list[GenerationEvent] = []
    loop.submit(request(3, max_tokens=0, logprobs=1, prompt_logprobs=True), events.append)
    while loop.busy:
        loop.advance()
    prompt, completion = events
    assert isinstance(prompt, PromptLogprobs) and isinstance(completion, Completion)
    assert script_of(loop).fed == [[1], [2], [3]]
    (second, first_top), (third, _) = prompt.tokens
    assert first_top == ((2, second),)
    assert third == second - 9.0
    assert completion.token_ids == ()


# Stop sequences


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello world", ("o w",), "hell"),  # split over tokens, as every one here
        ("aaab", ("aab",), "a"),  # begins inside what looked like its own beginning
        ("ababac", ("abac",), "ab"),
        ("xyz", ("z", "y"), "x"),  # the one that comes first
        ("abc", ("abcd",), "abc"),  # held back in vain
        ("abc", ("a",), ""),
        ("\n\nQ:", ("\n\n",), ""),
    ],
)
def test_stop_sequences_split_over_tokens(text: str, stop: tuple[str, ...], expected: str) -> None:
    tokens, completion = run(token_loop([*map(ord, text), EOS]), request(stop=stop))
    assert (completion.text, completion.finish_reason) == (expected, "stop")
    assert expected.startswith("".join(token.text for token in tokens))


def test_a_stop_ends_the_text_with_its_last_token() -> None:
    _, completion = run(token_loop([*map(ord, "abcdef")]), request(stop=("cd",)))
    assert [chr(token) for token in completion.token_ids] == list("abcd")


def test_a_stop_that_the_last_token_completes_is_a_stop() -> None:
    assert run(token_loop([*map(ord, "ab")]), request(max_tokens=2, stop=("b",)))[1].finish_reason == "stop"


short = st.text("ab\n", min_size=1, max_size=4)


@given(st.lists(st.text("ab\n", max_size=4), max_size=12), st.lists(short, max_size=4))
def test_no_piece_holds_or_begins_a_stop(pieces: list[str], stop: list[str]) -> None:
    """The filter lets out a text's longest beginning before the first stop to be completed, whatever the pieces."""
    found = StopFilter(tuple(stop))
    released = [found.push(piece) for piece in pieces] + [found.flush()]
    text = "".join(released)
    assert text == before_stop(pieces, stop)
    assert not any(s in text for s in stop)
    for i, events in enumerate(accumulate(pieces)):
        if not any(s in events for s in stop):  # so far: all but what may still become a stop
            said = "".join(released[: i + 1])
            assert events.startswith(said)
            assert events[len(said) :] == beginning(events, stop)


def beginning(events: str, stop: list[str]) -> str:
    """The longest end of `events` that begins a stop."""
    ends = (events[at:] for at in range(len(events)))
    return next((end for end in ends if any(s.startswith(end) for s in stop)), "")


def before_stop(pieces: list[str], stop: list[str]) -> str:
    """The text cut at its first stop, looked for each time that a piece has come."""
    for events in accumulate(pieces):
        places = [events.find(s) for s in stop if s in events]
        if places:
            return events[: min(places)]
    return "".join(pieces)


# Streaming


@given(
    st.text("ab\né€\N{CAT FACE}", max_size=12),
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.lists(short, max_size=2),
    st.integers(0, 30),
)
def test_streamed_pieces_make_the_text(text: str, cuts: list[int], stop: list[str], max_tokens: int) -> None:
    """Tokens cut characters anywhere; no piece holds half a character, and all pieces begin the whole text."""
    pieces = cut(text.encode(), cuts)
    tokenizer = letters(*pieces)
    script = [*range(1, len(pieces) + 1), EOS]
    tokens, completion = run(token_loop(script, tokenizer), request(max_tokens=max_tokens, stop=tuple(stop)))
    streamed = "".join(token.text for token in tokens)
    assert completion.text.startswith(streamed)
    assert not any(s in completion.text for s in stop)
    if not stop:
        assert completion.text == tokenizer.decode(i for i in completion.token_ids if i != EOS)
    if EOS in completion.token_ids:
        assert text.startswith(completion.text)


def cut(raw: bytes, lengths: list[int]) -> list[bytes]:
    """`raw` in pieces of these lengths, again and again."""
    ends = [0]
    while ends[-1] < len(raw):
        ends.append(ends[-1] + lengths[len(ends) % len(lengths)])
    return [raw[a:b] for a, b in pairwise(ends)]


def test_half_a_character_is_not_let_out() -> None:
    """é in two tokens, then a euro sign that never ends."""
    tokenizer = letters(b"\xc3", b"\xa9", b"\xe2\x82")
    tokens, completion = run(token_loop([1, 2, 3], tokenizer), request(max_tokens=3))
    assert [token.text for token in tokens] == ["", "é", ""]
    assert completion.text == "é\N{REPLACEMENT CHARACTER}"


# The API's object


def test_completion_object_counts_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1731597024.9)
    _, completion = run(token_loop([ord("a")] * 4), request(max_tokens=4))
    reply = completion_reply(completion, "llama3.1-8b", "0123456789abcdef", None).to_json()
    assert list(reply) == ["id", "choices", "created", "model", "system_fingerprint", "object", "usage", "time_info"]
    assert reply["choices"] == [{"finish_reason": "length", "index": 0, "text": "aaaa"}]
    counted = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert reply["usage"] == counted | {"prompt_tokens_details": {"cached_tokens": 0}}
    assert reply["system_fingerprint"] == "fp_0123456789"
    assert reply["created"] == reply["time_info"]["created"] == 1731597024
    assert reply["time_info"]["total_time"] == completion.times.total_s
    assert "wsesim_text_from" not in reply
    assert completion_reply(completion, "m", "f", "smollm2-135m").wsesim_text_from == "smollm2-135m"
