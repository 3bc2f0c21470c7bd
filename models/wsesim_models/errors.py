"""The errors of models and their files.

WsesimError
├── MissingWeightsError      a model whose weights are not at hand; the message lists the ways to get them
├── MissingTokenizerError    weights without a tokenizer beside them
├── PullError                a download that failed or is not the file that it should be
└── InvalidInputError
    ├── InvalidFileError     a file that is truncated, damaged or of a kind that is not read
    ├── ChatTemplateError    messages that the model's chat template refuses
    └── MismatchError        a sound file that belongs to another model: tensors or constants differ
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError, WsesimError


class MissingWeightsError(WsesimError):
    """A model whose weights are not at hand."""


class MissingTokenizerError(WsesimError):
    """No tokenizer beside the weights."""


class PullError(WsesimError):
    """A download failed, or is not the file that it should be."""


class InvalidFileError(InvalidInputError):
    """A file that is truncated, damaged or of a kind that is not read."""


class MismatchError(InvalidInputError):
    """A sound file that belongs to another model."""


class ChatTemplateError(InvalidInputError):
    """Messages that the model's chat template refuses."""
