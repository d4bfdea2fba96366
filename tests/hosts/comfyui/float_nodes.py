"""Nodes for tests alone, in ComfyUI's older form: floats from a file and into one, as no node of ComfyUI's own does."""

import numpy as np
import torch


class Floats:
    """Gives what a .npy file holds."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"file": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, file):  # noqa: N802
        return float("nan")

    def run(self, file):
        return (torch.from_numpy(np.load(file)),)


class Keep:
    """Writes an image into a .npy file."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "tests", True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"image": ("IMAGE",), "file": ("STRING", {})}}

    def run(self, image, file):
        np.save(file, image.cpu().numpy())
        return {}


NODE_CLASS_MAPPINGS = {"TestFloats": Floats, "TestKeep": Keep}
