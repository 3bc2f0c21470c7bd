"""Generation: smollm2-135m on the simulated wafer beside transformers float32, the same ids in the same run."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks.row import Row
from wsesim.toolchain import Session, make_timing, open_session
from wsesim.toolchain.steps import RememberedSteps

PROMPT = "It was a dark and stormy night"
TOKENS = 64
ROUNDS = 5


def rows() -> list[Row]:
    """Tokens per second of both, their ratio, and the simulation's share of the token loop."""
    session = open_session("smollm2-135m")
    prompt_ids = session.tokenizer.encode(PROMPT)
    theirs = _Transformers(prompt_ids)
    cold = _loop(session, RememberedSteps(make_timing(session.program, keep_timelines=False), None))
    steps = RememberedSteps(make_timing(session.program, keep_timelines=False), None)
    _loop(session, steps)
    times: dict[str, list[float]] = {"wsesim": [], "transformers": [], "ratio": [], "share": []}
    for _ in range(ROUNDS):
        ours_s, simulate_s, ids = _loop(session, steps)
        theirs_s, their_ids = theirs.generate()
        assert ids == their_ids, "the texts differ"
        times["wsesim"].append(TOKENS / ours_s)
        times["transformers"].append(TOKENS / theirs_s)
        times["ratio"].append(theirs_s / ours_s)
        times["share"].append(simulate_s / ours_s)
    work = f"{TOKENS} greedy tokens, equal ids, {_bytes_per_token(session) / 1e6:.0f} MB of weights a token"
    return [
        Row("smollm2-135m on the wafer, fp32", median(times["wsesim"]), "tokens/s", note=work),
        Row("transformers, float32", median(times["transformers"]), "tokens/s"),
        Row("ratio, round by round", median(times["ratio"]), "x", 3.0, at_most=False),
        Row("simulation's share, contexts seen before", 100 * median(times["share"]), "%", 10.0),
        Row("simulation's share, nothing seen before", 100 * cold[1] / cold[0], "%", 10.0, note="first run ever"),
    ]


def _loop(session: Session, steps: RememberedSteps) -> tuple[float, float, list[int]]:
    """Wall seconds of a whole token loop and of its simulation, and the ids."""
    session.engine.cycles = steps
    began = time.perf_counter()
    completion = session.complete(PROMPT, max_tokens=TOKENS).completion
    wall_s = time.perf_counter() - began
    assert len(completion.token_ids) == TOKENS
    return wall_s, completion.simulate_wall_s, list(completion.token_ids)


def _bytes_per_token(session: Session) -> int:
    """float32 weights that a token multiplies with."""
    from wsesim.report.bounds import multiply_adds

    return 4 * multiply_adds(session.program)


class _Transformers:
    """The reference: greedy decoding with its own KV cache."""

    def __init__(self, prompt_ids: list[int]) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

        from wsesim_models.cache import pull

        path = str(pull("smollm2-135m"))
        self._torch: Any = torch
        self._model: Any = LlamaForCausalLM(LlamaConfig(**load_gguf_checkpoint(path)["config"]))
        tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=self._model)["tensors"]
        self._model.load_state_dict(tensors, strict=False)
        self._model.tie_weights()
        self._prompt_ids = prompt_ids

    def generate(self) -> tuple[float, list[int]]:
        """Wall seconds and ids of TOKENS greedy tokens."""
        began = time.perf_counter()
        ids: list[int] = []
        with self._torch.inference_mode():
            fed, cache = self._torch.tensor([self._prompt_ids]), None
            for _ in range(TOKENS):
                out = self._model(fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
                ids.append(int(out.logits[0, -1].argmax()))
                fed = self._torch.tensor([[ids[-1]]])
        return time.perf_counter() - began, ids
