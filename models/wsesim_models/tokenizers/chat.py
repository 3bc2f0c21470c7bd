"""A chat's text, by the template that a model's files bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsesim_models.errors import ChatTemplateError


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template as transformers run it; `bos_token` and `eos_token` are what it may name."""

    source: str
    bos_token: str
    eos_token: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text up to where the assistant answers. Raises ChatTemplateError for what the template refuses."""
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_LOOP_CONTROLS])
        environment.globals["raise_exception"] = _refuse
        try:
            template = environment.from_string(self.source)
            return template.render(
                messages=[dict(message) for message in messages],
                bos_token=self.bos_token,
                eos_token=self.eos_token,
                add_generation_prompt=True,
            )
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the model's chat template refuses these messages: {error}") from None


_LOOP_CONTROLS = "jinja2.ext.loopcontrols"


def _refuse(message: str) -> Any:
    import jinja2

    raise jinja2.TemplateError(message)
