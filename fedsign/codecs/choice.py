"""The codec that a method's `codec` key names."""

from __future__ import annotations

from collections.abc import Sequence

from fedsign.codecs.dense import Float32
from fedsign.codecs.scaled import ScaledSign
from fedsign.codecs.sparse import HeavySign, TopK

Contraction = TopK | ScaledSign | HeavySign | Float32  # ‖C(x) − x‖² ≤ (1 − δ) ‖x‖² with δ > 0


def chosen(name: str, sizes: Sequence[int] | None, *, ratio: float, sign_zero: str) -> Contraction:
    """A codec for a method with error feedback.

    Args:
        name: ``topk``, ``sign``, ``heavy_sign`` or ``identity``.
        sizes: lengths of the groups that have a scale each; None is the whole vector.
        ratio: k / d of ``topk`` and ``heavy_sign``.
        sign_zero: what Sign(0) is in ``sign`` and ``heavy_sign``.
    """
    if name == "topk":
        return TopK(ratio)
    if name == "sign":
        return ScaledSign(sign_zero, sizes)
    if name == "heavy_sign":
        return HeavySign(ratio, sign_zero, sizes)
    return Float32()
