"""Codecs: values [n, d] to rows of bytes and back. Loaded on first use, since they import torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsign.codecs.choice import Contraction as Contraction
    from fedsign.codecs.choice import chosen as chosen
    from fedsign.codecs.codec import Codec as Codec
    from fedsign.codecs.codec import mean_of_each as mean_of_each
    from fedsign.codecs.dense import Float32 as Float32
    from fedsign.codecs.entropy import EntropyCoded as EntropyCoded
    from fedsign.codecs.entropy import entropy_coded as entropy_coded
    from fedsign.codecs.hadamard import Hadamard as Hadamard
    from fedsign.codecs.integer import Integer as Integer
    from fedsign.codecs.integer import encode_each as encode_each
    from fedsign.codecs.mask import Mask as Mask
    from fedsign.codecs.masked_noise import MaskedNoise as MaskedNoise
    from fedsign.codecs.onebit import Sign as Sign
    from fedsign.codecs.onebit import Ternary as Ternary
    from fedsign.codecs.onebit import sign as sign
    from fedsign.codecs.onebit import signs as signs
    from fedsign.codecs.qsgd import QSGD as QSGD
    from fedsign.codecs.scaled import ScaledSign as ScaledSign
    from fedsign.codecs.scaled import StochasticSign as StochasticSign
    from fedsign.codecs.sparse import HeavySign as HeavySign
    from fedsign.codecs.sparse import TopK as TopK
    from fedsign.codecs.uniform import Uniform as Uniform
else:
    import lazy_loader

    __getattr__, __dir__, __all__ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "choice": ["Contraction", "chosen"],
            "codec": ["Codec", "mean_of_each"],
            "dense": ["Float32"],
            "entropy": ["EntropyCoded", "entropy_coded"],
            "hadamard": ["Hadamard"],
            "integer": ["Integer", "encode_each"],
            "mask": ["Mask"],
            "masked_noise": ["MaskedNoise"],
            "onebit": ["Sign", "Ternary", "sign", "signs"],
            "qsgd": ["QSGD"],
            "scaled": ["ScaledSign", "StochasticSign"],
            "sparse": ["HeavySign", "TopK"],
            "uniform": ["Uniform"],
        },
    )
