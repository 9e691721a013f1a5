"""Full precision: 32 bits a value."""

from __future__ import annotations

from torch import Tensor, float32, uint8

from fedsign.codecs.codec import Codec, finite
from fedsign.local.streams import Streams


class Float32(Codec):
    """IEEE single precision, four bytes a value, as they lie in memory (little endian)."""

    def length(self, d: int) -> int:
        """4 d bytes."""
        return 4 * d

    def encode(self, x: Tensor, streams: Streams | None = None) -> list[Tensor]:
        """Rows of bytes of float32 values [n, d]. Raises PayloadError if one is not finite."""
        return list(finite(x.to(float32)).reshape(-1).view(uint8).view(len(x), 4 * x.shape[1]))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Values [n, d]. Raises PayloadError on a wrong length or a value that is not finite."""
        return finite(floats(self.stacked(rows, d)))


def floats(data: Tensor) -> Tensor:
    """The float32 values [n, k] of uint8 [n, 4 k]."""
    return data.reshape(-1).view(float32).view(len(data), data.shape[1] // 4)
