"""A chat's text, by the template that a model's files bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsesim_models.errors import ChatTemplateError, InvalidFileError

MOST_TEMPLATE_CHARACTERS = 1 << 16
"""Three times the longest template of a published model."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template as transformers run it; `bos_token` and `eos_token` are what it may name."""

    source: str
    bos_token: str
    eos_token: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text up to where the assistant answers.

        Raises ChatTemplateError for what the template refuses, and for a template that is wrong or asks for too much.
        """
        from wsesim_models.tokenizers.sandbox import rendered

        try:
            return rendered(
                self.source,
                messages=[dict(message) for message in messages],
                bos_token=self.bos_token,
                eos_token=self.eos_token,
                add_generation_prompt=True,
            )
        except Exception as error:  # a template is a program: it can fail in any way
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ChatTemplateError(f"the model's chat template refuses these messages: {reason}") from None


def chat_template(where: Path, source: str, bos_token: str, eos_token: str) -> ChatTemplate:
    """The template that lies in the file `where`. Raises InvalidFileError for one that is far too long."""
    if len(source) > MOST_TEMPLATE_CHARACTERS:
        raise InvalidFileError(
            f"{where}: the chat template has {len(source)} characters, expected at most {MOST_TEMPLATE_CHARACTERS}"
        )
    return ChatTemplate(source, bos_token, eos_token)
