from __future__ import annotations

import pytest
import torch

from syn_ray.train.model import create_model, create_optimizer
from syn_ray.train.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(5, 8, 32), (3, 32, 8), (2, 16, 16), (4, 1, 9)])
def test_orthogonalized_matrices_keep_their_directions_and_lose_their_scales(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.tensor(1e-3)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalize(matrices)
    inner = left.mT @ found @ right.mT  # diagonal where the singular vectors are kept
    scales = inner.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inner, torch.diag_embed(scales), rtol=0, atol=1e-4)
    strong = values > 0.1 * values.amax(1, keepdim=True)
    assert scales[strong].min() > 0.65
    assert scales.max() < 1.25
    torch.testing.assert_close(orthogonalize(matrices * 7), found, rtol=0, atol=1e-4)
    alone = torch.cat([orthogonalize(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_no_gradient_moves_no_matrix():
    matrix = torch.nn.Parameter(torch.ones(4, 6))
    optimizer = Muon([{"params": [matrix], "orthogonalize": True}], lr=0.1, weight_decay=0.0)
    optimizer.step()
    matrix.grad = torch.zeros_like(matrix)
    optimizer.step()
    assert torch.equal(matrix, torch.ones(4, 6))


def test_steps_are_those_of_torchs_own_optimizers():
    """Matrices against torch's Muon, which iterates in bfloat16; the rest against its AdamW."""
    torch.manual_seed(0)
    start = {"wide": torch.randn(8, 32), "tall": torch.randn(48, 16), "vector": torch.randn(16)}

    def moved(make_optimizers):
        parameters = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
        optimizers = make_optimizers(parameters)
        draws = torch.Generator().manual_seed(1)
        for _ in range(5):
            for parameter in parameters.values():
                parameter.grad = torch.randn(parameter.shape, generator=draws)
            for optimizer in optimizers:
                optimizer.step()
        return {name: parameter.detach() - start[name] for name, parameter in parameters.items()}

    def ours(parameters):
        matrices = {"params": [parameters["wide"], parameters["tall"]], "weight_decay": 0.1, "orthogonalize": True}
        return [Muon([matrices, {"params": [parameters["vector"]], "weight_decay": 0.0}], lr=0.02, betas=(0.9, 0.99))]

    def torchs(parameters):
        matrices = [parameters["wide"], parameters["tall"]]
        return [
            torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([parameters["vector"]], lr=0.02, betas=(0.9, 0.99), weight_decay=0.0),
        ]

    found, expected = moved(ours), moved(torchs)
    assert torch.equal(found["vector"], expected["vector"])
    for name in ("wide", "tall"):
        distance = (found[name] - expected[name]).norm() / expected[name].norm()
        assert distance < 0.02, name


def test_every_matrix_and_convolution_of_a_vit_is_orthogonalized(make_config):
    config = make_config(optimizer={"name": "muon"})
    model = create_model(config, num_classes=4, seed=0)
    model = model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, config.optimizer)
    names = {parameter: name for name, parameter in model.named_parameters()}
    matrices, rest = ([names[parameter] for parameter in group["params"]] for group in optimizer.param_groups)
    assert {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"} <= set(matrices)
    assert {"pos_embed", "cls_token", "norm.weight"} <= set(rest)
    model(torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)).square().sum().backward()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    # Whatever a matrix's sides, its step is as long as one of AdamW; shorter where the gradient is not of full rank.
    for name in matrices:
        change = model.get_parameter(name).detach() - before[name] * (1 - config.optimizer.learning_rate * 0.05)
        assert 0.05 < change.square().mean().sqrt() / config.optimizer.learning_rate < 0.25, name


def test_adamw_is_not_written_and_muon_is(make_config):
    assert "name" not in make_config().model_dump()["optimizer"]
    assert make_config(optimizer={"name": "muon"}).model_dump()["optimizer"]["name"] == "muon"
