"""Request bodies of the API. `null` means unset. An unknown field is refused, because it may be misspelt."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

from wsesim.runtime.request import LATEST_ARRIVAL_S

MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_BIASES = 1024


def _checked_prompt(value: Any) -> Any:
    """Raises one error for a prompt of any wrong shape, at its first wrong item."""
    if value is None or isinstance(value, str) or _are(value, str) or _are_ids(value):
        return value
    if isinstance(value, list) and value and all(_are_ids(inner) for inner in value):
        return value
    raise ValueError("a string, or a list of strings, of token ids, or of lists of ids is needed, no list empty")


def _are(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is kind for one in value)


def _are_ids(value: Any) -> bool:
    return _are(value, int) and min(value) >= 0 and max(value) < 2**31


def _checked_stop(value: Any) -> Any:
    stops = [value] if isinstance(value, str) else value
    if value is not None and not (isinstance(stops, list) and len(stops) <= 4 and all(map(_is_stop, stops))):
        raise ValueError("a string of 1 to 1000 characters or a list of up to 4 of them is needed")
    return value


def _is_stop(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 1000


def _checked_biases(value: Any) -> Any:
    if value is not None and not (isinstance(value, dict) and len(value) <= MAX_BIASES):
        raise ValueError(f"an object of up to {MAX_BIASES} token ids is needed")
    for key in value or ():
        if not (isinstance(key, str) and len(key) <= 10 and key.isascii() and key.isdecimal() and int(key) < 2**31):
            raise ValueError(f"{str(key)[:20]!r} is not a token id, written as a string")
    return value


Temperature = Annotated[float, Field(ge=0, le=1.5, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=-1, lt=2**31)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Choices = Annotated[int, Field(ge=1, le=MAX_CHOICES)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
StopList = Annotated[list[Stop], Field(max_length=4)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Prompt = Annotated[
    str
    | Annotated[list[str], Field(min_length=1)]
    | Annotated[list[TokenId], Field(min_length=1)]
    | Annotated[list[TokenIds], Field(min_length=1)],
    BeforeValidator(_checked_prompt),
]
Stops = Annotated[Stop | StopList, BeforeValidator(_checked_stop)]
Biases = Annotated[dict[str, Bias], BeforeValidator(_checked_biases)]


def _unsupported(value: Any) -> Any:
    if value not in (None, ""):
        raise ValueError("it is not supported; leave it out")
    return value


Unsupported = Annotated[Literal[""], BeforeValidator(_unsupported)]


class StreamOptions(BaseModel):
    """Accepted, without effect: the last chunk always has the usage."""

    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(BaseModel):
    """The fields that completions and chats share."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str = Field(description="A name that GET /v1/models lists.")
    stream: bool | None = Field(None, description="Server-sent events, one chunk a token, ended by `data: [DONE]`.")
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = Field(
        None, description="Most tokens to generate; null or -1: to the end of the text or of the context."
    )
    min_tokens: Count | None = Field(
        None, description="The text does not end before; -1: it ends with max_tokens or the context."
    )
    temperature: Temperature | None = Field(None, description="Default 1; 0 takes the likeliest token.")
    top_p: Fraction | None = Field(None, description="Default 1; 0 takes the likeliest token.")
    seed: Seed | None = Field(
        None, description="Same seed and parameters, same text; unset: one is drawn, see x-wsesim-seed."
    )
    stop: Stops | None = Field(None, description="Up to 4 sequences that end the text, not in it.")
    n: Choices | None = Field(None, description="Texts for each prompt, default 1.")
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Biases | None = Field(None, description="By token id, written as a string.")
    user: str | None = Field(None, description="Ignored.")
    prompt_cache_key: str | None = Field(None, description="Ignored.")
    reasoning_format: Literal["none", "parsed", "text_parsed", "raw", "hidden"] | None = Field(
        None, description="Ignored: no model here reasons."
    )
    arrival_time: Annotated[float, Field(ge=0, le=LATEST_ARRIVAL_S, allow_inf_nan=False)] | None = Field(
        None, description="Arrival on the wafer's virtual clock, in seconds; unset: its now. Earlier than now: 400."
    )


class CompletionRequest(SamplingFields):
    """POST /v1/completions."""

    prompt: Prompt | None = Field(None, description="Text, texts, token ids, or lists of token ids; unset: no text.")
    best_of: Choices | None = Field(None, description="Generates so many and returns the n likeliest per token.")
    echo: bool | None = Field(None, description="The prompt before the text.")
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = Field(
        None, description="Log probabilities of the chosen tokens and of so many likeliest ones."
    )
    return_raw_tokens: bool | None = Field(None, description="`tokens`, the ids, instead of `text`.")
    suffix: Unsupported | None = Field(None, description="Not supported.")
    grammar_root: Unsupported | None = Field(None, description="Not supported.")


class TextPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text"]
    text: str


def _checked_content(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and all(map(_is_text, value))):
        return value
    raise ValueError('a string or a list of {"type": "text", "text": ...} is needed; images are not supported')


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"


Content = Annotated[str | list[TextPart], BeforeValidator(_checked_content)]


class Message(BaseModel):
    """One message of a chat. Images, tool calls and their results are not supported."""

    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = None

    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text"]


class ChatRequest(SamplingFields):
    """POST /v1/chat/completions, for models with a chat template."""

    messages: Annotated[list[Message], Field(min_length=1), FailFast()]
    max_completion_tokens: Count | None = Field(None, description="As max_tokens, which it overrules.")
    min_completion_tokens: Count | None = Field(None, description="As min_tokens, which it overrules.")
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = Field(None, description="Ignored.")
    response_format: ResponseFormat | None = Field(None, description="Only text.")
    tools: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description="Not supported.")
    tool_choice: Literal["none", "auto"] | None = Field(None, description="There are no tools.")
    parallel_tool_calls: bool | None = Field(None, description="There are no tools.")
    reasoning_effort: Literal["none", "low", "medium", "high"] | None = Field(None, description="Ignored.")
    disable_reasoning: bool | None = Field(None, description="Ignored.")
    clear_thinking: bool | None = Field(None, description="Ignored.")
