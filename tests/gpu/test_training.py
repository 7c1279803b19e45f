"""Training on the GPU: the CUDA graph of a step, the optimiser, and a whole run."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 is float32: algorithms of cuDNN may differ between the ways, and tf32 would hide a fault among them."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def _network() -> Any:
    from bdflow_rt.models.bdflow import BDFlow
    from tests.training.small import MODEL

    torch.manual_seed(2)
    model = BDFlow(MODEL)
    model.reset_parameters(zero_last=False)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model.cuda()


def _crops(seed: int, side: int = 32) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=generator).cuda()


def _gradients(model: Any) -> list[Any]:
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("progress", [0.0, 0.9])
@pytest.mark.parametrize("boundary", [0.0, 16.0])
def test_the_graph_gives_the_steps_loss_and_gradients(progress: float, boundary: float) -> None:
    """Before and after the boundary-aware weight sets in; with the mask as the boundary channel's aim and without."""
    from bdflow_rt.training.graphed import Gradients, GraphedGradients
    from bdflow_rt.training.losses import LossWeights
    from bdflow_rt.training.step import TrainStep
    from tests.training.small import small_config

    model = _network()
    losses = LossWeights(lr=2, reconstruction=1, luma=1, lpips=0, boundary=boundary, latent=1)
    config = small_config(loss=losses)
    graphed, plain = GraphedGradients(TrainStep(model, config)), Gradients(TrainStep(model, config))
    for seed in range(3):
        found_loss, found_parts = graphed(_crops(seed), progress, seed)
        found = [found_loss.clone(), *(part.clone() for part in found_parts.values()), *_gradients(model)]
        loss, parts = plain(_crops(seed), progress, seed)
        assert list(parts) == list(found_parts)
        for one, other in zip(found, [loss, *parts.values(), *_gradients(model)], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_graphs_of_two_shapes_and_phases_keep_their_gradients_apart() -> None:
    from bdflow_rt.training.graphed import Gradients, GraphedGradients
    from bdflow_rt.training.step import TrainStep
    from tests.training.small import small_config

    model = _network()
    step = TrainStep(model, small_config())
    graphed, plain = GraphedGradients(step), Gradients(step)
    for progress, side in [(0.0, 32), (0.9, 32), (0.0, 48), (0.0, 32), (0.9, 32)]:
        graphed(_crops(5, side), progress, 0)
        found = _gradients(model)
        plain(_crops(5, side), progress, 0)
        for one, other in zip(found, _gradients(model), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_muon_steps_as_on_the_cpu() -> None:
    from bdflow_rt.training.optimizers import Optimizer

    model, reference = _network(), _network().cpu()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        other.grad = torch.randn_like(other)
        one.grad = other.grad.cuda()
    before = [parameter.detach().clone() for parameter in reference.parameters()]
    for network in (model, reference):
        Optimizer("muon", network, learning_rate=0.01).step(0.01)
    for old, one, other in zip(before, model.parameters(), reference.parameters(), strict=True):
        update, wanted = one.detach().cpu() - old, other.detach() - old
        assert (update - wanted).norm() < 0.03 * wanted.norm()  # bfloat16 against float32


@pytest.mark.parametrize("execution", ["eager", "graphed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_learns_stops_and_resumes(execution: str, precision: str, tmp_path: pathlib.Path) -> None:
    from tests.training.small import small_config, trainer

    config = small_config(
        execution=execution, precision=precision, optimizer="muon", iterations=60, workers=1, baw_after=0.5
    )
    losses: list[float] = []

    def say(line: str) -> None:
        if line.startswith("step"):
            losses.append(float(line.partition("loss ")[2].partition(",")[0]))

    first = trainer(tmp_path, config, "run", device="cuda", say=say)
    first.train(stop=lambda: first.step >= 20)
    trainer(tmp_path, config, "run", device="cuda", resume=True, say=say).train()
    assert len(losses) == 60
    assert sum(losses[20:30]) < 0.9 * sum(losses[:10])
