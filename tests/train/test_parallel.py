from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from syn_ray.train.classify import train_classifier
from syn_ray.train.execution import Execution


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_workers_train_the_model_of_one(make_config, make_source, tmp_path, checkpoints, train_on_two, optimizer):
    config = make_config(
        label_smoothing=0.1,
        drop_path=0.3,
        model_kwargs={"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
        augment={"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "erase_probability": 0.3},
        optimizer={"name": optimizer, "ema_decay": 0.9, "grad_clip": 0.5},
    )
    source = make_source()
    losses: list[float] = []
    alone = train_classifier(
        config, source, Execution(checkpoints, on_progress=lambda p: losses.append(p.loss)), num_classes=4, seed=0
    )
    (tmp_path / "config.json").write_text(config.model_dump_json())
    pq.write_table(source, tmp_path / "source.parquet")
    results = train_on_two(Path(__file__).with_name("worker.py"))
    assert results[0][0] == results[1][0]
    for name, weights in alone.model.state_dict().items():
        assert torch.equal(results[0][1][name], results[1][1][name]), name
        # Gradients are summed in another order; AdamW divides by their size, so a rounding of 1e-7 grows in 40 steps.
        torch.testing.assert_close(results[0][1][name], weights, rtol=0, atol=2e-4)
    assert results[0][0] == pytest.approx(losses, abs=1e-4)
