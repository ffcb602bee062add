"""JPEG Lossless and JPEG of 12 bits for pydicom, through libjpeg-turbo: GDCM ends the process on damaged ones."""

from typing import Any

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder

PLUGIN = "libjpeg-turbo"
DECODER_DEPENDENCIES = dict.fromkeys((uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1), ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Whether this decodes a transfer syntax; asked by pydicom."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(code: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of a frame as they are stored, without a change of colours; called by pydicom."""
    dtype = np.dtype("u1" if runner.bits_stored <= 8 else "u2")
    shape = (runner.rows, runner.columns, runner.samples_per_pixel)
    space = "GRAYSCALE" if shape[2] == 1 else "RGB"
    # a given array refuses other sizes, which a damaged header may ask for
    pixels: Any = np.empty(shape[:2] if shape[2] == 1 else shape, dtype)
    imagecodecs.jpeg8_decode(code, colorspace=space, outcolorspace=space, out=pixels)
    runner.set_option("bits_allocated", 8 * dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()


def decoder_of(syntax: uid.UID) -> Decoder:
    """Pydicom's decoder, with this module as one of its plugins."""
    decoder = get_decoder(syntax)
    if is_available(syntax) and PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    return decoder
