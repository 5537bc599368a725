"""A model's licence: what its card says, asked for once, and never an error."""

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from syn_ray.generate.finding import Model, licence


def _model(folder, *, on_hub=False):
    return Model("someone/model", "someone/model", folder, "abc", on_hub=on_hub, offline=not on_hub)


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: mit\n---\n# A model\n", "mit"),
        ("---\nlicense: other\nlicense_name: sai-nc\n---\n", "sai-nc"),
        ("---\ntags: [a]\n---\n", "not stated"),
        ("---\nlicense: [mit\n---\n", "not stated"),  # not YAML
        ("---\njust words\n---\n", "not stated"),  # YAML, and no mapping
        ("---", "not stated"),
        ("# license: mit", "not stated"),
        (b"---\nlicense: mit\nauthor: J\xfcrgen\n---\n", "mit"),  # not UTF-8
    ],
)
def test_what_a_card_says(tmp_path, card, stated):
    (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert licence(_model(tmp_path)) == stated


def test_a_licence_that_is_not_known_is_not_in_a_shard(tmp_path, monkeypatch):
    """Two actors, one of which the Hub did not answer, would make different bytes of one shard."""
    import diffusers
    import torch

    from syn_ray.generate.loading import facts

    def download(*_, **__):
        raise OSError("connection reset")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    said = [
        facts(
            _model(tmp_path, on_hub=on_hub), "DDIMPipeline", diffusers.DDIMScheduler(), "float32", torch.device("cpu")
        )
        for on_hub in (True, False)
    ]
    assert ["licence" in fact for fact in said] == [False, True]


@pytest.mark.parametrize(
    ("answer", "stated"),
    [
        (EntryNotFoundError("no such file"), "not stated"),  # the Hub knows the model, and it has no card
        (LocalEntryNotFoundError("no network and not in the cache"), None),
        (OSError("connection reset"), None),
    ],
)
def test_the_hub_is_asked_once_and_its_silence_is_not_an_answer(tmp_path, monkeypatch, answer, stated):
    asked = []

    def download(model_id, name, **_):
        asked.append((model_id, name))
        raise answer

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert [licence(_model(tmp_path, on_hub=True)) for _ in range(3)] == [stated] * 3
    assert asked == [("someone/model", "README.md")]
