"""The authors' checkpoints, turned into the weights of a model folder.

``cave.pth`` is CaVE's state dict; ``codiff.pkl`` holds LoRA adapters for Stable Diffusion 2.1-base and the projector.
Both are zip pickles of dicts, lists, strings, numbers and tensors, and are read as nothing else.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codiff_batch.errors import CannotInstall
from codiff_batch.files.opening import open_regular
from codiff_batch.models.downloads import check_base, refuse_web_page
from codiff_batch.models.loading import Networks
from codiff_batch.models.plain import check_settings
from codiff_batch.networks.cave import CaVE, DualCaVE
from codiff_batch.networks.one_step import OneStepGenerator
from codiff_batch.networks.stable_diffusion import DenoisingUNet, LatentAutoencoder

LORA_ALPHA = 8
"""peft's default, used by the authors: adapters of rank 16 are scaled by one half."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)

LARGEST_RANK = 1024
LARGEST_PICKLE = 64 << 20
"""Bytes of names and shapes; the authors' files have less than one megabyte of them."""

UNET_ADAPTERS = {
    "default_encoder": "unet_lora_encoder_modules",
    "default_decoder": "unet_lora_decoder_modules",
    "default_others": "unet_lora_others_modules",
}
VAE_ADAPTERS = {"default_encoder": "vae_lora_encoder_modules"}


_ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_in", "conv_out")
_ADAPTED_IN_UNET = (*_ADAPTED, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")


def unet_targets(unet: nn.Module) -> dict[str, list[str]]:
    """The modules of Stable Diffusion's UNet that the paper adapts, by the name of their adapter."""
    return {
        "default_encoder": _layers(unet, ("conv_in", "down_blocks"), _ADAPTED_IN_UNET),
        "default_decoder": _layers(unet, ("conv_out", "up_blocks"), _ADAPTED_IN_UNET),
        "default_others": _layers(unet, ("mid_block",), _ADAPTED_IN_UNET),
    }


def vae_targets(vae: nn.Module) -> dict[str, list[str]]:
    """The modules of the VAE's encoder that the paper adapts, by the name of their adapter."""
    return {"default_encoder": [*_layers(vae, ("encoder",), _ADAPTED), "quant_conv"]}


def _layers(network: nn.Module, parts: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    return [
        name
        for name, module in network.named_modules()
        if name.startswith(parts) and name.endswith(names) and isinstance(module, (nn.Conv2d, nn.Linear))
    ]


def import_networks(codiff: Path, cave: Path, base: Path) -> tuple[Networks, dict[str, Any]]:
    """Read the authors' two files and the base model.

    Args:
        codiff: ``codiff.pkl``.
        cave: ``cave.pth``.
        base: folder of Stable Diffusion 2.1-base in diffusers' layout.

    Returns:
        The networks with all adapters merged, and the card's ``sizes``.

    Raises:
        CannotInstall: a file is missing, of the wrong kind, or does not match the others.
    """
    check_base(base)
    embedder, sizes = _read_cave(cave)
    adapters = _read_adapters(codiff)
    unet, vae = load_base(base)
    _merge(unet, adapters, "state_dict_unet", UNET_ADAPTERS, "rank_unet", codiff)
    _merge(vae, adapters, "state_dict_vae", VAE_ADAPTERS, "rank_vae", codiff)
    weight = adapters["proj"].get("weight", torch.zeros(()))
    width = unet.config["cross_attention_dim"]
    if weight.shape != (width, sizes["cave_widths"][-1]):
        raise CannotInstall(f"{codiff} and {cave} do not belong together: their tokens differ in size")
    projector = nn.Linear(weight.shape[1], weight.shape[0])
    try:
        projector.load_state_dict(adapters["proj"])
    except RuntimeError as error:
        raise CannotInstall(f"{codiff}: {str(error).splitlines()[0]}") from error
    sizes |= {"unet": _own_settings(unet), "vae": _own_settings(vae)}
    return Networks(embedder, OneStepGenerator(LatentAutoencoder(vae), DenoisingUNet(unet), projector)), sizes


def _read_pickle(file: Path, expected: Collection[str]) -> dict[str, Any]:
    """Read a zip pickle of plain values and tensors.

    Raises:
        CannotInstall: it is something else, lacks an expected key, or would take more memory than it has bytes.
    """
    if not os.path.lexists(file):
        raise CannotInstall(f"{file} does not exist")
    refuse_web_page(file)
    _check_zip(file)
    try:
        values = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # A pickle can make its reader fail in any way.
        words = (str(error).splitlines() or [repr(error)])[0][:300]
        raise CannotInstall(f"{file} cannot be read as plain weights: {words}") from error
    if not isinstance(values, dict) or not set(expected) <= set(values):
        raise CannotInstall(f"{file} is a checkpoint of another model: it lacks {', '.join(sorted(expected))}")
    return values


def _read_adapters(file: Path) -> dict[str, Any]:
    """The authors' second file, with the type of every part checked.

    Raises:
        CannotInstall: it is something else.
    """
    states, ranks = ("state_dict_unet", "state_dict_vae", "proj"), ("rank_unet", "rank_vae")
    lists = (*UNET_ADAPTERS.values(), *VAE_ADAPTERS.values())
    values = _read_pickle(file, {*states, *ranks, *lists})
    for name in ranks:
        if type(values[name]) is not int or not 1 <= values[name] <= LARGEST_RANK:
            raise CannotInstall(f"{file}: {name} must be a number from 1 to {LARGEST_RANK}")
    for name in lists:
        if not isinstance(values[name], list) or not all(isinstance(module, str) for module in values[name]):
            raise CannotInstall(f"{file}: {name} must be a list of names")
    return {**values, **{name: _tensors(file, values[name]) for name in states}}


def _check_zip(file: Path) -> None:
    """Refuse archives that torch would not write: compressed ones can hold a thousand times their size.

    Raises:
        CannotInstall: with what is wrong.
    """
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            members, size = archive.infolist(), os.fstat(opened.fileno()).st_size
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise CannotInstall(f"{file} is not a checkpoint, or its download is incomplete") from error
    pickles = [member for member in members if member.filename.endswith(".pkl")]
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > size:
        raise CannotInstall(f"{file} is compressed; checkpoints never are")
    if sum(member.file_size for member in pickles) > LARGEST_PICKLE:
        raise CannotInstall(f"{file} is not a checkpoint of this model: it has far too many parts")


def _tensors(file: Path, values: object) -> dict[str, Tensor]:
    """Check that a state dict holds nothing but plain tensors whose numbers are in the file.

    Raises:
        CannotInstall: something else is in it.
    """
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise CannotInstall(f"{file} does not hold weights by name")
    for key, value in values.items():
        plain = type(value) in (Tensor, nn.Parameter) and value.device.type == "cpu" and value.dtype in DTYPES
        plain = plain and value.layout is torch.strided
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CannotInstall(f"{file}: {key[:100]!r} is not a plain tensor")
    return values


def _read_cave(file: Path) -> tuple[CaVE, dict[str, Any]]:
    """CaVE without its decoder, and its sizes."""
    known = {"m_head.weight", "m_down1.0.res.0.weight", "m_body_encoder.0.res.0.weight"}
    state = _tensors(file, _read_pickle(file, known))
    depth = len({key.split(".")[1] for key in state if key.startswith("m_body_encoder.")})
    try:
        widths = [state[name].shape[0] for name in ("m_head.weight", *(f"m_down{i}.{depth}.weight" for i in (1, 2, 3)))]
        check_settings({"widths": widths, "depth": depth})
        with torch.device("meta"):
            whole, used = DualCaVE(widths, depth), CaVE(widths, depth)
        whole.load_state_dict(state, assign=True)
        used.load_state_dict({name: whole.state_dict()[name] for name in used.state_dict()}, assign=True)
    except (LookupError, RuntimeError, ValueError) as error:
        raise CannotInstall(f"{file} is not CaVE's checkpoint: {str(error).splitlines()[0]}") from error
    return used.eval(), {"cave_widths": widths, "cave_depth": depth}


def load_base(base: Path) -> tuple[Any, Any]:
    """Stable Diffusion's UNet and VAE in 32-bit floats, from whichever of its files exist.

    Raises:
        CannotInstall: they cannot be loaded.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    loaded = []
    for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        names = {path.name for path in (base / part).glob("diffusion_pytorch_model*.safetensors")}
        plain = any("fp16" not in name for name in names)
        try:
            loaded.append(
                kind.from_pretrained(
                    base / part,
                    local_files_only=True,
                    use_safetensors=True,
                    torch_dtype=torch.float32,
                    variant=None if plain else "fp16",
                )
            )
        except Exception as error:  # Libraries raise anything on files that they do not know.
            words = (str(error).splitlines() or [repr(error)])[0][:300]
            raise CannotInstall(f"{base / part} cannot be loaded: {words}") from error
    return loaded[0].eval(), loaded[1].eval()


def _merge(
    module: Any, adapters: Mapping[str, Any], state: str, lists: Mapping[str, str], rank: str, file: Path
) -> None:
    """Put the adapters on a stock network, load them, and merge them into its weights.

    Raises:
        CannotInstall: some adapters in the file are unused, or needed ones are missing.
    """
    weights: Mapping[str, Tensor] = adapters[state]
    try:
        add_adapters(module, {name: adapters[key] for name, key in lists.items()}, adapters[rank])
        missing, unexpected = module.load_state_dict(dict(weights), strict=False)
    except Exception as error:  # peft raises many kinds of errors for unknown names.
        words = (str(error).splitlines() or [repr(error)])[0][:300]
        raise CannotInstall(f"{file} does not fit the base model: {words}") from error
    lacking = [key for key in missing if "lora" in key]
    if lacking or unexpected:
        named = (lacking or unexpected)[0]
        raise CannotInstall(f"{file} does not fit the base model: {named} is {'missing' if lacking else 'unknown'}")
    merge_adapters(module)


def add_adapters(module: Any, targets: Mapping[str, Sequence[str]], rank: int) -> None:
    """Add LoRA adapters to a diffusers network by the names of their modules, all of them active."""
    from peft import LoraConfig

    named = {name: modules for name, modules in targets.items() if modules}
    for name, modules in named.items():
        config = LoraConfig(r=rank, lora_alpha=LORA_ALPHA, init_lora_weights="gaussian", target_modules=list(modules))
        module.add_adapter(config, adapter_name=name)
    module.set_adapter(list(named))


def merge_adapters(module: nn.Module) -> None:
    """Merge LoRA's products into the weights they adapt and restore the plain layers, for peft over stock diffusers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, layer.get_base_layer())


def _own_settings(module: Any) -> dict[str, Any]:
    """A diffusers network's settings without diffusers' own notes."""
    return {name: value for name, value in module.config.items() if not name.startswith("_")}
