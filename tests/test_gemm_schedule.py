"""The schedules of distributed matrix products: moving and multiplying the tiles as described gives A B."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from wsesim.errors import UnknownNameError
from wsesim.program.gemm import RINGS, Ring, ring, slices

Matrix = NDArray[np.int64]
SIZES = [(1, 1, 1), (5, 7, 3), (12, 12, 12), (9, 20, 31)]  # some divide P, most do not
SIDES = [1, 2, 3, 4, 5, 6, 7, 8, 11]


def padded(matrix: Matrix, side: int) -> Matrix:
    """[P, P, tile rows, tile columns], zeros where the matrix ends."""
    rows, columns = (-(-n // side) for n in matrix.shape)
    whole = np.zeros((rows * side, columns * side), np.int64)
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    return whole.reshape(side, rows, side, columns).swapaxes(1, 2)


def whole(tiles: Matrix, rows: int, columns: int) -> Matrix:
    side, _, height, width = tiles.shape
    return tiles.swapaxes(1, 2).reshape(side * height, side * width)[:rows, :columns]


def along_row(tiles: Matrix, target: Matrix) -> Matrix:
    """Tile (i, j) goes to (i, target[i, j])."""
    moved = np.empty_like(tiles)
    moved[np.arange(len(tiles))[:, None], target] = tiles
    return moved


def along_column(tiles: Matrix, target: Matrix) -> Matrix:
    """Tile (i, j) goes to (target[j, i], j)."""
    return along_row(tiles.swapaxes(0, 1), target).swapaxes(0, 1)


def rounds(tiles: Matrix, of: Ring, turns: Matrix, move: Callable[[Matrix, Matrix], Matrix]) -> Matrix:
    """All rounds of an alignment: line l keeps what it received in the first |turns[l]| of them."""
    for done in range(of.rounds):
        target = np.where((turns > 0)[:, None], of.next(), of.next(forward=False))
        stays = np.broadcast_to(np.arange(of.size), target.shape)
        tiles = move(tiles, np.where((abs(turns) > done)[:, None], target, stays))
    return tiles


def everyone(of: Ring) -> Matrix:
    return np.broadcast_to(of.next(), (of.size, of.size))


def product(a: Matrix, b: Matrix, side: int, algorithm: str) -> Matrix:
    of = ring(side, algorithm)
    left = rounds(padded(a, side), of, of.skew, along_row)
    right = rounds(padded(b, side), of, of.skew, along_column)
    out = np.zeros_like(padded(np.zeros((a.shape[0], b.shape[1]), np.int64), side))
    for _ in range(side):
        out += left @ right
        left, right = along_row(left, everyone(of)), along_column(right, everyone(of))
    return whole(out, a.shape[0], b.shape[1])


def transposed_product(a: Matrix, b: Matrix, side: int, algorithm: str) -> Matrix:
    """Each step the sums go on first, then the product of the PE's own tiles is added."""
    of = ring(side, algorithm)
    left, right = padded(a, side), rounds(padded(b, side), of, of.skew, along_column)
    out = np.zeros_like(padded(np.zeros((a.shape[0], b.shape[0]), np.int64), side))
    for _ in range(side):
        out = along_row(out, everyone(of)) + left @ right.swapaxes(2, 3)
        right = along_column(right, everyone(of))
    return whole(rounds(out, of, of.unskew, along_row), a.shape[0], b.shape[0])


def summa_product(a: Matrix, b: Matrix, side: int) -> Matrix:
    left, right = padded(a, side), padded(b, side)
    out = sum(left[:, step : step + 1] @ right[step : step + 1, :] for step in range(side))
    return whole(np.asarray(out), a.shape[0], b.shape[1])


def matrices(rows: int, inner: int, columns: int) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(rows + inner + columns)
    return rng.integers(-9, 10, (rows, inner)), rng.integers(-9, 10, (inner, columns))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("algorithm", RINGS)
def test_moved_tiles_give_the_product(algorithm: str, side: int, size: tuple[int, int, int]) -> None:
    a, b = matrices(*size)
    np.testing.assert_array_equal(product(a, b, side, algorithm), a @ b)
    np.testing.assert_array_equal(transposed_product(a, b.T, side, algorithm), a @ b)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", SIDES)
def test_broadcast_tiles_give_the_product(side: int, size: tuple[int, int, int]) -> None:
    a, b = matrices(*size)
    np.testing.assert_array_equal(summa_product(a, b, side), a @ b)


@pytest.mark.parametrize("side", SIDES)
def test_slices_say_what_the_tiles_are(side: int) -> None:
    """Every PE works on every slice once, and on the one that A's row and B's column both hold."""
    of = ring(side, "meshgemm")
    seen = np.array([slices(of, step) for step in range(side)])
    assert (np.sort(seen, axis=0) == np.arange(side)[:, None, None]).all()
    names = np.broadcast_to(np.arange(side), (side, side))[..., None, None]
    held = rounds(names.copy(), of, of.skew, along_row)
    np.testing.assert_array_equal(held[..., 0, 0], seen[0])


@pytest.mark.parametrize("side", SIDES)
def test_no_neighbour_is_farther_than_two_hops(side: int) -> None:
    line = np.arange(side)
    assert abs(ring(side, "meshgemm").next() - line).max() <= 2
    assert sorted(ring(side, "meshgemm").order) == list(line)
    assert abs(ring(side, "cannon").next() - line).max() == side - 1 or side == 1


def test_a_row_moves_as_in_the_published_program() -> None:
    """Even rows row / 2 places back, odd ones (row + 1) / 2 ahead."""
    for side in SIDES:
        expected = [-(row // 2) if row % 2 == 0 else (row + 1) // 2 for row in range(side)]
        assert ring(side, "meshgemm").skew.tolist() == expected


def test_an_unknown_ring() -> None:
    with pytest.raises(UnknownNameError, match="unknown ring 'summa'; known: "):
        ring(4, "summa")
