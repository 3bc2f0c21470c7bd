"""The served models in the three formats of GET /v1/models. All prices are 0."""

from __future__ import annotations

from collections.abc import Callable

from wsesim.serve import results
from wsesim.serve.deployment import Deployment
from wsesim.serve.errors import WRONG_FORMAT, ApiError

OWNER = "wsesim"


def describe(deployment: Deployment, format: str | None) -> results.Result:
    """One model in `format`; None is the default format. Raises ApiError for an unknown format."""
    name = format or "default"
    if name not in FORMATS:
        raise ApiError(WRONG_FORMAT, f"format {name[:40]!r} is not one of {', '.join(FORMATS)}", param="format")
    return FORMATS[name](deployment)


def _default(deployment: Deployment) -> results.Result:
    return results.Model(
        id=deployment.name,
        created=deployment.created,
        owned_by=OWNER,
        wsesim_text_from=deployment.text_from,
    )


def _openrouter(deployment: Deployment) -> results.Result:
    context = deployment.loop.max_context
    return results.OpenRouterModel(
        id=f"{OWNER}/{deployment.name}",
        name=deployment.name,
        created=deployment.created,
        context_length=context,
        max_output_length=context,
        pricing={"prompt": "0", "completion": "0"},
    )


def _huggingface(deployment: Deployment) -> results.Result:
    return results.HuggingFaceModel(
        id=deployment.name,
        created=deployment.created,
        owned_by=OWNER,
        context_length=deployment.loop.max_context,
        pricing={"input": 0.0, "output": 0.0},
    )


FORMATS: dict[str, Callable[[Deployment], results.Result]] = {
    "default": _default,
    "openrouter": _openrouter,
    "huggingface": _huggingface,
}
