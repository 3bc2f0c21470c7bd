"""Calls: a validated body becomes requests to the wafer. Wrong calls are refused here, before anything runs."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from wsesim.errors import InvalidInputError
from wsesim.execute.sampling import SamplingOptions
from wsesim.runtime.errors import RequestError
from wsesim.runtime.request import GenerationOptions, Request
from wsesim.serve.deployment import Deployment
from wsesim.serve.errors import CONTEXT_LENGTH, WRONG_FORMAT, ApiError
from wsesim.serve.schema import MAX_CHOICES, ChatRequest, CompletionRequest, SamplingFields

SEED_BITS = 53
"""Bits of a drawn seed: JavaScript clients can send such a number back exactly."""

_SMALLEST = sys.float_info.min  # top_p of 0 means the likeliest token alone


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API. It generates `per_prompt` texts for each prompt, and returns the `kept` best of them.

    `requests` are in the order of the prompts. `seed` is the requested one, or was drawn for this call. With `echo` the
    reply has the prompts too. `chat`: the reply is one of /v1/chat/completions.
    """

    deployment: Deployment
    requests: tuple[Request, ...]
    prompts: tuple[tuple[int, ...], ...]
    per_prompt: int
    kept: int
    seed: int
    stream: bool
    chat: bool = False
    echo: bool = False
    logprobs: int | None = None
    raw_tokens: bool = False

    @property
    def tokens(self) -> int:
        """The most tokens that it can use, prompts included."""
        most = self.deployment.loop.max_context
        return sum(len(request.prompt_ids) + request.output_tokens(most) for request in self.requests)

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        return self.prompts[choice // self.per_prompt]


def completion_call(body: CompletionRequest, deployment: Deployment) -> Call:
    """The call of a body of /v1/completions. Raises ApiError if this model cannot run it."""
    kept = body.n or 1
    made = body.best_of or kept
    if made < kept:
        raise _wrong("best_of", f"{made} is fewer than n, {kept}")
    if made > kept and body.stream:
        raise _wrong("best_of", "the best of several texts cannot be streamed; set stream to false or best_of to n")
    prompts = _prompt_ids(body.prompt, deployment)
    seed = _seed_of(body)
    return Call(
        deployment,
        _requests(body, seed, deployment, prompts, made, bool(body.echo), body.logprobs),
        prompts,
        made,
        kept,
        seed,
        bool(body.stream),
        echo=bool(body.echo),
        logprobs=body.logprobs,
        raw_tokens=bool(body.return_raw_tokens),
    )


def chat_call(body: ChatRequest, deployment: Deployment) -> Call:
    """The call of a body of /v1/chat/completions. Raises ApiError if this model cannot run it."""
    messages = [{"role": _role(m.role), "content": m.text()} for m in body.messages]
    _check_length(sum(len(m["content"]) for m in messages), deployment)
    try:
        ids = deployment.tokenizer.encode_chat(messages)
    except InvalidInputError as error:
        raise _wrong("messages", str(error)) from None
    if ids is None:
        raise ApiError(
            WRONG_FORMAT,
            f"{deployment.name} has no chat template, so it takes no messages; use /v1/completions",
            param="messages",
        )
    if body.max_completion_tokens is not None:
        body.max_tokens = body.max_completion_tokens
    if body.min_completion_tokens is not None:
        body.min_tokens = body.min_completion_tokens
    if body.top_logprobs and not body.logprobs:
        raise _wrong("top_logprobs", "it needs logprobs to be true")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    prompts, count = (tuple(ids),), body.n or 1
    seed = _seed_of(body)
    requests = _requests(body, seed, deployment, prompts, count, False, logprobs)
    return Call(deployment, requests, prompts, count, count, seed, bool(body.stream), chat=True, logprobs=logprobs)


def _seed_of(body: SamplingFields) -> int:
    """The seed of a call. Each of its texts draws from its own stream of this seed."""
    return secrets.randbits(SEED_BITS) if body.seed is None else body.seed


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _prompt_ids(
    prompt: str | list[str] | list[int] | list[list[int]] | None, deployment: Deployment
) -> tuple[tuple[int, ...], ...]:
    """The ids of each prompt. An empty prompt becomes the BOS token, if the model has one."""
    prompts: Sequence[str | list[int]]
    if prompt is None or isinstance(prompt, str):
        prompts = [prompt or ""]
    elif isinstance(prompt[0], int):
        prompts = [[token for token in prompt if isinstance(token, int)]]
    else:
        prompts = [one for one in prompt if isinstance(one, str | list)]
    tokenizer = deployment.tokenizer
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    if len(prompts) > MAX_CHOICES:
        raise _wrong("prompt", f"{len(prompts)} prompts are more than {MAX_CHOICES}")
    found = [tuple(_encoded(one, deployment) or begin if isinstance(one, str) else one) for one in prompts]
    for ids in found:
        if ids and max(ids) >= tokenizer.vocab_size:
            raise _wrong("prompt", f"token id {max(ids)} is outside the vocabulary of {tokenizer.vocab_size}")
    return tuple(found)


def _encoded(text: str, deployment: Deployment) -> list[int]:
    _check_length(len(text), deployment)
    return deployment.tokenizer.encode(text)


def _check_length(characters: int, deployment: Deployment) -> None:
    """Raises ApiError for a text that is surely too long, before it is encoded."""
    longest, limit = deployment.tokenizer.longest_piece, deployment.loop.max_context
    if characters > limit * longest:
        raise _too_long(f"at least {characters // longest}", limit)


def _requests(
    body: SamplingFields,
    seed: int,
    deployment: Deployment,
    prompts: Sequence[tuple[int, ...]],
    per_prompt: int,
    echo: bool,
    logprobs: int | None,
) -> tuple[Request, ...]:
    """One request for each text; those of a prompt are neighbours. Raises ApiError."""
    if len(prompts) * per_prompt > MAX_CHOICES:
        raise _wrong("prompt", f"{len(prompts)} prompts with {per_prompt} texts each are more than {MAX_CHOICES}")
    made = []
    for number, ids in enumerate(prompts):
        for choice in range(per_prompt):
            try:
                request = _request(body, seed, ids, number * per_prompt + choice, echo, logprobs, deployment)
                _check(request, deployment)
            except RequestError as error:
                raise ApiError(WRONG_FORMAT, str(error)) from None
            made.append(request)
    return tuple(made)


def _request(
    body: SamplingFields,
    seed: int,
    ids: tuple[int, ...],
    choice: int,
    echo: bool,
    logprobs: int | None,
    deployment: Deployment,
) -> Request:
    room = deployment.loop.max_context - len(ids)
    most = None if body.max_tokens in (None, -1) else body.max_tokens
    sampling = SamplingOptions(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else max(body.top_p, _SMALLEST),
        seed=seed % 2**64,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=_biases(body.logit_bias or {}, deployment.tokenizer.vocab_size),
        choice=choice,
    )
    options = GenerationOptions(
        sampling,
        most,
        (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        body.arrival_time,
        max(room, 0) if body.min_tokens == -1 else body.min_tokens or 0,
        logprobs or 0,
        echo and logprobs is not None,
    )
    return Request(ids, options)


def _biases(given: dict[str, float], vocabulary: int) -> tuple[tuple[int, float], ...]:
    for token in given:
        if int(token) >= vocabulary:
            raise _wrong("logit_bias", f"token id {token} is outside the vocabulary of {vocabulary}")
    return tuple((int(token), bias) for token, bias in given.items())


def _check(request: Request, deployment: Deployment) -> None:
    """Raises RequestError, or ApiError with the service's words for a context that is too long."""
    limit, most = deployment.loop.max_context, request.options.max_tokens
    needed = len(request.prompt_ids) + (1 if most is None else most)
    if needed > limit:
        raise _too_long(str(needed), limit)
    request.output_tokens(limit)


def _too_long(length: str, limit: int) -> ApiError:
    said = f"Please reduce the length of the messages or completion. Current length is {length} while limit is {limit}"
    return ApiError(CONTEXT_LENGTH, said)


def _wrong(field: str, message: str) -> ApiError:
    return ApiError(WRONG_FORMAT, f"body.{field}: {message}")
