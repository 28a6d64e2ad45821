"""What a GPU needs to be kept busy: inputs that arrive without waiting, and steps that are launched as a whole.

A step of E5-small in a pack is some 3,000 kernels of a few microseconds: launched one by one from Python they leave a
large GPU idle most of the time. A CUDA graph launches them at once. It replays what was captured, kernels and
addresses, so everything that differs from step to step must lie in tensors that are written into the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Step = Callable[..., torch.Tensor]
_STEPS_BEFORE_CAPTURE = 3
"""Steps of a shape that are launched one by one first: libraries choose their kernels and make room in them."""


def to_device(array: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device; on a GPU the copy does not wait for what runs there."""
    tensor = torch.as_tensor(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class GraphedSteps:
    """Steps that are launched as a whole once their shapes are known.

    Nothing that a step allocates outlives it, so the graphs share one pool of memory: each is replayed whole, and its
    result is copied out before the next one runs. The step is handed to every call and not kept: whoever owns these
    graphs is freed with its last reference, its memory on the device with it.
    """

    def __init__(self) -> None:
        """Nothing is captured yet."""
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.num_captures = 0
        self.num_replays = 0
        self.forget()

    def forget(self) -> None:
        """Drop what was captured: the step works on other tensors from now on."""
        self._num_seen: dict[tuple[torch.Size, ...], int] = {}
        self._graphs: dict[tuple[torch.Size, ...], _Captured] = {}
        self._pool = torch.cuda.graph_pool_handle()  # a pool dies with its last graph, its name can't be used again

    def run(self, step: Step, *inputs: torch.Tensor) -> torch.Tensor:
        """Run a step.

        Args:
            step: takes tensors on the GPU and returns one; reads nothing back from the device. The same one in every
                call, until `forget`.
            inputs: may be freed when the call returns: whatever takes their memory on the caller's stream comes later.
        """
        shapes = tuple(one.shape for one in inputs)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            if self._num_seen.get(shapes, 0) < _STEPS_BEFORE_CAPTURE:
                self._num_seen[shapes] = self._num_seen.get(shapes, 0) + 1
                output = step(*inputs)
            else:
                if shapes not in self._graphs:
                    self._graphs[shapes] = self._capture(step, inputs)
                output = self._graphs[shapes].replay(inputs)
                self.num_replays += 1
        torch.cuda.current_stream().wait_stream(self._stream)
        return output

    def _capture(self, step: Step, inputs: tuple[torch.Tensor, ...]) -> _Captured:
        places = tuple(one.clone() for one in inputs)
        graph = torch.cuda.CUDAGraph()
        # Another thread may wait for the device meanwhile: that is no business of this capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = step(*places)
        self.num_captures += 1
        return _Captured(graph, places, result)


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    places: tuple[torch.Tensor, ...]
    """Where the graph reads its inputs."""
    result: torch.Tensor

    def replay(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Run it on other inputs; the result is a copy."""
        for place, one in zip(self.places, inputs, strict=True):
            place.copy_(one, non_blocking=True)
        self.graph.replay()
        return self.result.clone()
