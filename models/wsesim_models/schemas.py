"""Strict schemas of a model's JSON files. Imported only when such a file is read.

safetensors header   TensorEntry for each tensor
*.index.json         ShardIndex
config.json          ModelKind, then LlamaFile; SpecialIds for the tokenizer beside it
generation_config    SpecialIds
tokenizer_config     TokenizerConfig
tokenizer.json       TokenizerFile; the rest of it is checked by the `tokenizers` package
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError

from wsesim.errors import brief
from wsesim.files import shown

_MOST_DIMENSIONS = 4

Size = Annotated[int, Field(ge=1, lt=2**40)]
"""A count of things or of bytes that cannot be zero."""

Offset = Annotated[int, Field(ge=0, lt=2**60)]
Number = Annotated[float, Field(allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class Strict(BaseModel):
    """Values are not converted. Entries that a schema does not name are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


def _all(is_right: Callable[[object], bool], words: str) -> AfterValidator:
    """Checks every value of a table, and stops at the first wrong one. Pydantic's own check would list them all."""

    def check(table: dict[str, Any]) -> dict[str, Any]:
        wrong = next((key for key, value in table.items() if not is_right(value)), None)
        if wrong is None:
            return table
        found = brief(table[wrong])
        raise PydanticCustomError(
            "table", "{key} is {found}, expected {words}", {"key": shown(wrong), "found": found, "words": words}
        )

    return AfterValidator(check)


class TensorEntry(Strict):
    """`data_offsets`: the tensor's first byte, and the one after its last, counted from the end of the header."""

    dtype: str
    shape: Annotated[list[Size], Field(max_length=_MOST_DIMENSIONS)]
    data_offsets: Annotated[list[Offset], Field(min_length=2, max_length=2)]


def _is_file_name(value: object) -> bool:
    """Whether it names a file beside the index: no folders, no `..`."""
    return isinstance(value, str) and value.isprintable() and value not in ("", ".", "..") and not {*"/\\"} & {*value}


class ShardIndex(Strict):
    """The file of each tensor."""

    weight_map: Annotated[dict[str, Any], _all(_is_file_name, "the name of a file beside the index")]


class ModelKind(Strict):
    """The entry that every config.json has."""

    model_type: str


class Rope(Strict):
    """The entry rope_parameters, or rope_scaling in old files."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Number | None = None


class Llama3Rope(Strict):
    """The scaling of Llama 3.1. All entries are required."""

    factor: Number
    low_freq_factor: Number
    high_freq_factor: Number
    original_max_position_embeddings: Size


class LlamaFile(Strict):
    """The config.json of a model that the torch module computes. LlamaConfig checks the sizes."""

    num_attention_heads: int
    hidden_size: int
    vocab_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    rms_norm_eps: Number = 1e-6
    rope_theta: Number | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    tie_word_embeddings: bool | None = False
    max_position_embeddings: int = 2048
    sliding_window: int | None = None
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    use_sliding_window: bool = False


def _as_list(value: object) -> object:
    return [] if value is None else value if isinstance(value, list) else [value]


class SpecialIds(Strict):
    """The special ids in config.json and generation_config.json. EOS may be one id or several."""

    bos_token_id: TokenId | None = None
    eos_token_id: Annotated[list[TokenId], FailFast(), BeforeValidator(_as_list)] = []


def _content(value: object) -> object:
    return value.get("content") if isinstance(value, dict) else value


Token = Annotated[str | None, BeforeValidator(_content)]
"""A token's text, or an object with it as `content`."""


class TokenizerConfig(Strict):
    """The entries of tokenizer_config.json. A list of chat templates is ignored."""

    bos_token: Token = None
    eos_token: Token = None
    add_bos_token: bool | None = None
    chat_template: Any = None


class AddedToken(Strict):
    id: TokenId
    content: str


def _is_token_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


class Vocabulary(Strict):
    vocab: Annotated[dict[str, Any], _all(_is_token_id, "a token id")]


class Decoder(Strict):
    type: str


class TokenizerFile(Strict):
    """The entries of a tokenizer.json that are checked before the `tokenizers` package reads it."""

    model: Vocabulary
    decoder: Decoder | None = None
    added_tokens: Annotated[list[AddedToken], FailFast()] = []
