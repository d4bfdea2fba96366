"""Builds networks from a model folder. Weights are safetensors only; nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from codiff_batch.errors import CannotInstall, ModelDamaged
from codiff_batch.models.card import ModelCard, read_card, sha256_of, verify
from codiff_batch.networks.compact_cave import CompactCaVE
from codiff_batch.networks.compact_unet import CompactUNet, PixelAutoencoder
from codiff_batch.networks.one_step import OneStepGenerator
from codiff_batch.networks.texture import TexturedGenerator

WEIGHTS = "weights.safetensors"


class Networks(NamedTuple):
    """A model's two parts, in evaluation mode.

    ``cave(image)`` gives (tokens (B, K, D), QF (B,)); ``generator(image, tokens, **condition)`` gives an image.
    """

    cave: nn.Module
    generator: nn.Module

    def weights(self) -> dict[str, Tensor]:
        """All weights, by their names in a model folder's files."""
        parts = self._asdict().items()
        return {f"{part}.{key}": value for part, module in parts for key, value in module.state_dict().items()}


def build_compact(sizes: Mapping[str, Any]) -> Networks:
    """The compact model: CaVE over DCT statistics and a small UNet over folded pixels; a second one for texture.

    Args:
        sizes: of the card. ``texture_widths`` are the second UNet's; without them it is as wide as the first. With
            ``texture_refines`` it sees the first one's correction.
    """
    channels = 3 * sizes["factor"] ** 2

    def generator(widths: Sequence[int], seen: int = 0) -> OneStepGenerator:
        autoencoder = PixelAutoencoder(sizes["factor"])
        unet = CompactUNet(channels, widths, sizes["depths"], sizes["context"], seen)
        return OneStepGenerator(autoencoder, unet, nn.Linear(sizes["token_width"], sizes["context"]))

    cave = CompactCaVE(sizes["cave_width"], sizes["cave_depth"], sizes["token_width"])
    if not sizes.get("texture", False):
        return Networks(cave, generator(sizes["widths"]))
    widths = sizes.get("texture_widths", sizes["widths"])
    grid = sizes["factor"] * 2 ** (len(widths) - 1)
    refines = sizes.get("texture_refines", False)
    texture = generator(widths, seen=channels if refines else 0)
    return Networks(cave, TexturedGenerator(generator(sizes["widths"]), texture, grid, refines=refines))


def build_stable_diffusion(sizes: Mapping[str, Any]) -> Networks:
    """The paper's model: the authors' CaVE, and Stable Diffusion's VAE and UNet with all adapters merged."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from codiff_batch.networks.cave import CaVE
    from codiff_batch.networks.stable_diffusion import DenoisingUNet, LatentAutoencoder

    cave = CaVE(sizes["cave_widths"], sizes["cave_depth"])
    vae = AutoencoderKL.from_config(dict(sizes["vae"]))
    unet = UNet2DConditionModel.from_config(dict(sizes["unet"]))
    projector = nn.Linear(sizes["cave_widths"][-1], unet.config["cross_attention_dim"])
    return Networks(cave, OneStepGenerator(LatentAutoencoder(vae), DenoisingUNet(unet), projector))


def _specialize(networks: Networks) -> None:
    """Fold and fuse what is constant in the one step; values change only by rounding."""
    from codiff_batch.networks.gpu_layers import suit_gpus
    from codiff_batch.networks.stable_diffusion import fold_timestep

    unet = networks.generator.unet.unet  # type: ignore[union-attr]
    fold_timestep(unet)
    unet.fuse_qkv_projections()  # type: ignore[union-attr,operator]
    suit_gpus(networks.generator)


class Architecture(NamedTuple):
    """How to build the networks of one kind of model."""

    build: Callable[[Mapping[str, Any]], Networks]
    """From the card's sizes, with fresh weights."""
    specialize: Callable[[Networks], None] = lambda networks: None
    """What to do once the weights are in."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "compact": Architecture(build_compact),
    "stable-diffusion": Architecture(build_stable_diffusion, _specialize),
}
"""Architectures by the name in the card."""


def _architecture(card: ModelCard) -> Architecture:
    if card.architecture not in ARCHITECTURES:
        raise ModelDamaged(f"model {card.name!r}: architecture {card.architecture!r} is unknown to this version")
    return ARCHITECTURES[card.architecture]


def build(card: ModelCard) -> Networks:
    """Networks of a card's architecture with fresh weights.

    Raises:
        ModelDamaged: the architecture or one of its sizes is unknown to this version.
    """
    architecture = _architecture(card)
    try:
        return architecture.build(card.sizes)
    except Exception as error:  # Libraries raise anything on settings that they do not know.
        words = " ".join(repr(error).split())[:300]
        raise ModelDamaged(f"model {card.name!r}: sizes do not fit its architecture: {words}") from error


class _WithoutInitialValues(TorchFunctionMode):
    """Leaves weights as they are, as those of the files take their place.

    Also without memory torch would take a while, and warn of sizes of zero.
    """

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        """Do what torch was asked to, or nothing if that is to initialise a tensor."""
        named = named or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else named["tensor"]
        return function(*arguments, **named)


def _build_without_memory(card: ModelCard, size: int) -> Networks:
    """Build the networks without allocating their weights, which are to come from files of ``size`` bytes.

    Raises:
        ModelDamaged: they need more, or sizes do not fit the architecture.
    """
    with torch.device("meta"), _WithoutInitialValues():
        networks = build(card)
    if sum(weight.numel() for weight in networks.weights().values()) > size:
        raise ModelDamaged(f"model {card.name!r}: its files are too small for its sizes")
    return networks


def load_networks(folder: Path) -> tuple[ModelCard, Networks]:
    """Load a model folder onto the CPU, after checking every checksum.

    Weights are 32-bit floats, or stay as stored where the card allows half precision.

    Raises:
        ModelNotFound, ModelDamaged: the folder is not a usable model.
    """
    card = read_card(folder)
    verify(card, folder)
    architecture = _architecture(card)
    files = card.paths(folder).values()
    networks = _build_without_memory(card, sum(file.stat().st_size for file in files))
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelDamaged(f"{file}: {(str(error) or repr(error)).splitlines()[0]}") from error
    for part, module in networks._asdict().items():
        own = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        if not card.half_precision:
            own = {key: value.float() for key, value in own.items()}
        try:
            module.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise ModelDamaged(f"{', '.join(map(str, files))}: {str(error).splitlines()[0]}") from error
        module.eval().requires_grad_(False)
    architecture.specialize(networks)
    return card, networks


def save_weights(
    networks: Networks,
    folder: Path,
    dtype: torch.dtype = torch.float16,
    files: Mapping[str, str] = MappingProxyType({WEIGHTS: ""}),
) -> dict[str, str]:
    """Write the networks' weights into a model folder; returns the card's ``files`` entry.

    Args:
        dtype: of the stored weights; integers stay as they are.
        files: which weights go into which file, by the prefix of their names; the first match counts.

    Raises:
        CannotInstall: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for key, value in networks.weights().items()
    }
    written = {}
    for name, beginning in files.items():
        chosen = {key: weights.pop(key) for key in list(weights) if key.startswith(beginning)}
        try:
            save_file(chosen, folder / name)
        except SafetensorError as error:  # The disk is full, for instance.
            raise CannotInstall(f"{folder / name} cannot be written: {str(error).splitlines()[0]}") from error
        (folder / name).chmod(0o644)
        written[name] = sha256_of(folder / name)
    return written
