"""Pixels to files: size, mode and codec of what is saved."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from syn_ray.generate.config import ImageFormat
from syn_ray.generate.protocol import Pixels


def encode_image(image: Image.Image, form: ImageFormat) -> bytes:
    """An image file of the wanted size; a larger or oblong one is fitted by its centre.

    Pillow's bicubic filter widens with the reduction, so a smaller copy is antialiased.
    """
    image = image.convert(form.mode)
    if image.size != (form.size_px, form.size_px):
        image = ImageOps.fit(image, (form.size_px, form.size_px), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if form.codec == "png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=form.quality)
    return buffer.getvalue()


def encode_pixels(images: Pixels, form: ImageFormat) -> list[bytes]:
    """Files of a batch, uint8 [batch, height, width, 3]."""
    return [encode_image(Image.fromarray(image), form) for image in images]


def second_form(form: ImageFormat) -> ImageFormat | None:
    """The form of the second copy; None where one size is kept."""
    return None if form.second_px is None else form.model_copy(update={"size_px": form.second_px})


def fit_file(file: bytes, form: ImageFormat) -> bytes:
    """A real image's file in the wanted form; the very bytes where it already has it.

    Raises:
        OSError, SyntaxError, ValueError, ...: it does not decode (`datasets.real.UNREADABLE`).
    """
    image = Image.open(io.BytesIO(file))
    same = image.size == (form.size_px, form.size_px) and image.mode == form.mode
    if same and (image.format or "").lower() == form.codec:
        image.load()  # so far only its header has been read
        return file
    return encode_image(image, form)
