"""The table of models, RoPE frequencies, and configurations read from files."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig as HuggingFaceConfig
from transformers import (
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim_models.config import CONFIGS, LlamaConfig, config
from wsesim_models.config_files import config_at, config_from_folder, differences


def huggingface_config(model: LlamaConfig) -> PreTrainedConfig:
    rope: dict[str, object] = {"rope_theta": model.rope_theta, "rope_type": "default"}
    if model.rope_scaling:
        scaling = model.rope_scaling
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position,
        }
    kind = Qwen3Config if model.qk_norm else Qwen2Config if model.qkv_bias else HuggingFaceConfig
    kind = MistralConfig if model.window else kind
    return kind(
        **({"sliding_window": model.window} if model.window else {}),
        vocab_size=model.vocab_size,
        hidden_size=model.dim,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        head_dim=model.head_dim,
        intermediate_size=model.ffn_dim,
        rms_norm_eps=model.norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=model.tied,
        max_position_embeddings=model.max_context,
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama3.1-8b", 8_030_261_248),
        ("llama3.1-70b", 70_553_706_496),
        ("llama3.2-1b", 1_235_814_400),
        ("llama3.2-3b", 3_212_749_824),
        ("smollm2-135m", 134_515_008),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-1.5b", 1_543_714_304),
        ("qwen3-4b", 4_022_468_096),
        ("mistral-7b", 7_241_732_096),
        ("tiny", 26_784),
    ],
)
def test_parameters_are_as_published(name: str, parameters: int) -> None:
    assert config(name).parameters() == parameters


@pytest.mark.parametrize("name", CONFIGS)
def test_inverse_frequencies_are_transformers(name: str) -> None:
    model = config(name)
    expected = LlamaRotaryEmbedding(huggingface_config(model)).inv_freq.numpy()
    assert len(model.inv_freq()) == model.head_dim // 2
    np.testing.assert_allclose(np.array(model.inv_freq()), expected, rtol=1e-6, atol=0)


def test_scaling_changes_slow_rotations_only() -> None:
    scaled = np.array(config("llama3.1-8b").inv_freq())
    plain = np.array(dataclasses.replace(config("llama3.1-8b"), rope_scaling=None).inv_freq())
    assert scaled[0] == plain[0] == 1.0
    assert plain[-1] / scaled[-1] == pytest.approx(8.0)


def test_frequencies_are_exact_in_float32() -> None:
    frequencies = config("llama3.1-8b").inv_freq()
    assert tuple(float(np.float32(frequency)) for frequency in frequencies) == frequencies


def test_tiny_fits_sixteen_pes_in_bf16() -> None:
    tiny = config("tiny")
    kv_bytes = 2 * 2 * tiny.layers * tiny.kv_heads * tiny.head_dim * tiny.max_context
    assert 2 * tiny.parameters() + kv_bytes < 16 * 24 * 1024 / 2


def test_unknown_model_names_the_nearest_first() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'llama3\.1-8B'; known: llama3\.1-8b, "):
        config("llama3.1-8B")


@pytest.mark.parametrize("name", CONFIGS)
def test_config_json_round_trip(name: str, tmp_path: Path) -> None:
    huggingface_config(config(name)).save_pretrained(tmp_path)
    found = config_at(tmp_path)
    assert found is not None
    assert differences(found, config(name)) == []
    assert found.max_context == config(name).max_context


def test_config_json_in_the_older_spelling(tmp_path: Path) -> None:
    entries = huggingface_config(config("llama3.2-1b")).to_dict()
    rope = entries.pop("rope_parameters")
    entries |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(entries))
    assert differences(config_from_folder(tmp_path), config("llama3.2-1b")) == []


def test_differences_name_the_field() -> None:
    llama3 = dataclasses.replace(config("llama3.1-8b"), rope_scaling=None, name="llama3-8b", max_context=8192)
    (line,) = differences(llama3, config("llama3.1-8b"))
    assert line.startswith("rope_scaling is None, expected RopeScaling(")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gemma2"}, "model_type is 'gemma2', expected one of 'llama', 'mistral', 'qwen2', 'qwen3'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "RoPE scaling 'yarn'"),
    ],
)
def test_what_is_not_a_llama_is_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    entries = huggingface_config(config("tiny")).to_dict() | change
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with pytest.raises(InvalidInputError, match=words):
        config_from_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{not json"])
def test_damaged_config_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"config\.json"):
        config_from_folder(tmp_path)


def test_absent_config_is_none(tmp_path: Path) -> None:
    assert config_at(tmp_path) is None


def test_names_are_those_of_transformers() -> None:
    for kind, change in (
        (LlamaForCausalLM, {}),
        (LlamaForCausalLM, {"tied": False}),
        (Qwen3ForCausalLM, {"qk_norm": True}),
        (Qwen2ForCausalLM, {"qkv_bias": True}),
        (MistralForCausalLM, {"window": 16}),
    ):
        model = dataclasses.replace(config("tiny"), **change)
        reference = kind(huggingface_config(model))
        assert {name: tuple(p.shape) for name, p in reference.named_parameters()} == model.shapes()


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = "wsesim_models, wsesim_models.cache, wsesim_models.load"
    code = (
        f"import sys, {modules}; sys.exit(not {{'torch', 'tokenizers', 'pydantic', 'jinja2'}}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
