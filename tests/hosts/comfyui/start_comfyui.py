"""Starts ComfyUI's ``main.py`` in the folder ``$COMFYUI_DIR`` with a CPU build of torch.

torchvision's wheel on the index is made for CUDA; the two operators that its Python part asks for at import are
declared here, and none of ComfyUI's image nodes calls them.
"""

import os
import runpy
import sys

import torch

library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
folder = os.environ["COMFYUI_DIR"]
os.chdir(folder)
sys.path.insert(0, folder)
sys.argv[0] = f"{folder}/main.py"
runpy.run_path(sys.argv[0], run_name="__main__")
