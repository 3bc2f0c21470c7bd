"""GPT-2's alphabet: byte-level vocabularies write each byte as a printable character."""

from __future__ import annotations


def _alphabet() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    shifted = {chr(256 + index): value for index, value in enumerate(others)}
    return {chr(value): value for value in printable} | shifted


_BYTE_OF = _alphabet()


def bytes_of(token: str) -> bytes:
    """The bytes of a vocabulary entry. An entry with characters outside the alphabet stands for its own UTF-8."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        return token.encode()
