"""Generators by family and preset: what is expanded, what each takes, and every mistake's one line."""

import json
import shutil
from typing import Any

import pydantic
import pytest

from syn_ray import embedded
from syn_ray.core.config import defaults_not_from_paper
from syn_ray.core.errors import UserError
from syn_ray.generate.families import GeneratorConfig, ImagenConfig, MuseConfig, StableDiffusionConfig, read_generator
from syn_ray.generate.presets import DEFAULT_PRESETS, PRESETS
from syn_ray.generate.protocol import load_generator

ANY: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(GeneratorConfig)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_expands_to_plain_values(name):
    config = ANY.validate_python({"preset": name})
    assert config.family == PRESETS[name]["family"]
    assert read_generator(config.model_dump_json()) == config
    assert config.revision is None or len(config.revision) == 40


def test_a_family_is_by_default_its_preset_and_given_keys_win():
    for family, preset in DEFAULT_PRESETS.items():
        assert ANY.validate_python({"family": family}) == ANY.validate_python({"preset": preset})
    config = ANY.validate_python({"preset": "sd-1.5", "num_inference_steps": 20, "dtype": "float32"})
    assert (config.num_inference_steps, config.dtype, config.scheduler) == (20, "float32", "DDIMScheduler")
    assert ANY.validate_python({}).model_id == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    other = ANY.validate_python({"preset": "sd-1.5", "model_id": "me/mine"})
    assert (other.revision, other.height) == (None, 512)  # a commit of one model is none of another


def test_what_a_preset_fills_in_is_still_no_value_of_the_paper():
    lines = defaults_not_from_paper(ANY.validate_python({"preset": "sd-1.5", "eta": 0.5}))
    assert "num_inference_steps=50" in lines
    assert not any(line.startswith("eta") for line in lines)


def test_native_guidance_is_muses_own():
    muse, latent = MuseConfig(model_id="x"), StableDiffusionConfig(model_id="x")
    assert [muse.native_guidance(scale) for scale in (1, 1.1, 2)] == [0, 0.1, 1]
    assert [muse.guidance_scale(t) for t in (0, 0.1, 1)] == [1, 1.1, 2]
    assert (latent.native_guidance(7.5), latent.guidance_scale(7.5)) == (7.5, 7.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"family": "muze"}, "there is no generator family 'muze'; did you mean 'muse'?"),
        ({"preset": "sd-1.4"}, "there is no preset 'sd-1.4'; did you mean 'sd-1.5'?"),
        (
            {"family": "muse", "preset": "sdxl"},
            "preset 'sdxl' is of the family stable_diffusion, not of muse; leave `family` out",
        ),
        (
            {"model_id": "embedded:stable-difusion"},
            "there is no embedded generator 'stable-difusion'; did you mean 'stable-diffusion'?",
        ),
    ],
)
def test_names_that_do_not_exist_are_answered_with_the_nearest(data, message):
    with pytest.raises(pydantic.ValidationError) as caught:
        ANY.validate_python(data)
    assert caught.value.errors()[0]["msg"] == f"Value error, {message}"


@pytest.mark.parametrize("key", ["eta", "noise_level", "temperature"])
def test_a_family_takes_its_own_fields_only(key):
    own = {"eta": "stable_diffusion", "noise_level": "imagen", "temperature": "muse"}
    for family in DEFAULT_PRESETS:
        if family == own[key]:
            assert getattr(ANY.validate_python({"family": family, key: 1}), key) == 1
        else:
            with pytest.raises(pydantic.ValidationError, match="Extra inputs are not permitted"):
                ANY.validate_python({"family": family, key: 1})


def _refusal(config):
    with pytest.raises(UserError) as caught:
        load_generator(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory_that_is_not_there():
    assert _refusal(StableDiffusionConfig(model_id="/no/where")) == (
        "generator '/no/where' cannot be loaded: there is no such directory; "
        "give one in diffusers' format, or a model of the Hub"
    )


@pytest.mark.parametrize("kind", [StableDiffusionConfig, ImagenConfig, MuseConfig])
def test_a_model_of_the_hub_that_is_not_here_and_no_network(kind, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    values = {"model_id": "nobody/nothing", "revision": "abc"}
    values |= {"super_resolution_model_id": "nobody/more"} if kind is ImagenConfig else {}
    assert _refusal(kind.model_validate(values)) == (
        "generator 'nobody/nothing' cannot be loaded: model_index.json and the files it names are not in the Hub's "
        "cache, HF_HUB_OFFLINE=1; fetch it with `hf download nobody/nothing --revision abc` or give a local directory"
    )


@pytest.mark.parametrize(
    ("family", "file", "missing"),
    [
        ("stable_diffusion", "unet/diffusion_pytorch_model.safetensors", "unet/*.safetensors"),
        ("imagen", "stage-1/text_encoder/model.safetensors", "text_encoder/*.safetensors"),
        ("imagen", "stage-2/unet/config.json", "unet/config.json"),
        ("muse", "scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
    ],
)
def test_files_that_are_missing_are_named(tiny, tiny_config, tmp_path, family, file, missing):
    copy = shutil.copytree(tiny(family), tmp_path / "model")
    (copy / file).unlink()
    message = _refusal(tiny_config(family, model_id=str(copy)))
    assert message == f"generator '{copy}' cannot be loaded: missing {missing}; make the directory whole"


def test_a_model_of_another_family(tiny):
    latent, cascade, masked = (str(tiny(family)) for family in ("stable_diffusion", "imagen", "muse"))
    wrong = "generator '{}' cannot be loaded: its pipeline {} is of the family {}, not {}; set family: {}"
    assert _refusal(MuseConfig(model_id=latent)) == wrong.format(
        latent, "StableDiffusionPipeline", "stable_diffusion", "muse", "stable_diffusion"
    )
    assert _refusal(StableDiffusionConfig(model_id=masked)) == wrong.format(
        masked, "AmusedPipeline", "muse", "stable_diffusion", "muse"
    )
    assert _refusal(StableDiffusionConfig(model_id=cascade)) == (
        f"generator '{cascade}' cannot be loaded: model_index.json is not in {cascade}; it holds stage-1: "
        "set family: imagen; give a directory in diffusers' format"
    )
    exchanged = ImagenConfig(model_id=f"{cascade}/stage-2", super_resolution_model_id=f"{cascade}/stage-1")
    assert _refusal(exchanged) == (
        f"generator '{cascade}/stage-2' cannot be loaded: its pipeline is IFSuperResolutionPipeline, stage I is a "
        "IFPipeline; exchange the stages"
    )


def test_a_scheduler_or_an_argument_of_it_that_does_not_exist(tiny_config):
    assert _refusal(tiny_config("stable_diffusion", scheduler="DDIMSchedular")) == (
        "scheduler 'DDIMSchedular' is not in diffusers; did you mean 'DDIMScheduler'?"
    )
    changed = tiny_config("stable_diffusion", scheduler_config={"timestep_spacin": "trailing"})
    assert _refusal(changed) == (
        "scheduler_config: DDIMScheduler takes no 'timestep_spacin'; did you mean 'timestep_spacing'?"
    )
    eta = tiny_config("stable_diffusion", scheduler="EulerDiscreteScheduler", eta=0.5)
    assert _refusal(eta) == (
        "eta 0.5: EulerDiscreteScheduler takes none; leave eta at 0, or set scheduler: DDIMScheduler"
    )


def test_a_lora_that_is_not_there(tiny_config, tmp_path, monkeypatch):
    assert _refusal(tiny_config("stable_diffusion", lora={"model_id": str(tmp_path / "no-lora")})) == (
        f"LoRA '{tmp_path}/no-lora' cannot be loaded: there is no file {tmp_path}/no-lora; check the path"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _refusal(tiny_config("stable_diffusion", lora={"model_id": "nobody/lora"})) == (
        "LoRA 'nobody/lora' cannot be loaded: pytorch_lora_weights.safetensors is not in the Hub's cache, "
        "HF_HUB_OFFLINE=1; fetch it with `hf download nobody/lora`"
    )


def test_the_licence_is_the_model_cards(tiny_config, tiny, tmp_path):
    copy = shutil.copytree(tiny("muse"), tmp_path / "model")
    (copy / "README.md").write_text("---\nlicense: openrail\ntags: [a]\n---\n# A model\n")
    assert load_generator(tiny_config("muse", model_id=str(copy))).provenance()["licence"] == "openrail"


def test_a_pipeline_that_diffusers_lacks_is_not_fetched_as_code(tiny_config, tiny, tmp_path):
    copy = shutil.copytree(tiny("stable_diffusion"), tmp_path / "model")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "TheirOwnPipeline"}))
    assert "its pipeline TheirOwnPipeline is not in diffusers" in _refusal(
        tiny_config("stable_diffusion", model_id=str(copy))
    )


def test_an_embedded_model_has_the_recorded_revision():
    config = StableDiffusionConfig(model_id="embedded:stable-diffusion", revision="other")
    assert config.revision == embedded.asset_revision("stable-diffusion")
