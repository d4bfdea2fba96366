"""A machine with GPUs that has none: torch.cuda's functions refuse what the real ones refuse, and copies take time.

Tensors on a GPU are the processor's own under another name, so the real runner computes real values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.cuda._utils import _get_device_index
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_TAKES_MEMORY = (torch.Tensor.__matmul__, torch.Tensor.round, torch.Tensor.reshape)


class Pinned(torch.Tensor):
    """Memory of the host from which a GPU copies by itself."""


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    index: int | None = None
    kind = "cuda"

    @property
    def device(self) -> torch.device:
        return torch.device(self.kind, self.index)


class Stream:
    """Work that is done when somebody waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.waiting: list[Callable[[], object]] = []

    def wait_stream(self, other: Stream) -> None:
        other.finish()

    def finish(self, count: int | None = None) -> None:
        count = len(self.waiting) if count is None else count
        work, self.waiting = self.waiting[:count], self.waiting[count:]
        for step in work:
            step()


class Graph:
    """``torch.cuda.CUDAGraph``: the operations on the very tensors that they were recorded with."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def replay(self) -> None:
        assert self.steps, "replayed before it was recorded"
        self.replays += 1
        for function, args, kwargs, made in self.steps:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)


class Recording(TorchDispatchMode):
    """``torch.cuda.graph``: while it lasts, nothing is computed that could be read afterwards."""

    def __init__(self, gpus: FakeGPUs, graph: Graph, stream: Stream, mode: str) -> None:
        super().__init__()
        assert mode == "thread_local", "other threads use the GPU meanwhile"
        assert stream.device.index == gpus.current, "a stream of another GPU"
        self.gpus, self.graph = gpus, graph

    def __enter__(self) -> Recording:
        if self.gpus.cannot_record:
            raise self.gpus.cannot_record
        self.gpus.recording = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.gpus.recording = False
        if error[0] is None:
            self.graph.steps[-1][-1].fill_(float("nan"))
            self.gpus.graphs.append(self.graph)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.graph.steps.append((func, args, kwargs or {}, made))
        return made


class FakeGPUs(TorchFunctionMode):
    """Two GPUs of 8 GB, entered as a context."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, kind: str = "cuda", free: int = 6 << 30) -> None:
        super().__init__()
        self.current, self.free, self.kind = 0, free, kind
        self.used: set[int] = set()
        """GPUs that got a context."""
        self.capability = [(8, 6), (9, 0)]
        self.log: list[str] = []
        """Copies to and from the GPUs as they were asked for and waited for."""
        self.held: list[tuple[Tensor, Stream]] = []
        """Tensors whose memory was kept for a stream."""
        self.fetched: list[tuple[torch.dtype, int]] = []
        """Kinds and numbers of what was copied to the host."""
        self.out_of_memory = False
        self.graphs: list[Graph] = []
        self.recording = False
        self.cannot_record: Exception | None = None
        self.chosen: dict[int, Stream] = {}
        self.streams = [Stream(torch.device("cuda", index)) for index in range(2)]
        self._kinds = [
            type(f"OnGpu{index}", (OnGpu,), {"index": index, "kind": kind, "record_stream": self._hold})
            for index in range(2)
        ]
        gpus = self

        class Current:
            def __init__(self, device: Any) -> None:
                self.index = _get_device_index(device, optional=True)

            def __enter__(self) -> None:
                self.before, gpus.current = gpus.current, self.index

            def __exit__(self, *_: object) -> None:
                gpus.current = self.before

        class Event:
            stream: Stream | None = None

            def __init__(self, *, blocking: bool = False) -> None:
                assert blocking, "a thread that waits would keep a core busy"

            def record(self, stream: Stream | None = None) -> None:
                self.stream = stream or gpus.stream(None)
                gpus.used.add(self.stream.device.index)
                self.count = len(self.stream.waiting)
                gpus.log.append("queued")

            def synchronize(self) -> None:
                gpus.log.append("wait")
                assert self.stream is not None
                self.stream.finish(self.count)

        class Beside:
            """``torch.cuda.stream``."""

            def __init__(self, stream: Stream | None) -> None:
                self.chosen = stream

            def __enter__(self) -> None:
                self.before = dict(gpus.chosen)
                if self.chosen is not None:
                    gpus.chosen[self.chosen.device.index] = self.chosen

            def __exit__(self, *_: object) -> None:
                gpus.chosen = self.before

        cuda = {
            "Stream": lambda device: Stream(torch.device("cuda", _get_device_index(device))),
            "stream": Beside,
            "is_available": lambda: kind == "cuda",
            "device_count": lambda: 2,
            "get_device_capability": lambda device=None: self.capability[_get_device_index(device, optional=True)],
            "current_device": lambda: self.current,
            "mem_get_info": lambda device=None: (self.free + 0 * _get_device_index(device, optional=True), 8 << 30),
            "get_per_process_memory_fraction": lambda device=None: 1.0 + 0 * self._index(device),
            "memory_reserved": lambda device=None: 0,
            "memory_allocated": lambda device=None: 0,
            "empty_cache": lambda: None,
            "current_stream": self.stream,
            "device": Current,
            "Event": Event,
            "CUDAGraph": Graph,
            "graph_pool_handle": lambda: (0, 1),
            "graph": lambda graph, pool, stream, capture_error_mode: Recording(self, graph, stream, capture_error_mode),
            "synchronize": lambda: [stream.finish() for stream in self.streams],
        }
        for name, stand_in in cuda.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")

    def _index(self, device: Any) -> int:
        """As ``torch.cuda.get_per_process_memory_fraction`` looks at its argument."""
        return self.current if device is None else _get_device_index(device)

    def stream(self, device: Any) -> Stream:
        index = self.current if device is None else _get_device_index(device, optional=True)
        return self.chosen.get(index, self.streams[index])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if self.recording and func in (torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.cpu):
            raise RuntimeError("operation not permitted when stream is capturing")
        if self.out_of_memory and func in _TAKES_MEMORY and isinstance(args[0], OnGpu):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if func is torch.empty and kwargs.pop("pin_memory", False):
            self.used.add(self.current)
            return func(*args, **kwargs).as_subclass(Pinned)
        if func in (torch.zeros, torch.empty, torch.arange) and (place := _place((), kwargs)) is not None:
            kwargs.pop("device")
            return self.put(func(*args, **kwargs), place)
        if func is torch.Tensor.to and (place := _place(args, kwargs)) is not None:
            return self._moved(place, *args, **kwargs)
        if func is torch.Tensor.copy_ and kwargs.pop("non_blocking", False):
            target, source = args
            assert isinstance(target, Pinned)
            landing, values = (tensor.as_subclass(torch.Tensor).numpy() for tensor in (target, source))
            landing[...] = np.nan if landing.dtype.kind == "f" else 170
            self.log.append("start")
            self.fetched.append((source.dtype, source.numel()))
            self.stream(source.device).waiting.append(lambda: np.copyto(landing, values))
            return target
        if func in (torch.Tensor.tolist, torch.Tensor.item) and isinstance(args[0], OnGpu):
            self.log.append("wait")
            if self.kind == "cuda":
                self.stream(args[0].device).finish()
            return func(args[0].as_subclass(torch.Tensor))
        if func is torch.Tensor.cpu:
            for stream in self.streams:
                stream.finish()
            return args[0].as_subclass(torch.Tensor).clone()
        return func(*args, **kwargs)

    @property
    def _hold(self) -> Callable[[Tensor, Stream], None]:
        held = self.held
        return lambda tensor, stream: held.append((tensor, stream))

    def _moved(self, place: torch.device, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if kwargs.pop("non_blocking", False) and not (place.type == "cuda" and isinstance(tensor, Pinned)):
            raise AssertionError(f"a copy from pageable memory to {place} that nobody waits for")
        kwargs.pop("device", None)
        plain: Tensor = tensor.as_subclass(torch.Tensor)
        rest = [value for value in args if isinstance(value, torch.dtype)]
        moved = plain.to(*rest, **kwargs) if rest or kwargs else plain
        # Weights stay what they are: a parameter cannot be of another class.
        return moved if tensor.requires_grad or isinstance(tensor, torch.nn.Parameter) else self.put(moved, place)

    def put(self, tensor: Tensor, place: torch.device) -> Tensor:
        return tensor.clone().as_subclass(self._kinds[self.current if place.index is None else place.index])


def _place(args: Any, kwargs: Any) -> torch.device | None:
    """The GPU that ``Tensor.to`` is asked to copy to."""
    for value in (*args[1:], kwargs.get("device")):
        if isinstance(value, (str, torch.device)) and torch.device(value).type in ("cuda", "mps"):
            return torch.device(value)
    return None
