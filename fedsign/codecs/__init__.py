"""Codecs: values [n, d] to rows of bytes and back. Loaded on first use, since they import torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsign.codecs.codec import Codec as Codec
    from fedsign.codecs.codec import mean_of_each as mean_of_each
    from fedsign.codecs.dense import Float32 as Float32
    from fedsign.codecs.integer import Integer as Integer
    from fedsign.codecs.integer import encode_each as encode_each
    from fedsign.codecs.onebit import Sign as Sign
    from fedsign.codecs.onebit import Ternary as Ternary
    from fedsign.codecs.onebit import sign as sign
    from fedsign.codecs.onebit import signs as signs
    from fedsign.codecs.uniform import Uniform as Uniform
else:
    import lazy_loader

    __getattr__, __dir__, __all__ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "codec": ["Codec", "mean_of_each"],
            "dense": ["Float32"],
            "integer": ["Integer", "encode_each"],
            "onebit": ["Sign", "Ternary", "sign", "signs"],
            "uniform": ["Uniform"],
        },
    )
