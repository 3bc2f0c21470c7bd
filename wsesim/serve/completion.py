"""One completion as the API's JSON object (docs/completions.md names the source of each field)."""

from __future__ import annotations

import time
import uuid
from typing import Any

from wsesim.runtime.run import Completion


def completion_object(completion: Completion, model: str, fingerprint: str, text_from: str | None) -> dict[str, Any]:
    """Keys in the service's order. `created` and `id` are of this computer; all times in `time_info` are modelled.

    `text_from` names the model whose text stands in for `model`'s own; then one more key, `wsesim_text_from`, says so.
    """
    created = int(time.time())
    times = completion.times
    tokens = len(completion.token_ids)
    reply: dict[str, Any] = {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "choices": [{"finish_reason": completion.finish_reason, "index": 0, "text": completion.text}],
        "created": created,
        "model": model,
        "system_fingerprint": f"fp_{fingerprint[:10]}",
        "object": "text_completion",
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": completion.prompt_tokens + tokens,
        },
        "time_info": {
            "queue_time": times.queue_s,
            "prompt_time": times.prompt_s,
            "completion_time": times.completion_s,
            "total_time": times.total_s,
            "created": created,
        },
    }
    return reply | ({"wsesim_text_from": text_from} if text_from else {})
