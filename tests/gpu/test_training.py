"""Training on the GPU: the CUDA graph of a step, the optimiser, and a whole run."""

from __future__ import annotations

import pathlib
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 is float32: algorithms of cuDNN may differ between the ways, and tf32 would hide a fault among them."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


CASES: dict[str, dict[str, Any]] = {
    "psnr": {},
    "paper": {"loss": {"boundary": 16.0, "latent": 4.0, "lpips": 1.0}},
    "bf16": {"precision": "bf16"},
    "no-map": {"model": {"bits": 0}},
    "three-bits-of-lr": {"model": {"bits": 3, "source": "lr"}, "loss": {"boundary": 16.0}},
    "bits": {"model": {"bits": 2}},
    "recomputed": {"checkpoint_gradients": True},
}
"""What differs from the smallest configuration."""


def _step(case: str) -> Any:
    """A `TrainStep` on the GPU with random weights."""
    from bdflow_rt.models.bdflow import BDFlow
    from bdflow_rt.training.losses import LossWeights
    from bdflow_rt.training.step import TrainStep
    from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
    from bdflow_rt.zoo.boundary import BoundaryConfig
    from tests.training.small import small_config

    changes = dict(CASES[case])
    model, loss = dict(changes.pop("model", {})), changes.pop("loss", {})
    boundary = BoundaryConfig(threshold=20, source=model.pop("source", "hr"))
    config = small_config(
        model=BDFlowConfig(scale=2, blocks=(1,), hidden=(8,), boundary=boundary, **model),
        loss=LossWeights(**{"lr": 2, "reconstruction": 1, "luma": 1, "lpips": 0, "boundary": 0, "latent": 0, **loss}),
        **changes,
    )
    torch.manual_seed(2)
    network = BDFlow(cast(BDFlowConfig, config.model))
    network.reset_parameters(zero_last=False)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    network.checkpoint_gradients = config.checkpoint_gradients
    distance = torch.nn.L1Loss() if config.loss.lpips else None
    return TrainStep(network.cuda(), config, lpips=distance)


def _crops(seed: int, side: int = 32) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=generator).cuda()


def _gradients(step: Any) -> list[Any]:
    return [parameter.grad.clone() for parameter in step.parameters()]


def _results(computed: Any) -> list[Any]:
    return [value.clone() for value in (computed.loss, *computed.parts.values(), computed.norm)]


def _assert_close(found: list[Any], wanted: list[Any], *, tolerance: float = 1e-3) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= tolerance * other.norm() + 1e-6


@pytest.mark.parametrize("case", CASES)
def test_the_graph_gives_the_steps_loss_and_gradients(case: str) -> None:
    """Before and after the boundary-aware weight sets in, back again, with weights that move in between."""
    from bdflow_rt.training.graphed import Gradients, GraphedGradients
    from bdflow_rt.training.optimizers import Optimizer

    step = _step(case)
    graphed, plain = GraphedGradients(step, clip=1.0), Gradients(step, clip=1.0)
    optimizer = Optimizer("muon", step.model, learning_rate=1e-3)
    for number, progress in enumerate([0.0, 0.0, 0.9, 0.9, 0.0]):
        computed = graphed(_crops(number), progress, number)
        names, found = list(computed.parts), [*_results(computed), *_gradients(step)]
        computed = plain(_crops(number), progress, number)
        assert list(computed.parts) == names
        wanted = [*_results(computed), *_gradients(step)]
        _assert_close(found, wanted, tolerance=0.05 if case == "bf16" else 1e-3)
        optimizer.step(1e-3)


def test_crops_of_another_size_get_a_graph_of_their_own() -> None:
    from bdflow_rt.training.graphed import Gradients, GraphedGradients

    step = _step("psnr")
    graphed, plain = GraphedGradients(step, clip=1.0), Gradients(step, clip=1.0)
    for side in (32, 48, 32):
        graphed(_crops(5, side), 0.0, 0)
        found = _gradients(step)
        plain(_crops(5, side), 0.0, 0)
        _assert_close(found, _gradients(step))


def test_muon_steps_as_on_the_cpu() -> None:
    from bdflow_rt.training.optimizers import Optimizer

    model, reference = _step("psnr").model, _step("psnr").model.cpu()
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
