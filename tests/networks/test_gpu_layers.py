"""What replaces stock layers on a GPU gives their values; shown on a processor."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from codiff_batch.networks import gpu_layers
from codiff_batch.networks.gpu_layers import LastGroupNorm, attend_in_chunks, normalize_last, suit_gpus
from codiff_batch.networks.stable_diffusion import SD21_VAE


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


def test_a_vae_with_replaced_layers_gives_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
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
