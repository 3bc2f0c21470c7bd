"""The API's results as types. Fields that are None are left out on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny


class Result(BaseModel):
    model_config = ConfigDict(extra="allow")

    def to_json(self) -> dict[str, Any]:
        """The object that is sent."""
        return self.model_dump(exclude_none=True)


class PromptTokensDetails(Result):
    cached_tokens: int = 0


class Usage(Result):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()


class TimeInfo(Result):
    """Modelled times in seconds; `created` is this computer's clock."""

    queue_time: float
    prompt_time: float
    completion_time: float
    total_time: float
    created: int


class Logprobs(Result):
    """For each token of the text: its offset in characters from the start of the prompt, and its log probability."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class Choice(Result):
    """finish_reason: `stop`, `length`, or None if more chunks follow."""

    finish_reason: str | None = None
    index: int
    logprobs: Logprobs | None = None
    text: str | None = None
    tokens: list[int] | None = None


class TextCompletion(Result):
    """A completion, or a chunk of one.

    `wsesim_text_from`: the model that the text comes from, if it is not `model`.
    `wsesim_seed`: the seed, requested or drawn. On the wire it is in a header, not in the body.
    """

    id: str
    choices: list[Choice]
    created: int
    model: str
    system_fingerprint: str
    object: Literal["text_completion"] = "text_completion"
    usage: Usage | None = None
    time_info: TimeInfo | None = None
    wsesim_text_from: str | None = None
    wsesim_seed: int | None = Field(None, exclude=True)


class TokenLogprob(Result):
    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Result):
    content: list[ContentLogprob]


class ChatMessage(Result):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChoice(Result):
    """`message` of a whole reply, `delta` of a chunk."""

    finish_reason: str | None = None
    index: int
    message: ChatMessage | None = None
    delta: ChatMessage | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Result):
    """A chat completion, or a chunk of one. `wsesim_` as in a Completion."""

    id: str
    choices: list[ChatChoice]
    created: int
    model: str
    system_fingerprint: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    usage: Usage | None = None
    time_info: TimeInfo | None = None
    wsesim_text_from: str | None = None
    wsesim_seed: int | None = Field(None, exclude=True)


class Model(Result):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    wsesim_text_from: str | None = None


class OpenRouterModel(Result):
    id: str
    name: str
    created: int
    context_length: int
    max_output_length: int
    pricing: dict[str, str]


class HuggingFaceModel(Result):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int
    pricing: dict[str, float]


class ModelList(Result):
    """The served models, all in one format."""

    object: Literal["list"] = "list"
    data: list[SerializeAsAny[Result]]
