"""What replaces stock layers on a GPU gives their values; shown on a processor."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codiff_batch.networks import gpu_layers
from codiff_batch.networks.gpu_layers import LastGroupNorm, attend_in_chunks, normalize_last, suit_gpus
from codiff_batch.networks.one_step import TIMESTEP
from codiff_batch.networks.stable_diffusion import SD21_UNET, SD21_VAE, fold_timestep

pytestmark = pytest.mark.xdist_group("diffusers")  # which takes seconds to import


@pytest.mark.parametrize("length", [7, 64, 200])
def test_attention_in_chunks_is_attention(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setattr(gpu_layers, "QUERIES", 64)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, length, 32)
    assert torch.allclose(
        attend_in_chunks(query, key, value), F.scaled_dot_product_attention(query, key, value), atol=1e-5
    )


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (64, 32)])
def test_group_normalisation_stays_channels_last(channels: int, groups: int, offset: float) -> None:
    torch.manual_seed(0)
    stock = nn.GroupNorm(groups, channels, eps=1e-6)
    nn.init.normal_(stock.weight)
    nn.init.normal_(stock.bias)
    maps = (torch.randn(2, channels, 9, 12) + offset).contiguous(memory_format=torch.channels_last)
    normalized = normalize_last(maps, groups, stock.weight, stock.bias, stock.eps)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    # Against 64 bits: with values far from zero the stock layer is the less exact one.
    assert torch.allclose(normalized, stock.double()(maps.double()).float(), atol=1e-4)


@pytest.mark.slow
def test_a_vae_with_replaced_layers_gives_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL.from_config({**SD21_VAE, "block_out_channels": [32, 32, 32, 32]}).eval()
    image = torch.rand(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    vae = vae.to(memory_format=torch.channels_last)
    with torch.no_grad():
        before = vae.double()(image.double()).sample.float()
        suit_gpus(vae.float())
        assert sum(isinstance(module, LastGroupNorm) for module in vae.modules()) > 20
        assert torch.allclose(vae(image).sample, before, atol=1e-3)
        monkeypatch.setattr(gpu_layers, "on_a_gpu", lambda maps: True)
        assert torch.allclose(vae(image).sample, before, atol=1e-3)


@pytest.mark.slow
def test_a_unet_with_replaced_layers_predicts_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    sizes = {"block_out_channels": [32, 32, 32, 32], "attention_head_dim": [2, 2, 2, 2], "cross_attention_dim": 16}
    unet = UNet2DConditionModel.from_config({**SD21_UNET, **sizes}).eval().to(memory_format=torch.channels_last)
    latent = torch.randn(1, 4, 16, 24).contiguous(memory_format=torch.channels_last)
    tokens = torch.randn(1, 5, 16)
    with torch.no_grad():
        before = unet(latent, TIMESTEP, tokens).sample
        fold_timestep(unet)
        suit_gpus(unet)
        assert not any(isinstance(module, nn.SiLU) for module in unet.modules())
        assert torch.allclose(unet(latent, TIMESTEP, tokens).sample, before, atol=1e-3)
        monkeypatch.setattr(gpu_layers, "on_a_gpu", lambda maps: True)
        assert torch.allclose(unet(latent, TIMESTEP, tokens).sample, before, atol=1e-3)


@pytest.fixture
def triton() -> ModuleType:
    return pytest.importorskip("triton", reason="comes with torch for CUDA")


@pytest.mark.slow
def test_the_kernel_normalises_and_keeps_maps_channels_last(triton: ModuleType) -> None:
    command = [sys.executable, "-m", "tests.networks.interpreted"]
    ended = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_the_kernels_are_compiled_for_a_gpu(triton: ModuleType) -> None:
    """As on a machine with a GPU, up to the machine code; the interpreter accepts what the compiler does not."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from codiff_batch.networks import norm_kernel

    given = {
        "_sum_up": {"maps": "*fp16", "ROWS": 64, "CHANNELS": 64},
        "_merge": {"weight": "*fp16", "bias": "*fp16", "eps": "fp32", "PARTS": 256, "WIDTH": 8},
        "_apply": {"maps": "*fp16", "result": "*fp16", "ROWS": 64, "CHANNELS": 64, "SILU": True},
    }
    whole = ("rows", "channels", "each", "parts", "width")
    for name, told in given.items():
        kernel: Any = getattr(norm_kernel, name)
        usual = {each: "i32" if each in whole else "*fp32" for each in kernel.arg_names}
        constants = {each: value for each, value in told.items() if each.isupper()}
        types = {**usual, **told, **dict.fromkeys(constants, "constexpr")}
        made = triton.compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", 90, 32))
        assert made.asm["cubin"]


@pytest.mark.parametrize("fault", ["no Triton", "no compiler", "other values"])
def test_a_kernel_that_does_not_work_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    def normalize(maps: torch.Tensor, *_: Any, silu: bool) -> torch.Tensor:
        if fault == "no compiler":
            raise RuntimeError("Failed to find C compiler")
        return maps

    module = ModuleType("norm_kernel")
    module.normalize = normalize  # type: ignore[attr-defined]
    stand_in = None if fault == "no Triton" else module
    monkeypatch.setitem(sys.modules, "codiff_batch.networks.norm_kernel", stand_in)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO):
        assert gpu_layers.kernel_for.__wrapped__(torch.device("cpu")) is None
    assert len(caplog.messages) == 1


@pytest.mark.slow
def test_the_kernel_is_used_on_a_gpu_but_not_where_torch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def kernel(maps: torch.Tensor, *_: Any, silu: bool) -> torch.Tensor:
        used.append(silu)
        return maps

    monkeypatch.setattr(gpu_layers, "on_a_gpu", lambda maps: True)
    monkeypatch.setattr(gpu_layers, "kernel_for", lambda device: kernel)
    norm = LastGroupNorm(8, 32).requires_grad_(False)
    norm.silu = True
    maps = torch.randn(1, 32, 6, 8).contiguous(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(norm, backend="eager", fullgraph=True)(maps)
    assert not used
    assert torch.allclose(compiled, F.silu(F.group_norm(maps, 8)), atol=1e-5)
    norm(maps)
    assert used == [True]
