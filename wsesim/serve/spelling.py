"""Spelling: the tokens of one text as strings, with their offsets in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wsesim.runtime.completion import Alternatives, PromptLogprobs, Token
from wsesim.serve import results
from wsesim.serve.deployment import ServedTokenizer


class Spelling:
    """Spells one text, token by token. Offsets count characters from the beginning of the prompt."""

    def __init__(self, tokenizer: ServedTokenizer, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._prompt_ids = prompt_ids
        self._offset = len(tokenizer.decode(prompt_ids))
        self._stream = tokenizer.stream()

    def prompt(self, scored: PromptLogprobs) -> results.Logprobs:
        """The prompt's tokens. The first one has no probability, because nothing comes before it."""
        made = results.Logprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        stream, offset = self._tokenizer.stream(), 0
        for token, (own, top) in zip(self._prompt_ids, [(None, None), *scored.tokens], strict=True):
            made.text_offset.append(offset)
            made.tokens.append(self.spell(token))
            made.token_logprobs.append(own)
            made.top_logprobs.append(None if own is None else self._by_string(top or (), token, own))
            offset += len(stream.push(token))
        return made

    def of(self, tokens: Sequence[Token]) -> results.Logprobs:
        """The next generated tokens."""
        made = results.Logprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        for token in tokens:
            made.text_offset.append(self._offset)
            made.tokens.append(self.spell(token.id))
            made.token_logprobs.append(token.logprob)
            made.top_logprobs.append(self._by_string(token.top, token.id, token.logprob))
            self._offset += len(self._stream.push(token.id))
        return made

    def of_chat(self, tokens: Sequence[Token]) -> results.ChatLogprobs:
        return results.ChatLogprobs(content=list(self._chat(tokens)))

    def spell(self, token: int) -> str:
        """A token's characters. A part of a character becomes `bytes:` and escapes, a token without bytes its id."""
        piece = self._tokenizer.piece(token)
        if not piece:
            return f"token_id:{token}"
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)

    def _by_string(self, top: Alternatives, token: int, own: float) -> dict[str, float]:
        return {self.spell(one): value for one, value in top} | {self.spell(token): own}

    def _chat(self, tokens: Sequence[Token]) -> Iterator[results.ContentLogprob]:
        for token in tokens:
            top = [results.TokenLogprob(**self._named(one, value)) for one, value in token.top]
            yield results.ContentLogprob(**self._named(token.id, token.logprob), top_logprobs=top)

    def _named(self, token: int, value: float) -> dict[str, Any]:
        return {"token": self.spell(token), "logprob": value, "bytes": list(self._tokenizer.piece(token))}
