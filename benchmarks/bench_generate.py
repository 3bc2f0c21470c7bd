"""Generation with smollm2-135m, compared with transformers in float32 in the same run, and the executor alone with one
text and with several in flight.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks.row import Row
from wsesim.report.bounds import multiply_adds
from wsesim.toolchain import Session, make_timing, open_session
from wsesim.toolchain.kept_steps import KeptSteps

PROMPT = "It was a dark and stormy night"
TOKENS = 64
ROUNDS = 5
DTYPES = ("fp32", "bf16", "int8")
IN_FLIGHT = 8
WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def rows() -> list[Row]:
    """Tokens per second of both, their ratio by weight dtype, and the simulation's share of the token loop."""
    sessions = {dtype: open_session("smollm2-135m", dtype=dtype) for dtype in DTYPES}
    session = sessions["fp32"]
    theirs = _Transformers(session.tokenizer.encode(PROMPT))
    cold = _loop(session, KeptSteps(make_timing(session.program, keep_timelines=False), None))
    steps = KeptSteps(make_timing(session.program, keep_timelines=False), None)
    for each in sessions.values():
        _loop(each, steps)
    rates: dict[str, list[float]] = {name: [] for name in (*DTYPES, "transformers", "share")}
    for _ in range(ROUNDS):
        theirs_s, their_ids = theirs.generate()
        rates["transformers"].append(TOKENS / theirs_s)
        for dtype, each in sessions.items():
            ours_s, simulate_s, ids = _loop(each, steps)
            assert dtype != "fp32" or ids == their_ids, "the texts differ"
            rates[dtype].append(TOKENS / ours_s)
            rates["share"].append(simulate_s / ours_s)
    share = "share of simulation in the token loop"
    return [
        *(_row_alone(dtype, rates[dtype], multiply_adds(session.program)) for dtype in DTYPES),
        Row("text of smollm2-135m by transformers, float32", median(rates["transformers"]), "tokens/s"),
        *(_row_over(dtype, rates[dtype], rates["transformers"]) for dtype in DTYPES),
        *(_row_in_flight(dtype, each) for dtype, each in sessions.items()),
        Row(f"{share}, contexts seen before", 100 * median(rates["share"]), "%", 10.0),
        Row(f"{share}, in the first run ever", 100 * cold[1] / cold[0], "%", 10.0, note="fp32"),
    ]


def _row_alone(dtype: str, rates: list[float], weights: int) -> Row:
    note = f"{TOKENS} greedy tokens, {weights * WEIGHT_BYTES[dtype] / 1e6:.0f} MB of weights a token"
    return Row(f"generate text with smollm2-135m, weights in {dtype}", median(rates), "tokens/s", note=note)


def _row_over(dtype: str, ours: list[float], theirs: list[float]) -> Row:
    ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
    note = "the same ids" if dtype == "fp32" else ""
    return Row(f"weights in {dtype}, over transformers in float32", ratio, "x", 3.0, at_most=False, note=note)


def _row_in_flight(dtype: str, session: Session) -> Row:
    """Tokens per wall second of IN_FLIGHT texts over those of one text. The first text is the same in both."""
    rates: dict[int, list[float]] = {1: [], IN_FLIGHT: []}
    for _ in range(ROUNDS):
        texts = {}
        for count, found in rates.items():
            wall_s, texts[count] = _together(session, count)
            found.append(count * TOKENS / wall_s)
        assert texts[IN_FLIGHT][0] == texts[1][0], "a text is another beside others"
    ratios = [several / one for one, several in zip(*rates.values(), strict=True)]
    note = " and ".join(f"{median(found):.1f} tokens/s of {count}" for count, found in rates.items())
    name = f"tokens/s of {IN_FLIGHT} texts in flight over one text, {dtype}"
    return Row(name, median(ratios), "x", 3.0 if dtype == "fp32" else None, at_most=False, note=note)


def _together(session: Session, count: int) -> tuple[float, list[list[int]]]:
    """Wall seconds of TOKENS greedy passes over `count` texts, and the ids of each."""
    executor: Any = session.loop.arithmetic
    sequences = [executor.new_sequence() for _ in range(count)]
    prompt_ids = session.tokenizer.encode(PROMPT)
    fed = [[*prompt_ids, other] for other in range(count)]
    texts: list[list[int]] = [[] for _ in range(count)]
    logits = executor.step_each(sequences, fed)
    began = time.perf_counter()
    for _ in range(TOKENS):
        for text, row in zip(texts, logits, strict=True):
            text.append(int(row.argmax()))
        logits = executor.step_each(sequences, [text[-1:] for text in texts])
    return time.perf_counter() - began, texts


def _loop(session: Session, steps: KeptSteps) -> tuple[float, float, list[int]]:
    """Wall seconds of a whole token loop and of its simulation, and the ids."""
    session.loop.cycles = steps
    began = time.perf_counter()
    completion = session.complete(PROMPT, max_tokens=TOKENS).completion
    wall_s = time.perf_counter() - began
    assert len(completion.token_ids) == TOKENS
    return wall_s, completion.simulate_wall_s, list(completion.token_ids)


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
