"""Fuzzed requests: against the OpenAPI document, and bodies of any bytes. Never a 5xx, never a hang."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serving import served, tiny_api
from wsesim.serve.bodies import decompressed, parsed, validated
from wsesim.serve.errors import ApiError
from wsesim.serve.openapi import document
from wsesim.serve.schema import ChatRequest, CompletionRequest

CHECKS = (status_code_conformance, content_type_conformance, response_schema_conformance)


SCHEMA = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(tiny_api(body_s=5.0)) as found:
        yield found


@pytest.mark.filterwarnings("ignore")  # the tool's own
@SCHEMA.parametrize()
@settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_what_the_document_allows_and_forbids(case: Any, url: str) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "tiny"
        for name in ("max_tokens", "n", "best_of"):
            if isinstance(case.body.get(name), int | None):
                case.body[name] = min(case.body.get(name) or 4, 4)
    response = case.call(base_url=url)
    assert response.status_code < 500
    case.validate_response(response, checks=CHECKS)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(sorted({*CompletionRequest.model_fields, *ChatRequest.model_fields}))
bodies = st.dictionaries(fields, values, max_size=8)


def refused_or(read: Any) -> Any:
    """The result of `read`, or the error of its refusal. Any other exception fails the test."""
    try:
        return read()
    except ApiError as error:
        assert 400 <= error.status < 500 and json.dumps(error.body())
        return error


@settings(max_examples=400, deadline=None)
@given(bodies)
def test_any_object_is_a_request_or_refused(body: dict[str, Any]) -> None:
    for model in (CompletionRequest, ChatRequest):
        found = refused_or(lambda model=model: validated(model, {"model": "tiny", **body}))
        assert isinstance(found, ApiError | model)


@settings(max_examples=1500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/vnd.msgpack", "x"]), st.booleans())
def test_any_bytes_are_an_object_or_refused(raw: bytes, kind: str, packed: bool) -> None:
    sent = gzip.compress(raw) if packed else raw
    unpacked = refused_or(lambda: decompressed(sent, "gzip" if packed else "", 1000))
    if isinstance(unpacked, bytes):
        assert unpacked == raw
        assert isinstance(refused_or(lambda: parsed(unpacked, kind)), dict | ApiError)


@given(bodies)
def test_both_encodings_say_the_same(body: dict[str, Any]) -> None:
    try:
        packed = msgpack.packb(body)
    except (OverflowError, UnicodeEncodeError):
        return  # integers beyond 64 bits, lone surrogates
    text = json.dumps(body)
    if any(word in text for word in ("NaN", "Infinity")):
        return
    assert parsed(packed, "application/vnd.msgpack") == parsed(text.encode(), "application/json")


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.integers(0, 79), st.integers(0, 255))
def test_damaged_gzip_is_refused_or_read_within_its_limit(raw: bytes, at: int, byte: int) -> None:
    sent = bytearray(gzip.compress(raw * 50))
    sent[at % len(sent)] = byte
    found = refused_or(lambda: decompressed(bytes(sent), "gzip", 1000))
    assert isinstance(found, ApiError) or len(found) <= 1000
