"""Load CODiff Model: a model folder, in the hands of ComfyUI's memory management."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch
from comfy_api.latest import io

from .bridge import CATEGORY, MODEL, LoadedModel, aliases, engine, in_its_own_words
from .offering import precision
from .running import interruptible

FOLDER = "codiff"

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER), is_default=True)


def model_folders() -> dict[str, Path]:
    """Models by name: ComfyUI's model folders first, then what codiff-batch itself has."""
    found: dict[str, Path] = {}
    try:
        engine()
        from codiff_batch.models.catalogue import available

        found |= {entry.name: entry.path for entry in available() if entry.path is not None}
    except RuntimeError:
        found["compact"] = Path()  # So that the node can be placed; running it says what is missing.
    for root in folder_paths.get_folder_paths(FOLDER):
        found |= {card.parent.name: card.parent for card in sorted(Path(root).glob("*/model.json"))}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "compact", item[0])))


def known(model: str) -> Path:
    """The folder of a model.

    Raises:
        ValueError: there is no model of that name; lists those that there are.
    """
    folders = model_folders()
    if model not in folders:
        raise ValueError(f"There is no model {model!r}; there are: {', '.join(folders)}.")
    return folders[model]


class LoadModel(io.ComfyNode):
    """A model by name."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffLoadModel",
            display_name="Load CODiff Model",
            category=CATEGORY,
            description=(
                "Loads a restoration model. 'compact' comes with codiff-batch and needs no download; others are "
                "folders with a model.json in models/codiff."
            ),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(model_folders()),
                    tooltip="A model folder of models/codiff (or of extra_model_paths.yaml), or one of codiff-batch.",
                ),
                precision(),
            ],
            outputs=[
                MODEL.Output(display_name="model", tooltip="CaVE, which judges, and the generator, which restores.")
            ],
            **aliases("jpeg model", "deblocking model"),
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        """Refuse an unknown name before anything runs; ComfyUI 0.3.75 does not look into a V3 list itself.

        A linked input is None until the graph runs.
        """
        if model is None:
            return True
        try:
            known(model)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, model: str, precision: str = "auto") -> io.NodeOutput:
        """Load onto the CPU; the nodes that use it ask ComfyUI to bring it to the device."""
        with in_its_own_words():
            from codiff_batch.models.loading import load_networks

            card, networks = load_networks(known(model))
        module = interruptible(torch.nn.ModuleDict(networks._asdict()))
        kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        patcher = kind(
            module,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
        return io.NodeOutput(LoadedModel(card, patcher, precision))
