"""Ways out that messages name. A test runs them, with what Debian has in version 12 as in newer ones.

IN and OUT stand for the user's files. ImageMagick's command is `convert` in Debian 12 and still there in ImageMagick 7.
"""

from __future__ import annotations

ASSUME_SRGB = "take it as sRGB as it is with colours='assume' (--assume-srgb)"
OR_IN_AN_EDITOR = f"{ASSUME_SRGB}, or convert it to sRGB in an image editor"
"""For colours that are not sRGB and cannot be kept."""
TO_8_BIT_RGB = "convert IN -colorspace sRGB -depth 8 OUT.png"
"""ImageMagick: pictures of more than 8 bits, CMYK, Lab and others."""
FIRST_PAGE = "convert 'IN[0]' OUT.png"
"""ImageMagick: one frame or page of several."""
WITHOUT_EXTRA_CHANNELS = "convert IN -alpha off OUT.png"
"""ImageMagick: a TIFF without the channels beside its colours."""
FROM_OTHER_FORMAT = "convert 'IN[0]' -colorspace sRGB -depth 8 OUT.png"
"""ImageMagick: formats that are not read here, the first picture of a file that holds several."""
FROM_PART_OF_GIF = "convert 'IN[0]' +repage OUT.png"
"""ImageMagick: the pixels of a GIF that has fewer than its canvas."""
FROM_PART_OF_WEBP = "webpmux -get frame 1 IN -o OUT.webp"
"""libwebp, in Debian's package webp: the same of a WebP."""
FROM_JPEG_XL = "djxl IN OUT.png"
"""libjxl, in Debian's package libjxl-tools."""
FROM_RARE_JPEG = "jpeg IN OUT.ppm && convert OUT.ppm -depth 8 OUT.png"
"""libjpeg-tools, a Debian package of its own, and ImageMagick: every kind of JPEG of ITU-T T.81."""
TO_LZW = (
    "pip install tifffile imagecodecs && python3 -c \"import tifffile as t; p=t.TiffFile('IN').pages[0]; "
    "t.imwrite('OUT.tif', p.asarray(), compression='lzw', iccprofile=p.iccprofile)\""
)
"""A TIFF of a compression that is not read here; Debian's libtiff knows fewer of them, JPEG 2000 and JPEG XL not."""
