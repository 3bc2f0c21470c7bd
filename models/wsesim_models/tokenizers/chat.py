"""Chat templates: they turn the messages of a chat into the text that the model continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsesim_models.errors import ChatTemplateError, InvalidFileError

MOST_TEMPLATE_CHARACTERS = 1 << 16
"""Three times the longest template of a published model."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template, as in transformers. It may use the variables `bos_token` and `eos_token`."""

    source: str
    bos_token: str
    eos_token: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text up to the assistant's answer.

        Raises ChatTemplateError if the template refuses the messages, is wrong, or computes too much.
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
        except Exception as error:  # a template is a program, which can fail in any way
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ChatTemplateError(f"the model's chat template refuses these messages: {reason}") from None


def chat_template(where: Path, source: str, bos_token: str, eos_token: str) -> ChatTemplate:
    """The template from the file `where`. Raises InvalidFileError if it is far too long."""
    if len(source) > MOST_TEMPLATE_CHARACTERS:
        raise InvalidFileError(
            f"{where}: the chat template has {len(source)} characters, expected at most {MOST_TEMPLATE_CHARACTERS}"
        )
    return ChatTemplate(source, bos_token, eos_token)
