"""Replies: the events of a call become chunks; a whole reply is its chunks put together."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from wsesim.runtime.completion import Completion, PromptLogprobs, Token
from wsesim.runtime.times import RequestTimes
from wsesim.serve import results
from wsesim.serve.calls import Call
from wsesim.serve.spelling import Spelling
from wsesim.serve.worker import ChoiceEvent

Reply = results.TextCompletion | results.ChatCompletion


class Chunks:
    """The chunks of one call, in order. Streamed and whole replies are both made of these."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._shape: _Shape = _Chat(call) if call.chat else _Text(call)
        self._ends: dict[int, Completion] = {}
        self.generated = 0
        self._sums = [0.0] * len(call.requests)
        served = call.deployment
        self._head = _head(served.name, served.fingerprint, served.text_from) | {"wsesim_seed": call.seed}

    @property
    def done(self) -> bool:
        return len(self._ends) == len(self.call.requests)

    def first(self) -> Iterator[Reply]:
        """The first chunk of each text, before any event."""
        for number in range(len(self.call.requests)):
            yield self._shape.reply(self._head, self._shape.beginning(number))

    def of(self, event: ChoiceEvent) -> Reply:
        """The chunk of one event. The last chunk of the call has its usage and times."""
        number, what = event.choice, event.event
        if isinstance(what, Token):
            self._sums[number] += what.logprob
            self.generated += 1
            return self._shape.reply(self._head, self._shape.token(number, what))
        if isinstance(what, PromptLogprobs):
            return self._shape.reply(self._head, self._shape.scored(number, what))
        self._ends[number] = what
        reply = self._shape.reply(self._head, self._shape.end(number, what))
        if self.done:
            reply.usage, reply.time_info = self._usage(), self._time_info()
        return reply

    def whole(self, chunks: Iterable[Reply]) -> Reply:
        """One reply from all chunks of a call."""
        *_, last = parts = list(chunks)
        by_number: dict[int, list[Any]] = {}
        for part in parts:
            for choice in part.choices:
                by_number.setdefault(choice.index, []).append(choice)
        joined = [self._shape.join(number, by_number[kept]) for number, kept in enumerate(self._kept())]
        return self._shape.whole(last, joined)

    def _kept(self) -> list[int]:
        """Numbers of the texts in the reply: of each prompt, those with the highest mean log probability."""
        made, kept = self.call.per_prompt, self.call.kept
        groups = [range(first, first + made) for first in range(0, len(self.call.requests), made)]
        ranked = groups if made == kept else [sorted(group, key=self._quality, reverse=True)[:kept] for group in groups]
        return [number for group in ranked for number in group]

    def _quality(self, number: int) -> float:
        return self._sums[number] / max(len(self._ends[number].token_ids), 1)

    def _usage(self) -> results.Usage:
        """Each prompt counts once; every generated text counts, also those that are not returned."""
        return _usage(sum(map(len, self.call.prompts)), sum(len(end.token_ids) for end in self._ends.values()))

    def _time_info(self) -> results.TimeInfo:
        """The times of the text that ended last on the virtual clock."""
        times = max((end.times for end in self._ends.values()), key=lambda own: own.finished_s)
        return _time_info(times, self._head["created"])


def completion_reply(
    completion: Completion, model: str, fingerprint: str, text_from: str | None
) -> results.TextCompletion:
    """One finished request as the API's object; its source of each field is docs/completions.md."""
    head = _head(model, fingerprint, text_from)
    return results.TextCompletion(
        **head,
        choices=[results.Choice(index=0, text=completion.text, finish_reason=completion.finish_reason)],
        usage=_usage(completion.prompt_tokens, len(completion.token_ids)),
        time_info=_time_info(completion.times, head["created"]),
    )


def _head(model: str, fingerprint: str, text_from: str | None) -> dict[str, Any]:
    """The fields that all chunks of a reply share. `id` and `created` are this computer's."""
    return {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": f"fp_{fingerprint[:10]}",
        "wsesim_text_from": text_from,
    }


def _usage(prompt: int, generated: int) -> results.Usage:
    return results.Usage(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)


def _time_info(times: RequestTimes, created: int) -> results.TimeInfo:
    """Rounded to the picosecond, which is far below a cycle."""
    parts = (times.queue_s, times.prompt_s, times.completion_s, times.total_s)
    queue, prompt, completion, total = (round(part, 12) for part in parts)
    return results.TimeInfo(
        queue_time=queue, prompt_time=prompt, completion_time=completion, total_time=total, created=created
    )


class _Shape(Protocol):
    """The shape of the chunks of one of the two endpoints. Its choices are of its own type."""

    def reply(self, head: dict[str, Any], choice: Any) -> Reply: ...

    def beginning(self, number: int) -> Any: ...

    def scored(self, number: int, scored: PromptLogprobs) -> Any: ...

    def token(self, number: int, token: Token) -> Any: ...

    def end(self, number: int, end: Completion) -> Any: ...

    def join(self, number: int, parts: list[Any]) -> Any: ...

    def whole(self, last: Any, choices: list[Any]) -> Reply: ...


class _Text:
    """Chunks of /v1/completions."""

    def __init__(self, call: Call) -> None:
        tokenizer = call.deployment.tokenizer
        self._call = call
        self._texts = [tokenizer.decode(ids) if call.echo else "" for ids in call.prompts]
        self._spelling = [Spelling(tokenizer, call.prompt_of(number)) for number in range(len(call.requests))]

    def reply(self, head: dict[str, Any], choice: results.Choice) -> results.TextCompletion:
        return results.TextCompletion(**head, choices=[choice])

    def beginning(self, number: int) -> results.Choice:
        """The prompt, if it is echoed; with its log probabilities it comes when these do."""
        late = self._call.logprobs is not None
        return self._choice(number, "" if late else self._echoed(number), self._ids(number, late))

    def scored(self, number: int, scored: PromptLogprobs) -> results.Choice:
        return self._choice(
            number, self._echoed(number), self._ids(number, False), self._spelling[number].prompt(scored)
        )

    def token(self, number: int, token: Token) -> results.Choice:
        spelling = self._spelling[number]
        logprobs = None if self._call.logprobs is None else spelling.of([token])
        return self._choice(number, token.text, [token.id], logprobs)

    def end(self, number: int, end: Completion) -> results.Choice:
        choice = self._choice(number, end.rest, [])
        choice.finish_reason = end.finish_reason
        return choice

    def join(self, number: int, parts: list[results.Choice]) -> results.Choice:
        """`parts` of one text as the text `number` of a reply."""
        logprobs = None
        for part in parts:
            if part.logprobs is not None:
                logprobs = part.logprobs if logprobs is None else _longer(logprobs, part.logprobs)
        raw = self._call.raw_tokens
        return results.Choice(
            finish_reason=parts[-1].finish_reason,
            index=number,
            logprobs=logprobs,
            text=None if raw else "".join(part.text or "" for part in parts),
            tokens=[token for part in parts for token in part.tokens or ()] if raw else None,
        )

    def whole(self, last: results.TextCompletion, choices: list[results.Choice]) -> results.TextCompletion:
        return last.model_copy(update={"choices": choices})

    def _echoed(self, number: int) -> str:
        return self._texts[number // self._call.per_prompt]

    def _ids(self, number: int, late: bool) -> list[int]:
        return list(self._call.prompt_of(number)) if self._call.echo and not late else []

    def _choice(
        self, number: int, text: str, ids: list[int], logprobs: results.Logprobs | None = None
    ) -> results.Choice:
        raw = self._call.raw_tokens
        return results.Choice(index=number, text=None if raw else text, tokens=ids if raw else None, logprobs=logprobs)


class _Chat:
    """Chunks of /v1/chat/completions."""

    def __init__(self, call: Call) -> None:
        self._call = call
        tokenizer = call.deployment.tokenizer
        self._spelling = [Spelling(tokenizer, call.prompt_of(number)) for number in range(len(call.requests))]

    def reply(self, head: dict[str, Any], choice: results.ChatChoice) -> results.ChatCompletion:
        return results.ChatCompletion(**head, object="chat.completion.chunk", choices=[choice])

    def beginning(self, number: int) -> results.ChatChoice:
        return results.ChatChoice(index=number, delta=results.ChatMessage(role="assistant"))

    def scored(self, number: int, scored: PromptLogprobs) -> results.ChatChoice:
        raise AssertionError("a chat is not echoed")

    def token(self, number: int, token: Token) -> results.ChatChoice:
        logprobs = None if self._call.logprobs is None else self._spelling[number].of_chat([token])
        return results.ChatChoice(index=number, delta=results.ChatMessage(content=token.text), logprobs=logprobs)

    def end(self, number: int, end: Completion) -> results.ChatChoice:
        delta = results.ChatMessage(content=end.rest or None)
        return results.ChatChoice(index=number, delta=delta, finish_reason=end.finish_reason)

    def join(self, number: int, parts: list[results.ChatChoice]) -> results.ChatChoice:
        """`parts` of one text as the text `number` of a reply."""
        text = "".join((part.delta and part.delta.content) or "" for part in parts)
        logprobs = None
        if self._call.logprobs is not None:
            content = [entry for part in parts if part.logprobs for entry in part.logprobs.content]
            logprobs = results.ChatLogprobs(content=content)
        message = results.ChatMessage(role="assistant", content=text)
        return results.ChatChoice(
            index=number, message=message, finish_reason=parts[-1].finish_reason, logprobs=logprobs
        )

    def whole(self, last: results.ChatCompletion, choices: list[results.ChatChoice]) -> results.ChatCompletion:
        return last.model_copy(update={"choices": choices, "object": "chat.completion"})


def _longer(one: results.Logprobs, other: results.Logprobs) -> results.Logprobs:
    return results.Logprobs(
        text_offset=one.text_offset + other.text_offset,
        token_logprobs=one.token_logprobs + other.token_logprobs,
        tokens=one.tokens + other.tokens,
        top_logprobs=one.top_logprobs + other.top_logprobs,
    )
