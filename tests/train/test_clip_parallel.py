from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

WORKER = Path(__file__).with_name("clip_worker.py")


def load_worker():
    spec = importlib.util.spec_from_file_location("clip_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(300)  # two workers that wait for each other at every step, on a machine that has other work
def test_two_workers_train_the_model_of_one(make_clip_config, make_pairs, train_on_two, tmp_path):
    """Either loss, at once, in parts (four in all) and streamed; the reference is one worker with whole batches."""
    configs = [
        make_clip_config(loss=loss, micro_batch_size=size, epochs=3, optimizer={"grad_clip": 0.5})
        for loss in ("clip", "siglip")
        for size in (None, 4)
    ]
    configs.append(make_clip_config(epochs=3, stream={"window": 16, "lanes": 4, "chunk": 5}))
    (tmp_path / "configs.json").write_text(json.dumps([config.model_dump(mode="json") for config in configs]))
    pq.write_table(make_pairs(40), tmp_path / "pairs.parquet")
    pq.write_table(make_pairs(40, tone=200), tmp_path / "synthetic.parquet")
    results = train_on_two(WORKER)
    worker = load_worker()
    for number, config in enumerate(configs):
        if config.micro_batch_size is None:
            (loss, gradients), (losses, weights) = (
                worker.first_step(config, tmp_path, 0, 1),
                worker.whole_run(config, tmp_path, f"alone{number}"),
            )
        (step, run), (other_step, other_run) = results[0][number], results[1][number]
        assert (step[0] + other_step[0]) / 2 == pytest.approx(loss, rel=1e-6)  # float32; each has half of the rows
        for name, gradient in gradients.items():
            assert torch.equal(step[1][name], other_step[1][name]), name
            # Float32 sums in another order: ten times what was found, of the tensor's largest.
            atol = 1e-5 * gradient.abs().max().item()
            torch.testing.assert_close(step[1][name], gradient, rtol=0, atol=atol)
        assert run[0] == other_run[0]
        # AdamW divides by the gradients' size, so a rounding of 1e-7 grows in 8 steps.
        assert run[0] == pytest.approx(losses, abs=2e-5)
        for name, weight in weights.items():
            assert torch.equal(run[1][name], other_run[1][name]), name
            torch.testing.assert_close(run[1][name], weight, rtol=0, atol=1e-4)
