"""The benchmark runs where there is no GPU, with tiny models; its figures mean nothing there."""

import diffusers
import pytest

from syn_ray.generate.benchmark import main


@pytest.mark.parametrize(
    "model", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("sd-1.5", "deepfloyd-if-m")), "amused-256"]
)
def test_both_contenders_are_timed_in_turn(model, capsys):
    diffusers.logging.set_verbosity_error()
    options = ["--reduced", "--dtype", "float32", "--batch-size", "2", "--num-inference-steps", "2", "--repeats", "2"]
    stock, ours = main([model, *options, "--peak-tflops", "1"])
    assert (stock.name, ours.name) == ("diffusers", "syn_ray")
    for figure in (stock, ours):
        assert figure.images_per_second > 0
        assert len(figure.batch_seconds) == 2
        assert figure.peak_share is not None
        assert 0 < figure.peak_share < 1
    assert capsys.readouterr().out.count("images_per_second") == 2
