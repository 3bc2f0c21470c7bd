"""The contract of the API, tested with the real clients in process: fields of replies, and refusals."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cerebras.cloud.sdk as cerebras
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wsesim
from tests.serving import tiny_api, tiny_deployment, tiny_session
from wsesim.errors import DoesNotFitError, InvalidInputError
from wsesim.program.files import save_program
from wsesim.serve.api import Api
from wsesim.serve.client import ApiClient, AsyncApiClient
from wsesim.serve.errors import ApiError
from wsesim.toolchain import serving
from wsesim.toolchain.compiling import Compilation, prepare
from wsesim.toolchain.options import Lowering, TextOptions

PROMPT = "It was a dark and stormy night"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    made = tiny_api()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(api: Api) -> ApiClient:
    return ApiClient(api)


@pytest.fixture(scope="module")
def sdk(api: Api) -> Iterator[cerebras.Cerebras]:
    made = wsesim.connect(api=api, client_options={"_strict_response_validation": True})
    yield made
    made.close()


@pytest.fixture(scope="module")
def oai(api: Api) -> Iterator[openai.OpenAI]:
    made = wsesim.connect(openai.OpenAI, api=api)
    yield made
    made.close()


def ask(client: Any, **options: Any) -> Any:
    """A reply. Without a seed in `options` it is 0; None asks without one."""
    return client.completions.create(**{"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "seed": 0} | options)


def text(client: Any, **options: Any) -> str:
    return str(ask(client, **options).choices[0].text)


def refusal(client: Any, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask(client, **options)
    return caught.value


# Replies


def test_a_reply_satisfies_the_strict_client(sdk: cerebras.Cerebras) -> None:
    reply = ask(sdk)
    assert isinstance(reply, cerebras.types.completion.CompletionResponse)
    assert (reply.object, reply.model) == ("text_completion", "tiny")
    assert reply.id.startswith("chatcmpl-") and len(reply.id) == 9 + 36
    assert reply.system_fingerprint[:3] == "fp_" and int(reply.system_fingerprint[3:], 16)
    assert [(c.index, c.finish_reason) for c in reply.choices] == [(0, "length")]
    usage, times = reply.usage, reply.time_info
    assert usage and usage.prompt_tokens_details and times
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (len(PROMPT), 8, len(PROMPT) + 8)
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert times.queue_time and times.prompt_time and times.completion_time and times.total_time
    assert min(times.queue_time, times.prompt_time, times.completion_time) > 0
    assert times.queue_time + times.prompt_time + times.completion_time < times.total_time
    assert times.created == reply.created


def test_openai_s_client_reads_the_same_reply(sdk: cerebras.Cerebras, oai: openai.OpenAI) -> None:
    ours, theirs = ask(sdk, seed=5), ask(oai, seed=5)
    assert theirs.choices[0].text == ours.choices[0].text
    assert theirs.usage.total_tokens == ours.usage.total_tokens
    assert theirs.time_info["prompt_time"] == pytest.approx(ours.time_info.prompt_time)


def test_times_are_those_of_the_command_line(client: ApiClient) -> None:
    alone = tiny_session(4).complete(PROMPT, max_tokens=8).completion
    reply = ask(ApiClient(tiny_api()), temperature=0)
    assert reply.choices[0].text == alone.text
    assert reply.time_info.completion_time == pytest.approx(alone.times.completion_s)
    assert reply.time_info.prompt_time == pytest.approx(alone.times.prompt_s)


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ({}, [("smollm2-135m", None, None), ("llama3.1-8b", None, "smollm2-135m")]),
        ({"weights": "w"}, [("smollm2-135m", None, None), ("llama3.1-8b", "w", None)]),
        ({"text_from": "tiny"}, [("smollm2-135m", None, None), ("llama3.1-8b", None, "tiny")]),
        ({"model": "tiny"}, [("tiny", None, None)]),
    ],
)
def test_what_is_served_without_a_model(
    given: dict[str, Any], opened: list[tuple[str, str | None, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def start_session(prepared: Compilation, text: TextOptions, *, lender: Any, **_: Any) -> Any:
        model = prepared.source.model
        asked.append((model, text.weights, lender.model if lender else text.text_from))
        return dataclasses.replace(tiny_session(4), model=model)

    monkeypatch.setattr(serving, "start_session", start_session)
    monkeypatch.setattr(serving, "with_slots", lambda compilation: compilation)
    said: list[str] = []
    served = serving.open_api(**given, say=said.append)
    assert asked == opened
    assert list(served.deployments) == [model for model, *_ in opened] and len(said) == len(opened)


@pytest.mark.parametrize("room", range(10))
def test_as_many_slots_as_fit_are_opened(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(compilation: Compilation) -> None:
        if compilation.options.sequences > room:
            raise DoesNotFitError("too many")

    monkeypatch.setattr(Compilation, "program", program)
    compilation = prepare("tiny", Lowering(machine="wse2"))
    assert isinstance(compilation, Compilation)
    assert serving.with_slots(compilation).options.sequences == min(max(room, 1), 8)


def test_a_saved_program_is_served_with_its_own_slots(tmp_path: Path) -> None:
    path = tmp_path / "tiny.txt"
    save_program(tiny_session(4).program, path)
    with wsesim.Client(str(path)) as client:
        assert client.api.deployments["tiny"].loop.slots == 4
        assert text(client, temperature=0) == text(ApiClient(tiny_api()), temperature=0)
    with pytest.raises(InvalidInputError, match="give no options"):
        wsesim.Client(str(path), sequences=2)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_p": 0.5}, {"top_p": 0}])
def test_same_seed_same_text(client: ApiClient, options: dict[str, Any]) -> None:
    assert text(client, seed=3, **options) == text(client, seed=3, **options)


@pytest.mark.parametrize("stream", [False, True])
def test_calls_without_a_seed_differ_and_can_be_repeated(client: ApiClient, stream: bool) -> None:
    def said(**options: Any) -> tuple[int, list[str]]:
        replies = ask(client, max_tokens=48, min_tokens=-1, temperature=1.5, stream=stream, **options)
        replies = list(replies) if stream else [replies]
        (seed,) = {reply.wsesim_seed for reply in replies}
        assert not any("wsesim_seed" in reply.to_json() for reply in replies)
        texts: dict[int, str] = {}
        for choice in (choice for reply in replies for choice in reply.choices):
            texts[choice.index] = texts.get(choice.index, "") + choice.text
        return seed, list(texts.values())

    drawn = [said(n=2, seed=None) for _ in range(3)]
    assert len({seed for seed, _ in drawn}) == 3 and len({text for _, texts in drawn for text in texts}) == 6
    assert all(0 <= seed < 2**53 for seed, _ in drawn)  # a JavaScript client's own numbers
    assert [said(n=2, seed=seed) for seed, _ in drawn] == drawn


@pytest.mark.parametrize("seed", [None, 7, -1])
def test_a_header_says_the_seed_to_every_client(sdk: cerebras.Cerebras, oai: openai.OpenAI, seed: int | None) -> None:
    clients: tuple[Any, ...] = (sdk, oai)
    for each in clients:
        for make, more in (
            (each.completions, {"prompt": PROMPT}),
            (each.chat.completions, {"messages": [{"role": "user", "content": "hi"}]}),
        ):
            options = {"model": "tiny", "max_tokens": 8, **more}
            raw = make.with_raw_response.create(**options, **({} if seed is None else {"seed": seed}))
            said = int(raw.headers["x-wsesim-seed"])
            assert said == seed or (seed is None and 0 <= said < 2**53)
            again = make.create(**options, seed=said)
            assert again.choices == raw.parse().choices
            with make.with_streaming_response.create(**options, seed=said, stream=True) as streamed:
                assert streamed.headers["x-wsesim-seed"] == str(said)


def test_the_command_line_and_python_keep_seed_0(client: ApiClient) -> None:
    made = [tiny_session(4).complete(PROMPT, max_tokens=8, temperature=1.0).text for _ in range(2)]
    assert made == [text(client, seed=0)] * 2


def test_seeds_differ_and_negative_ones_count(client: ApiClient) -> None:
    texts = {text(client, seed=seed, max_tokens=16) for seed in (0, 1, -1, 2**64 - 2)}
    assert len(texts) == 4
    assert text(client, seed=-1) == text(client, seed=2**64 - 1)


def test_no_temperature_is_one_and_zero_is_greedy(client: ApiClient) -> None:
    assert text(client) == text(client, temperature=1.0) == text(client, temperature=None, top_p=None)
    assert text(client, temperature=0, seed=1) == text(client, temperature=0, seed=2) == text(client, top_p=0)


@pytest.mark.parametrize(
    ("prompt", "choices", "tokens"),
    [
        (PROMPT, 1, 30),
        ([PROMPT, "ab"], 2, 32),
        (list(PROMPT.encode()), 1, 30),
        ([list(PROMPT.encode()), list(b"ab")], 2, 32),
    ],
)
def test_prompts_of_every_kind(client: ApiClient, prompt: Any, choices: int, tokens: int) -> None:
    reply = ask(client, prompt=prompt, temperature=0)
    assert [c.index for c in reply.choices] == list(range(choices))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (tokens, 8 * choices)
    assert reply.choices[0].text == text(client, temperature=0)


def test_choices_of_a_prompt_stand_together_and_differ(client: ApiClient) -> None:
    reply = ask(client, prompt=["ab", "cd"], n=3, max_tokens=12)
    assert [c.index for c in reply.choices] == list(range(6))
    assert len({c.text for c in reply.choices}) == 6
    assert reply.choices[0].text == text(client, prompt="ab", max_tokens=12)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (4, 72)


def test_best_of_returns_the_likeliest_per_token(client: ApiClient) -> None:
    every = ask(client, n=6, logprobs=0, seed=9)
    best = ask(client, n=2, best_of=6, logprobs=0, seed=9)
    mean = [sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in every.choices]
    ranked = [every.choices[i].text for i in sorted(range(6), key=lambda i: -mean[i])]
    assert [c.text for c in best.choices] == ranked[:2]
    assert [c.index for c in best.choices] == [0, 1]
    assert best.usage.completion_tokens == 48


def test_echo_puts_the_prompt_before_the_text(client: ApiClient) -> None:
    assert text(client, echo=True) == PROMPT + text(client)
    assert text(client, echo=True, max_tokens=0) == PROMPT
    assert ask(client, echo=True, max_tokens=0).usage.completion_tokens == 0


def test_logprobs_name_the_chosen_and_the_likeliest(client: ApiClient) -> None:
    found = ask(client, logprobs=3, seed=4).choices[0]
    own = found.logprobs
    assert "".join(own.tokens) == found.text
    assert own.text_offset == [len(PROMPT) + i for i in range(8)]  # a token a character; from the prompt's beginning
    for token, value, top in zip(own.tokens, own.token_logprobs, own.top_logprobs, strict=True):
        assert top[token] == value
        assert 3 <= len(top) <= 4
        assert sorted(top.values(), reverse=True)[0] >= value
    assert all(len(top) == 1 for top in ask(client, logprobs=0).choices[0].logprobs.top_logprobs)


def test_echoed_prompts_have_log_probabilities_but_for_their_first_token(client: ApiClient) -> None:
    found = ask(client, echo=True, logprobs=1, temperature=0).choices[0]
    own = found.logprobs
    assert "".join(own.tokens) == found.text
    assert own.text_offset == list(range(len(PROMPT) + 8))
    assert own.token_logprobs[0] is None and own.top_logprobs[0] is None
    assert all(value < 0 for value in own.token_logprobs[1:])
    plain = ask(client, logprobs=1, temperature=0).choices[0].logprobs
    assert own.token_logprobs[-8:] == plain.token_logprobs


def test_the_log_probability_of_a_text_is_the_same_generated_or_scored(client: ApiClient) -> None:
    made = ask(client, logprobs=0, seed=2).choices[0]
    scored = ask(client, prompt=PROMPT + made.text, echo=True, logprobs=0, max_tokens=0).choices[0].logprobs
    # a chunk of a prompt adds in another order than a token
    assert scored.token_logprobs[-8:] == pytest.approx(made.logprobs.token_logprobs, rel=1e-5)


def test_a_stop_ends_the_text_and_is_not_in_it(client: ApiClient) -> None:
    whole = text(client, max_tokens=12)
    cut = ask(client, max_tokens=12, stop=whole[4:6])
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == (whole[: whole.index(whole[4:6])], "stop")
    assert (
        text(client, max_tokens=12, stop=[whole[7], whole[3]]) == whole[: min(map(whole.index, (whole[7], whole[3])))]
    )


def test_biases_force_ban_and_count_as_strings(client: ApiClient) -> None:
    assert text(client, logit_bias={str(ord("x")): 100}) == "x" * 8
    favourite = text(client, temperature=0)[0]
    assert text(client, temperature=0, logit_bias={str(ord(favourite)): -100})[0] != favourite


def test_penalties_push_repetition_down(client: ApiClient) -> None:
    def most(**options: Any) -> int:
        return max(Counter(text(client, temperature=0, max_tokens=32, **options)).values())

    assert most() > most(presence_penalty=2.0) >= most(frequency_penalty=2.0)
    assert most(frequency_penalty=-2.0) >= most()


def test_least_tokens_hold_off_the_end(client: ApiClient) -> None:
    ends = {"logit_bias": {str(e): 100.0 for e in tiny_session(4).tokenizer.eos_ids}, "temperature": 0}
    assert ask(client, **ends).choices[0].finish_reason == "stop"
    held = ask(client, **ends, min_tokens=3)
    assert held.usage.completion_tokens == 4
    assert ask(client, **ends, min_tokens=-1).usage.completion_tokens == 8
    assert ask(client, **ends, min_tokens=99).usage.completion_tokens == 8  # max_tokens caps


@pytest.mark.parametrize("unset", [None, -1])
def test_no_max_tokens_runs_to_the_end_of_the_context(client: ApiClient, unset: int | None) -> None:
    banned = {str(e): -100.0 for e in tiny_session(4).tokenizer.eos_ids}
    reply = ask(client, max_tokens=unset, logit_bias=banned)
    assert reply.usage.total_tokens == 256
    assert reply.choices[0].finish_reason == "length"


def test_raw_tokens_come_instead_of_text(client: ApiClient, sdk: cerebras.Cerebras) -> None:
    choice = ask(sdk, return_raw_tokens=True).choices[0]
    assert choice.text is None
    assert bytes(choice.tokens).decode() == text(client)
    echoed = ask(client, return_raw_tokens=True, echo=True).choices[0].tokens
    assert echoed == list(PROMPT.encode()) + choice.tokens


def test_what_does_not_concern_us_is_taken(sdk: cerebras.Cerebras) -> None:
    ask(
        sdk,
        user="me",
        prompt_cache_key="k",
        stream_options={"include_usage": True},
        suffix=None,
        reasoning_format="raw",
    )


# Refusals

WRONG = [
    ({"temperature": 1.6}, "body.temperature: input should be less than or equal to 1.5"),
    ({"temperature": "1"}, "body.temperature: input should be a valid number"),
    ({"top_p": 1.1}, "body.top_p"),
    ({"max_tokens": 1.5}, "body.max_tokens"),
    ({"max_tokens": -2}, "body.max_tokens"),
    ({"n": 0}, "body.n"),
    ({"n": 129}, "body.n"),
    ({"n": True}, "body.n"),
    ({"best_of": 2, "n": 3}, "body.best_of: 2 is fewer than n, 3"),
    ({"best_of": 2, "stream": True}, "body.best_of: the best of several texts cannot be streamed"),
    ({"logprobs": 21}, "body.logprobs"),
    ({"logprobs": True}, "body.logprobs"),
    ({"stop": list("abcde")}, "body.stop: a string of 1 to 1000 characters or a list of up to 4"),
    ({"stop": ""}, "body.stop"),
    ({"prompt": [1, "a"]}, "body.prompt: a string, or a list of strings"),
    ({"prompt": []}, "body.prompt"),
    ({"prompt": [[]]}, "body.prompt"),
    ({"prompt": [-1]}, "body.prompt"),
    ({"prompt": [999]}, "body.prompt: token id 999 is outside the vocabulary of"),
    ({"prompt": ["a"] * 129}, "body.prompt: 129 prompts are more than 128"),
    ({"prompt": ["a"] * 65, "n": 2}, "body.prompt: 65 prompts with 2 texts each are more than 128"),
    ({"logit_bias": {"x": 1}}, "body.logit_bias: 'x' is not a token id"),
    ({"logit_bias": {"999": 1}}, "body.logit_bias: token id 999 is outside"),
    ({"logit_bias": {"1": 101}}, "body.logit_bias.1"),
    ({"frequency_penalty": 3}, "body.frequency_penalty"),
    ({"seed": 2**64}, "body.seed"),
    ({"suffix": "x"}, "body.suffix"),
    ({"grammar_root": "x"}, "body.grammar_root"),
    ({"store": True}, "body.store: property 'body.store' is unsupported"),
    ({"stream_options": {"a": 1}}, "body.stream_options.a: property"),
    ({"arrival_time": -1}, "body.arrival_time"),
    ({"model": None}, "body.model"),
]


@pytest.mark.parametrize(("options", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_refused_by_its_field(client: ApiClient, options: dict[str, Any], said: str) -> None:
    error = refusal(client, **options)
    assert (error.status, error.code) == (400, "wrong_api_format")
    assert error.message.startswith(said)


def test_an_unknown_model_names_the_known_ones(client: ApiClient) -> None:
    error = refusal(client, model="gpt")
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert error.message.startswith("Model does not exist or you do not have access to it.") and "tiny" in error.message


def test_a_prompt_and_its_answer_must_fit_the_context(client: ApiClient) -> None:
    error = refusal(client, prompt="x" * 250, max_tokens=7)
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert error.message.endswith("Current length is 257 while limit is 256")
    assert ask(client, prompt="x" * 250, max_tokens=6).usage.total_tokens <= 256
    assert text(client, prompt="x" * 256, max_tokens=0, echo=True) == "x" * 256
    assert "Current length is 257" in refusal(client, prompt="x" * 256, max_tokens=None).message


def test_an_empty_prompt_needs_a_token_that_begins_texts(client: ApiClient) -> None:
    error = refusal(client, prompt="")
    assert error.status == 400 and "the prompt is empty" in error.message


def test_clients_raise_their_own_errors(sdk: cerebras.Cerebras, oai: openai.OpenAI) -> None:
    with pytest.raises(cerebras.NotFoundError) as theirs:
        ask(sdk, model="gpt")
    assert theirs.value.status_code == 404
    with pytest.raises(openai.NotFoundError) as other:
        ask(oai, model="gpt")
    assert (other.value.code, other.value.param, other.value.type) == ("model_not_found", "model", "not_found_error")
    assert other.value.request_id
    with pytest.raises(cerebras.BadRequestError, match="temperature"):
        ask(sdk, temperature=1.9)
    with pytest.raises(openai.BadRequestError, match="unsupported"):
        ask(oai, extra_body={"store": 1})


# Streams


@settings(max_examples=40, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {"seed": st.integers(0, 5), "max_tokens": st.integers(0, 10)},
        optional={
            "n": st.integers(1, 3),
            "echo": st.booleans(),
            "logprobs": st.integers(0, 2),
            "stop": st.lists(st.text("abcXYZ12?!'", min_size=1, max_size=2), max_size=3),
            "return_raw_tokens": st.booleans(),
            "prompt": st.sampled_from(["a", ["ab", "c"], [65, 66], "Ünï"]),
        },
    )
)
def test_a_stream_joined_is_the_whole_reply(api: Api, options: dict[str, Any]) -> None:
    client = ApiClient(api)
    whole, chunks = ask(client, **options), list(ask(client, **options, stream=True))
    assert len({(c.id, c.created, c.model, c.system_fingerprint, c.object) for c in chunks}) == 1
    for choice in whole.choices:
        own = [c.choices[0] for c in chunks if c.choices[0].index == choice.index]
        assert [c.finish_reason for c in own] == [None] * (len(own) - 1) + [choice.finish_reason]
        assert "".join(c.text or "" for c in own) == (choice.text or "")
        assert list(itertools.chain(*(c.tokens or [] for c in own))) == (choice.tokens or [])
        logprobs = [c.logprobs for c in own if c.logprobs is not None]
        offsets = list(itertools.chain(*(one.text_offset for one in logprobs)))
        assert offsets == (choice.logprobs.text_offset if choice.logprobs else [])
    assert [c.usage is not None for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].time_info.queue_time == pytest.approx(whole.time_info.queue_time)


def test_both_clients_read_streams(sdk: cerebras.Cerebras, oai: openai.OpenAI, client: ApiClient) -> None:
    expected = text(client, seed=1)
    for each in (sdk, oai):
        with ask(each, seed=1, stream=True) as stream:
            chunks = list(stream)
        assert "".join(c.choices[0].text for c in chunks) == expected
        assert chunks[-1].choices[0].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens == 8
        assert len(chunks) == 1 + 8 + 1


def test_asynchronous_clients_do_it_all_at_once(api: Api, client: ApiClient) -> None:
    expected = [text(client, seed=seed) for seed in range(6)]

    async def all_of(each: Any) -> list[str]:
        async def one(seed: int) -> str:
            if seed % 2:
                return str((await ask(each, seed=seed)).choices[0].text)
            return "".join([c.choices[0].text async for c in await ask(each, seed=seed, stream=True)])

        return list(await asyncio.gather(*map(one, range(6))))

    async def every() -> None:
        for cls in (cerebras.AsyncCerebras, openai.AsyncOpenAI):
            async with wsesim.connect(cls, api=api) as each:
                assert await all_of(each) == expected
                with pytest.raises((cerebras.NotFoundError, openai.NotFoundError)):
                    await ask(each, model="gpt")
        assert await all_of(AsyncApiClient(api)) == expected
        with pytest.raises(ApiError, match="Model does not exist"):
            await ask(AsyncApiClient(api), model="gpt")

    asyncio.run(every())


# Chat


def talk(client: Any, *contents: str, **options: Any) -> Any:
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    body = {"model": "tiny", "messages": messages, "max_tokens": 8, "seed": 0}
    return client.chat.completions.create(**body | options)


def test_a_chat_is_its_template_s_text(sdk: cerebras.Cerebras, oai: openai.OpenAI, client: ApiClient) -> None:
    expected = text(client, prompt="<user>hi<assistant>so<user>and?<assistant>", seed=3)
    for each in (sdk, oai, client):
        reply = talk(each, "hi", "so", "and?", seed=3)
        message = reply.choices[0].message
        assert (message.role, message.content, reply.object) == ("assistant", expected, "chat.completion")
        assert reply.usage.prompt_tokens == len("<user>hi<assistant>so<user>and?<assistant>")


def test_a_chat_streams_deltas(sdk: cerebras.Cerebras, oai: openai.OpenAI, client: ApiClient) -> None:
    whole = talk(client, "hi", logprobs=True, top_logprobs=2)
    for each in (sdk, oai):
        with talk(each, "hi", stream=True) as stream:
            first, *middle, last = list(stream)
        assert first.choices[0].delta.role == "assistant"
        assert "".join(c.choices[0].delta.content for c in middle) == whole.choices[0].message.content
        assert (last.choices[0].finish_reason, last.object) == ("length", "chat.completion.chunk")
        assert last.usage.completion_tokens == 8
    content = whole.choices[0].logprobs.content
    assert "".join(entry.token for entry in content) == whole.choices[0].message.content
    assert all(len(entry.top_logprobs) == 2 and bytes(entry.bytes).decode() == entry.token for entry in content)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"messages": []}, "body.messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "body.messages: the model's chat template refuses"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "body.messages.0.content"),
        ({"tools": [{}]}, "body.tools"),
        ({"response_format": {"type": "json_object"}}, "body.response_format.type"),
        ({"top_logprobs": 2}, "body.top_logprobs: it needs logprobs to be true"),
        ({"prompt": "x"}, "body.prompt: property 'body.prompt' is unsupported"),
    ],
)
def test_what_a_chat_cannot_have_is_refused(client: ApiClient, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as caught:
        talk(client, "hi", **options)
    assert caught.value.status == 400 and caught.value.message.startswith(said)


def test_content_may_come_in_parts_and_a_developer_is_the_system(client: ApiClient) -> None:
    messages = [
        {"role": "developer", "content": "be"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    reply = talk(client, messages=messages, seed=1, max_completion_tokens=3)
    assert reply.choices[0].message.content == text(client, prompt="<system>be<user>ab<assistant>", seed=1)[:3]


def test_a_model_without_a_template_takes_no_chat() -> None:
    with ApiClient(Api([tiny_deployment(chat=False)])) as client, pytest.raises(ApiError, match="has no chat template"):
        talk(client, "hi")


# Models


def test_models_are_listed_and_retrieved(sdk: cerebras.Cerebras, oai: openai.OpenAI) -> None:
    listed: tuple[Any, ...] = (sdk.models, oai.models)
    for models in listed:
        assert [m.id for m in models.list().data] == ["tiny"]
        assert models.retrieve("tiny").object == "model"
    models = listed[0]
    found = {f: models.list(format=f).data[0] for f in ("default", "openrouter", "huggingface")}
    assert found["openrouter"].id == "wsesim/tiny" and found["openrouter"].max_output_length == 256
    assert found["huggingface"].context_length == 256 and found["huggingface"].pricing.input == 0
    assert models.retrieve("tiny", format="openrouter").name == "tiny"
    with pytest.raises(cerebras.BadRequestError, match="format 'x' is not one of default, openrouter, huggingface"):
        models.list(format="x")
    with pytest.raises(cerebras.NotFoundError):
        sdk.models.retrieve("org/name")


# Virtual time


def test_arrivals_are_virtual_and_not_in_the_past() -> None:
    with ApiClient(tiny_api()) as client:
        late = ask(client, arrival_time=100.0)
        assert late.time_info.queue_time == pytest.approx(14e-6)
        error = refusal(client, arrival_time=99.0)
        assert (error.status, error.param) == (400, "arrival_time")
        assert "earlier than the virtual now, 100." in error.message
        sdk = wsesim.connect(api=client.api)
        assert ask(sdk, extra_body={"arrival_time": 200.0}).time_info.queue_time == pytest.approx(14e-6)
        with pytest.raises(cerebras.BadRequestError, match="earlier than the virtual now"):
            ask(sdk, extra_body={"arrival_time": 1.0}, stream=True)
        sdk.close()


def test_texts_of_one_slot_wait_for_each_other_on_the_virtual_clock() -> None:
    with ApiClient(tiny_api(slots=1)) as client:
        alone = ask(client, arrival_time=50.0).time_info
        pair = ask(client, n=2).time_info
    busy_s = alone.prompt_time + alone.completion_time
    assert pair.queue_time == pytest.approx(alone.queue_time + busy_s, rel=0.1)


def test_a_fingerprint_is_of_model_text_placement_machine_and_numerics() -> None:
    def fingerprint(model: str = "tiny", **options: Any) -> str:
        chosen: dict[str, Any] = {"machine": "wse3", "max_context": 64} | options
        with wsesim.Client(model, **chosen) as client:
            return str(ask(client, model=model, max_tokens=1).system_fingerprint)

    text_of = {t: fingerprint("smollm2-135m", text_from=t) for t in ("tiny", None)}

    first = fingerprint()
    assert fingerprint() == first
    others: list[dict[str, Any]] = [
        {"sequences": 2},
        {"machine": "toy4x4"},
        {"strategy": "shared"},
        {"dtype": "bf16"},
        {"timing_dtype": "fp32"},
    ]
    assert len({first, *text_of.values(), *(fingerprint(**other) for other in others)}) == 3 + len(others)
