"""Figures that others publish, for comparison; cited, never measured here.

PSNR-Y in dB as the papers print it, LR pictures of 8 bits, a border of `scale` pixels left out. MACs of convolutions'
weights in one direction for a 128 x 128 HR picture.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row of somebody's table."""

    name: str
    scale: int
    macs_128x128: int
    psnr_y: dict[str, float]
    remark: str = ""
    """What a reader has to know before believing the point; empty where both figures are printed or counted."""

    @property
    def label(self) -> str:
        """Name and remark, as a plot shows them."""
        return f"{self.name} ({self.remark})" if self.remark else self.name


PUBLISHED = (
    Published("IRN", 2, 6_818_660_352, {"Set5": 43.99, "Set14": 40.79, "BSD100": 41.32}),
    Published("IRN", 4, 9_566_429_184, {"Set5": 36.19, "Set14": 32.67, "BSD100": 31.64}),
    # No code was published. In a configuration that gives the published parameters every convolution runs at LR size.
    Published("FGRN", 2, 1_330_000 * 64**2, {"Set5": 44.15, "Set14": 42.28, "BSD100": 41.87}, "at most these MACs"),
    Published("FGRN", 4, 3_350_000 * 32**2, {"Set5": 36.97, "Set14": 33.77, "BSD100": 31.83}, "at most these MACs"),
)


@dataclass(frozen=True)
class PublishedFaces:
    """One cell of BDFlow's table on CelebA-HQ at 1024 x 1024; it does not say whether PSNR is of RGB or of luma."""

    name: str
    scale: int
    psnr: float
    ssim: float
    lpips: float


FACES = (
    PublishedFaces("BDFlow", 8, 38.93, 0.9425, 0.0850),
    PublishedFaces("HCFlow", 8, 26.66, 0.7700, 0.2100),
    PublishedFaces("BDFlow", 16, 31.97, 0.8219, 0.2476),
    PublishedFaces("BDFlow", 32, 29.15, 0.8060, 0.3273),
    PublishedFaces("IRN", 32, 24.41, 0.6943, 0.5238),
    PublishedFaces("BDFlow", 64, 26.12, 0.7805, 0.3672),
    PublishedFaces("GRAIN", 64, 22.30, 0.6467, 0.2686),
)
