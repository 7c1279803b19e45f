"""What one training step feeds to the way back: the network's channel or the mask, Z = 0 or a drawn one."""

from __future__ import annotations

import pathlib

import pytest
import torch
from torch import Tensor

from bdflow_rt.errors import TrainingConfigError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.training.distributed import Ranks
from bdflow_rt.training.step import TrainStep
from bdflow_rt.training.validate import validate
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.boundary import BoundaryConfig
from tests.support import photo
from tests.training.small import small_config, trainer

CONFIG = BDFlowConfig(scale=2, blocks=(1,), hidden=(8,), bits=2, boundary=BoundaryConfig(threshold=20))


class Recording(BDFlow):
    """A network that keeps what its way back was given."""

    given: list[tuple[Tensor | None, Tensor | None]]

    def up(self, lr: Tensor, boundary: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        self.given = [*getattr(self, "given", []), (boundary, latent)]
        return super().up(lr, boundary, latent)


def _crops() -> Tensor:
    return torch.from_numpy(photo(32, 32, 4).transpose(2, 0, 1)[None].copy())


def test_z_is_drawn_anew_each_step_and_again_the_same_for_the_same_step() -> None:
    model = Recording(CONFIG)
    step = TrainStep(model, small_config(model=CONFIG, temperature=0.5))
    for number in (7, 8, 7):
        step(_crops(), 0.0, number)
    first, second, third = (latent for _, latent in model.given if latent is not None)
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    assert first.shape == (1, 8, 16, 16)
    assert first.std().item() == pytest.approx(0.5, rel=0.1)


def test_without_a_temperature_no_z_is_drawn() -> None:
    model = Recording(CONFIG)
    TrainStep(model, small_config(model=CONFIG))(_crops(), 0.0, 0)
    assert model.given[0][1] is None


def test_validation_gives_the_way_back_what_training_did() -> None:
    model = Recording(CONFIG)
    pictures = [photo(20, 31, 1), photo(20, 30, 2)]
    validate(model, pictures, step=0, temperature=0.3)
    assert all(latent is not None and latent.std() > 0.2 for _, latent in model.given)


@pytest.mark.slow
def test_compiled_steps_have_the_same_loss_and_gradients() -> None:
    torch.manual_seed(2)
    model = BDFlow(CONFIG)
    model.reset_parameters(zero_last=False)
    found = []
    for execution in ("eager", "compiled"):
        model.zero_grad()
        loss, _ = TrainStep(model, small_config(model=CONFIG, execution=execution))(_crops(), 0.0, 0)
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-6)


def test_a_missing_compiler_is_named_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(TrainingConfigError, match=r"no /nowhere/c\+\+\. Install"):
        TrainStep(BDFlow(CONFIG), small_config(model=CONFIG, execution="compiled"))


def test_a_graph_needs_a_gpu_and_one_process_and_draws_no_z(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TrainingConfigError, match="temperature = 0"):
        small_config(execution="graphed", temperature=0.5)
    with pytest.raises(TrainingConfigError, match="--device cuda"):
        trainer(tmp_path, small_config(execution="graphed"), "run")
    with pytest.raises(TrainingConfigError, match="for one process, but there are 2"):
        trainer(tmp_path, small_config(execution="graphed"), "run", ranks=Ranks(rank=0, world=2))
