"""What a kernel tells of itself, by hand for a layer of one block."""

from __future__ import annotations

import pytest

from tests.programs import NORMED, program
from wsesim.program import Program
from wsesim.program.kernels import ACROSS, ALONG, DECODE, KERNEL_TYPES, PREFILL, SEGMENT, Kernel
from wsesim.program.operands import LineSum


def kernels(*programs: Program) -> dict[str, Kernel]:
    return {type(kernel).__name__: kernel for made in programs for kernel in made.kernels}


@pytest.fixture(scope="module")
def one_of_each() -> dict[str, Kernel]:
    """The last kernel of each type: 32 features, 4 heads over 2 KV heads of 8 features, 64 hidden ones."""
    return kernels(*(program(NORMED, "wse3", block=(2, 3), softmax=way) for way in ("fused", "two_pass")))


def test_every_kernel_type_is_asked(one_of_each: dict[str, Kernel]) -> None:
    assert set(one_of_each) == {kind.__name__ for kind in KERNEL_TYPES}


def test_a_kernel_has_a_collective_if_it_names_an_algorithm(one_of_each: dict[str, Kernel]) -> None:
    for kernel in one_of_each.values():
        assert hasattr(kernel, "reduce") == (kernel.collective(5) is not None), kernel.name
        assert not kernel.lines or kernel.collective(5) is not None, kernel.name


def test_reads_and_makes_name_an_axis(one_of_each: dict[str, Kernel]) -> None:
    axes = {
        name: ({o.axis for o in kernel.reads}, {o.axis for o in kernel.makes}) for name, kernel in one_of_each.items()
    }
    attention = {"QKNorm", "Rope", "Score", "Softmax", "WeightedSum", "FlashSum", "SwiGLU", "Sample"}
    assert axes["Embed"] == (set(), {ALONG})
    assert axes["RMSNorm"] == axes["Add"] == ({ALONG}, {ALONG})
    assert axes["Linear"] == ({ALONG}, {ACROSS})  # the logits
    assert all(axes[name] == ({ACROSS}, {ACROSS}) for name in attention)


def test_work_and_room_by_hand(one_of_each: dict[str, Kernel]) -> None:
    """On 2 x 3 PEs a position across holds 1 KV head with its 2 query heads, one along 11 features."""
    made = one_of_each
    flash, score, softmax = made["FlashSum"], made["Score"], made["Softmax"]
    assert (score.kv_width, flash.kv_width, softmax.kv_width) == (8, 8, 0)
    assert (score.lines, softmax.lines, made["Sample"].lines) == ("", ALONG, ACROSS)
    assert softmax.collective(5) == LineSum(None, 2)
    assert flash.collective(5) == LineSum(None, 2 * 8 + 2)
    assert score.value_elements(5) == {score.makes[0].value: 2 * 5}
    assert softmax.value_elements(5) == {softmax.makes[0].value: 0}
    assert score.multiply_adds(10) == 10 * 4 * 8
    assert score.padded_multiply_adds(10, 3) == 3 * 4 * 32  # 4 positions on the fullest of 3 lines
    assert [tile.elements for tile in made["RMSNorm"].tiles] == [made["RMSNorm"].reads[0].layout.width]
    assert {kernel.last_token_only for name, kernel in made.items() if name not in ("Linear", "Sample")} == {False}


def test_a_head_on_several_positions_sums_over_its_segment() -> None:
    spread = kernels(program(NORMED, "wse3", block=(8, 2)))
    score, norm = spread["Score"], spread["QKNorm"]
    assert (score.lines, norm.lines) == (SEGMENT, SEGMENT)
    assert score.collective(5) == LineSum(4, 2 * 5)
    assert norm.collective(5) == LineSum(4, 3)  # two query heads and one key head


def test_a_phase_has_one_collective() -> None:
    kernel = next(k for k in program("tiny", "wse3", "shared").kernels if k.prefill_reduce)
    decode, prefill = kernel.in_phase(DECODE), kernel.in_phase(PREFILL)
    assert decode.prefill_reduce == prefill.prefill_reduce == ""
    assert getattr(prefill, "reduce", "") == kernel.prefill_reduce != getattr(decode, "reduce", "")
