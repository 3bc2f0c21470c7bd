"""The OpenAPI document, made from the request and result models."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from wsesim.serve import results, schema
from wsesim.serve.models import FORMATS

MODELS = (results.Model, results.OpenRouterModel, results.HuggingFaceModel)
_ERROR = {
    "type": "object",
    "required": ["message", "type", "code", "error"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "string"},
        "error": {"type": "object"},
    },
}
_FORMAT = {"name": "format", "in": "query", "schema": {"enum": list(FORMATS)}}
_SEED = {"description": "The seed that was asked for or drawn", "schema": {"type": "string", "pattern": "^-?[0-9]+$"}}
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
_ERRORS = {
    "400": "The body is wrong: what and where is in the message",
    "401": "Wrong API key",
    "403": "A Host or a web page that is not allowed",
    "404": "No such model or route",
    "405": "No such method",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "415": "A content type or encoding that is not read",
    "429": "The queue is full, or a quota used up; `retry-after` says when to try again",
    "500": "A fault of the server, not to be tried again",
    "503": "The server is shutting down",
}


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    bodies = (schema.CompletionRequest, schema.ChatRequest)
    replies = (results.TextCompletion, results.ChatCompletion, results.ModelList, *MODELS)
    inputs = [(body, "validation") for body in bodies]
    outputs = [(reply, "serialization") for reply in replies]
    names, definitions = models_json_schema([*inputs, *outputs], ref_template="#/components/schemas/{model}")  # type: ignore[list-item]
    refs = {key[0]: ref for key, ref in names.items()}
    schemas = {**definitions["$defs"], "Error": _ERROR}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wsesim",
            "version": "1",
            "description": "Completions in the shape of the Cerebras API, with times modelled on a simulated wafer.",
        },
        "security": [{"key": []}],
        "paths": {
            "/v1/completions": {"post": _call(refs, schema.CompletionRequest, results.TextCompletion)},
            "/v1/chat/completions": {"post": _call(refs, schema.ChatRequest, results.ChatCompletion)},
            "/v1/models": {"get": _get("The models that are served", refs[results.ModelList])},
            "/v1/models/{name}": {"get": _one_model({"anyOf": [refs[model] for model in MODELS]})},
            "/v1/tcp_warming": {"get": {"summary": "Nothing, quickly", "responses": {"200": {"description": "OK"}}}},
            "/health": {"get": _plain("Whether the server answers", "application/json")},
            "/metrics": {"get": _plain("Prometheus' metrics", "text/plain")},
        },
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _call(refs: dict[Any, Any], body: type, reply: type) -> dict[str, Any]:
    return {
        "summary": (body.__doc__ or "").strip(),
        "requestBody": {
            "required": True,
            "description": "Content-Encoding gzip is read, too",
            "content": {kind: {"schema": refs[body]} for kind in ("application/json", "application/vnd.msgpack")},
        },
        "responses": {
            "200": {
                "description": "The reply, or its chunks as server-sent events",
                "headers": {"x-wsesim-seed": _SEED},
                "content": {
                    "application/json": {"schema": refs[reply]},
                    "text/event-stream": {"schema": _EVENT},
                },
            },
            **_errors(*_ERRORS),
        },
    }


def _get(summary: str, ref: Any) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": ref}}},
            **_errors("400", "401", "403"),
        },
        "parameters": [_FORMAT],
    }


def _one_model(ref: Any) -> dict[str, Any]:
    made = _get("One model", ref)
    made["responses"] |= _errors("404")
    made["parameters"].append(
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    )
    return made


def _plain(summary: str, media_type: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {media_type: {}}}}}


def _errors(*statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}
