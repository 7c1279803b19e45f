"""The whole network: exact inverse, Haar start, latent, gradient checkpointing, shapes, names of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bdflow_rt.errors import ShapeError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.layers.haar import haar_forward
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig, paper_config
from tests.support import slow_but

SMALL = BDFlowConfig(scale=4, blocks=(2, 1), hidden=(6, 5))


def _random(config: BDFlowConfig, seed: int = 1) -> BDFlow:
    torch.manual_seed(seed)
    model = BDFlow(config)
    model.reset_parameters(zero_last=False)
    return model


def _picture(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("coupling", ["scaled", "additive"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("scale", slow_but([2, 4], [2, 4, 8, 16]))
def test_without_quantisation_the_inverse_is_exact(scale: int, coupling: str, dtype: torch.dtype, limit: float) -> None:
    model = _random(paper_config(scale, coupling=coupling)).to(dtype)
    x = _picture(1, 3, 3 * scale, 2 * scale, dtype=dtype)
    with torch.no_grad():
        output = model(x)
        error = (model.inverse(*output) - x).abs().max()
        # The transforms must have done something, else the property is that of the Haar pyramid alone.
        plain = BDFlow(paper_config(scale, coupling=coupling)).to(dtype)(x)
    assert (output.lr - plain.lr).abs().max() > 0.01
    assert error < limit


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("coupling", ["scaled", "additive"])
def test_a_new_network_is_exactly_the_haar_pyramid(scale: int, coupling: str) -> None:
    model = BDFlow(paper_config(scale, coupling=coupling))
    x = _picture(2, 3, 5 * scale, 3 * scale, dtype=torch.float32)
    bands = x
    for _ in range(model.config.levels):
        bands = haar_forward(bands)
    with torch.no_grad():
        output = model(x)
    assert output.boundary is not None
    assert torch.equal(torch.cat((output.lr, output.boundary, output.latent), dim=1), bands)


def test_resetting_the_parameters_starts_at_the_haar_pyramid_again() -> None:
    model = _random(SMALL)
    model.reset_parameters()
    x = _picture(1, 3, 8, 8, dtype=torch.float32)
    assert torch.equal(model(x).lr, haar_forward(haar_forward(x))[:, :3])


def test_quantised_stand_ins_go_back_through_the_same_inverse() -> None:
    model = _random(SMALL).double()
    x = _picture(1, 3, 16, 12)
    output = model(x)
    lr, boundary = model.quantize(output, x)
    assert boundary is not None
    zero = torch.zeros(1, model.config.latent_channels, 4, 3, dtype=torch.float64)
    assert torch.equal(model.inverse(lr, boundary), model.inverse(lr, boundary, zero))


@pytest.mark.parametrize("bits", [0, 2])
def test_gradient_checkpointing_changes_no_gradient(bits: int) -> None:
    x = _picture(2, 3, 16, 8, dtype=torch.float32)
    gradients = []
    for checkpointing in (False, True):
        model = _random(BDFlowConfig(scale=4, blocks=(2, 1), hidden=(6, 5), bits=bits))
        model.checkpoint_gradients = checkpointing
        output = model(x)
        loss = (model.inverse(*model.quantize(output, x)) - x).abs().mean() + output.latent.square().mean()
        loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
        assert len(gradients[-1]) == len(list(model.parameters()))
    assert all(grad.abs().sum() > 0 for grad in gradients[0].values())
    for name, grad in gradients[0].items():
        assert torch.equal(grad, gradients[1][name]), name


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 8, 6), (1, 3, 7, 8)])
def test_pictures_that_do_not_fit_the_scale_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="multiples of 4"):
        BDFlow(SMALL)(torch.zeros(shape))


def test_a_missing_boundary_raises() -> None:
    with pytest.raises(ShapeError, match="1 bit takes a boundary"):
        BDFlow(SMALL).inverse(torch.zeros(1, 3, 2, 2))


def test_a_superfluous_boundary_raises() -> None:
    model = BDFlow(BDFlowConfig(scale=2, blocks=(1,), hidden=(4,), bits=0))
    with pytest.raises(ShapeError, match="0 bits takes no boundary"):
        model.inverse(torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2))


def test_names_and_shapes_of_the_x4_weights_never_change() -> None:
    """Released files are read by these names."""
    wanted: dict[str, tuple[int, ...]] = {"quantizer.gain": ()}
    for level, rest in enumerate((9, 45)):
        for block in range(2):
            for transform, inputs, outputs in (("phi", rest, 3), ("rho", 3, rest), ("eta", 3, rest)):
                for conv, shape in (
                    ("conv1", (64, inputs)), ("conv2", (64, 64)), ("conv3", (outputs, 64)),
                    ("shortcut", (outputs, inputs)),
                ):  # fmt: skip
                    name = f"levels.{level}.{block}.{transform}.{conv}"
                    wanted |= {f"{name}.weight": (*shape, 3, 3), f"{name}.bias": shape[:1]}
    with torch.device("meta"):
        state = BDFlow(paper_config(4)).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted
    assert len(state) == 97


def test_the_gain_is_the_last_parameter() -> None:
    """The state of an optimizer, as a checkpoint has it, is by the number of a parameter."""
    for bits in (0, 2):
        names = [name for name, _ in BDFlow(paper_config(4, bits=bits)).named_parameters()]
        assert names[0] == "levels.0.0.phi.conv1.weight"
        assert [name for name in names if name.startswith("quantizer")] == names[-1:] * (bits > 0)
