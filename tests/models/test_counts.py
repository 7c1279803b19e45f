"""Parameters and multiply-accumulates of the paper's networks, by formula and counted on the real modules."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig, paper_config
from bdflow_rt.zoo.interface import SCALES
from tests.support import slow_but

TABLE_2 = {
    2: (264_966, None),
    4: (660_468, None),
    8: (3_156_228, 3_439_936_512),
    16: (4_584_336, 1_911_924_864),
    32: (15_944_862, 2_093_287_968),
    64: (60_722_604, 2_272_002_696),
}
"""Scale -> parameters and MACs at 128 x 128; the paper prints the last four rows rounded."""


def _counted(config: BDFlowConfig, size: int) -> tuple[int, int, int]:
    """Parameters of the flow, and MACs down and up, of the module itself; nothing is allocated or computed."""
    with torch.device("meta"):
        model = BDFlow(config)
        x = torch.empty(1, 3, size, size)
        parameters = sum(value.numel() for name, value in model.named_parameters() if name != "quantizer.gain")
        with FlopCounterMode(display=False) as down:
            output = model(x)
        with FlopCounterMode(display=False) as up:
            model.inverse(*model.quantize(output, x))
    return parameters, down.get_total_flops() // 2, up.get_total_flops() // 2


@pytest.mark.parametrize("scale", slow_but([2, 4, 8], SCALES))
def test_presets_have_the_parameters_and_macs_of_table_2(scale: int) -> None:
    config = paper_config(scale)
    parameters, macs = TABLE_2[scale]
    assert config.parameters() == parameters
    assert _counted(config, 128) == (parameters, config.macs(128, 128), config.macs(128, 128))
    if macs is not None:
        assert config.macs(128, 128) == macs


def test_presets_round_to_the_digits_the_paper_prints() -> None:
    printed = {8: ("3.16", "3.4399"), 16: ("4.58", "1.9119"), 32: ("15.94", "2.0933"), 64: ("60.72", "2.2720")}
    for scale, (millions, giga) in printed.items():
        config = paper_config(scale)
        assert f"{config.parameters() / 1e6:.2f}" == millions
        assert f"{config.macs(128, 128) / 1e9:.4f}" == giga


@pytest.mark.parametrize("coupling", ["scaled", "additive"])
@pytest.mark.parametrize("bits", [0, 3])
def test_formulas_hold_for_uneven_networks(coupling: str, bits: int) -> None:
    config = BDFlowConfig(scale=8, blocks=(3, 1, 2), hidden=(5, 16, 7), coupling=coupling, bits=bits)  # type: ignore[arg-type]
    assert _counted(config, 40) == (config.parameters(), config.macs(40, 40), config.macs(40, 40))
