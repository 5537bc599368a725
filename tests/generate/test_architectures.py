"""The true architectures, without their weights."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers

from syn_ray.generate.architectures import clip_config, clip_tokenizer, shape, t5_tokenizer, write_model
from syn_ray.generate.families import StableDiffusionConfig
from syn_ray.generate.protocol import load_generator


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("kind", "name", "part", "parameters"),
    [
        # 859,520,964 is what diffusers' own documentation counts; the others follow from the published shapes.
        ("UNet2DConditionModel", "sd-1.5", "unet", 859_520_964),
        ("AutoencoderKL", "sd-1.5", "vae", 83_653_863),
        ("UNet2DConditionModel", "deepfloyd-if-m", "stage-1", 371_605_830),  # its card: 400 M
        ("UNet2DConditionModel", "deepfloyd-if-m", "stage-2", 445_000_000),  # its card: 450 M; channels unknown
        ("UVit2DModel", "amused-256", "transformer", 603_537_664),  # its paper: 603 M
        ("VQModel", "amused-256", "vqvae", 146_244_675),  # its paper: 146 M
    ],
)
def test_true_shapes_have_the_published_numbers_of_parameters(kind, name, part, parameters):
    with torch.device("meta"):
        module = getattr(diffusers, kind).from_config(shape(name, part))
    assert _count(module) == pytest.approx(parameters, rel=2e-3 if part == "stage-2" else 0)


def test_the_true_text_encoders():
    tokenizer = clip_tokenizer()
    with torch.device("meta"):
        plain = transformers.CLIPTextModel(clip_config(tokenizer, shape("sd-1.5", "text_encoder")))
        projected = transformers.CLIPTextModelWithProjection(
            clip_config(tokenizer, shape("amused-256", "text_encoder"))
        )
    assert (_count(plain), _count(projected)) == (123_060_480, 123_650_304)


@pytest.mark.slow
def test_true_inputs_have_the_true_shapes():
    """What the pipelines feed the true denoisers, on the meta device: shapes without numbers."""
    with torch.device("meta"):
        latent = diffusers.UNet2DConditionModel.from_config(shape("sd-1.5", "unet"))
        noise = latent(torch.empty(2, 4, 64, 64), 1, torch.empty(2, 77, 768)).sample
        assert noise.shape == (2, 4, 64, 64)
        masked = diffusers.UVit2DModel.from_config(shape("amused-256", "transformer"))
        tokens = torch.zeros(2, 16, 16, dtype=torch.long)
        logits = masked(tokens, torch.empty(2, 77, 768), torch.empty(2, 768), torch.empty(2, 5))
        assert logits.shape == (2, 8192, 16, 16)


CLIP = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "projection_dim": 32,
}


def _vae(latent_channels):
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32),
        latent_channels=latent_channels,
        sample_size=16,
        shift_factor=0.1,
        scaling_factor=0.5,
    )


def _clips(tokenizer):
    plain = transformers.CLIPTextModel(clip_config(tokenizer, CLIP))
    return plain, transformers.CLIPTextModelWithProjection(clip_config(tokenizer, CLIP))


def _t5(width):
    config = transformers.T5Config(vocab_size=256, d_model=width, d_kv=8, d_ff=64, num_heads=4, num_layers=1)
    return transformers.T5EncoderModel(config)


def _sdxl(tokenizer):
    plain, projected = _clips(tokenizer)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,  # 32 of the pooled text and 6 x 8 of sizes and crops
        cross_attention_dim=64,
    )
    text = {"text_encoder": plain, "text_encoder_2": projected, "tokenizer": tokenizer, "tokenizer_2": tokenizer}
    return "StableDiffusionXLPipeline", text | {
        "unet": unet,
        "vae": _vae(4),
        "scheduler": diffusers.DDIMScheduler(),
    }


def _sd3(tokenizer):
    first, second = (transformers.CLIPTextModelWithProjection(clip_config(tokenizer, CLIP)) for _ in range(2))
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,  # the two CLIPs together, and the T5
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=8,
    )
    return "StableDiffusion3Pipeline", {
        "transformer": transformer,
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": _vae(4),
        "text_encoder": first,
        "tokenizer": tokenizer,
        "text_encoder_2": second,
        "tokenizer_2": tokenizer,
        "text_encoder_3": _t5(64),
        "tokenizer_3": t5_tokenizer(),
    }


def _flux(tokenizer):
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    return "FluxPipeline", {
        "transformer": transformer,
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": _vae(4),
        "text_encoder": _clips(tokenizer)[0],
        "tokenizer": tokenizer,
        "text_encoder_2": _t5(32),
        "tokenizer_2": t5_tokenizer(),
    }


PIPELINES = {"sdxl": _sdxl, "sd-3": _sd3, "flux": _flux}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    made = {}

    def directory(name):
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                pipeline, parts = PIPELINES[name](clip_tokenizer())
                made[name] = write_model(tmp_path_factory.mktemp(name), pipeline, parts)
        return made[name]

    return directory


def _stock(directory, config, prompts, seeds, guidance):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(directory, local_files_only=True, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompts,
        num_inference_steps=config.num_inference_steps,
        height=config.height,
        width=config.width,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
        **guidance,
    ).images
    return (np.asarray(images) * 255).round().astype(np.uint8)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_with_other_encodings_draw_what_diffusers_draws(directories, name, guidance_scale):
    """One class for all: pooled encodings, a third encoder, guidance under another name."""
    length = None if name == "sdxl" else 24
    config = StableDiffusionConfig(
        model_id=str(directories(name)), num_inference_steps=2, height=16, width=16, max_sequence_length=length
    )
    prompts, seeds = ["a bag", "a dark coat"], [1, 2]
    images = load_generator(config).generate(prompts, seeds, guidance_scale)
    stock = {"guidance_scale": guidance_scale} if name != "flux" else {"true_cfg_scale": guidance_scale}
    if name == "flux":
        stock |= {"negative_prompt": ["", ""]}
    if length is not None:
        stock |= {"max_sequence_length": length}
    expected = _stock(directories(name), config, prompts, seeds, stock)
    assert images.shape == (2, 16, 16, 3)
    # One grey level: the pipeline encodes both prompts in one batch, the generator each alone.
    assert np.abs(images.astype(int) - expected).max() <= 1


def test_a_lora_is_added_with_its_scale(tiny_config, tmp_path):
    peft = pytest.importorskip("peft", reason="LoRA needs the package peft")
    config = tiny_config("stable_diffusion")
    plain: Any = load_generator(config)
    unet = plain._pipeline.unet
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    weights = peft.get_peft_model_state_dict(unet)
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=weights)
    images = [load_generator(config).generate(["a bag"], [1], 1.0)]
    for scale in (0.0, 1.0):
        added = load_generator(tiny_config("stable_diffusion", lora={"model_id": str(tmp_path), "scale": scale}))
        images.append(added.generate(["a bag"], [1], 1.0))
        assert added.provenance()["lora"]["scale"] == scale
    assert np.abs(images[0].astype(int) - images[1]).max() <= 1  # a LoRA of scale 0 is none
    assert np.abs(images[0].astype(int) - images[2]).max() > 1
