"""What of the ComfyUI pack's interruption no clock can tell apart, with ComfyUI's own modules replaced by stand-ins."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import torch

NODES = Path(__file__).resolve().parents[2] / "plugins/comfyui/nodes"


class Interrupted(Exception):
    """As ComfyUI's InterruptProcessingException."""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it as the user presses *Cancel*."""
    pressed: list[bool] = []

    def throw() -> None:
        if pressed:
            raise Interrupted

    comfy = MagicMock()
    comfy.model_management.throw_exception_if_processing_interrupted = throw
    replaced = {"comfy": comfy, "comfy.model_management": comfy.model_management, "comfy.utils": comfy.utils}
    for name, module in {**replaced, "comfy_api": MagicMock(), "comfy_api.latest": MagicMock()}.items():
        monkeypatch.setitem(sys.modules, name, module)
    pack = ModuleType("pack")
    pack.__path__ = [str(NODES)]
    monkeypatch.setitem(sys.modules, "pack", pack)
    return lambda: pressed.append(True)


@pytest.fixture
def running(interrupt: Callable[[], None]) -> Iterator[ModuleType]:
    yield importlib.import_module("pack.running")
    for name in ("pack.bridge", "pack.running"):
        del sys.modules[name]


def test_a_network_stops_between_two_of_its_layers(running: ModuleType, interrupt: Callable[[], None]) -> None:
    ran: list[int] = []

    class Layer(torch.nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            ran.append(self.number)
            if self.number == 1:
                interrupt()
            return values

    network = running.interruptible(torch.nn.Sequential(*(Layer(number) for number in range(4))))
    with pytest.raises(Interrupted):
        network(torch.zeros(1))
    assert ran == [0, 1]


def test_progress_ends_the_work_after_a_tile(running: ModuleType, interrupt: Callable[[], None]) -> None:
    show = running.progress_bar((1, 3))
    show(1, 4)
    interrupt()
    with pytest.raises(Interrupted):
        show(2, 4)
    bar = sys.modules["comfy.utils"].ProgressBar.return_value
    assert [call.args for call in bar.update_absolute.call_args_list] == [(5, 12)]
