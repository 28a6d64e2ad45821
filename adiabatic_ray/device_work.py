"""What a GPU needs to be kept busy: inputs that arrive without waiting, and steps that are launched as a whole.

A step of E5-small in a pack is some 3,000 kernels of a few microseconds: launched one by one from Python they leave a
large GPU idle most of the time. A CUDA graph launches them at once. It replays what was captured, kernels and
addresses, so everything that differs from step to step must lie in tensors that are written into the same place.
"""

from __future__ import annotations

from collections.abc import Callable

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


class GraphedStep:
    """A step, launched as a whole once its shapes are known."""

    def __init__(self, step: Step) -> None:
        """Wrap a step.

        Args:
            step: takes tensors on the GPU and returns one; reads nothing back from the device.
        """
        self._step = step
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._num_seen: dict[tuple[torch.Size, ...], int] = {}
        self._graphs: dict[
            tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...], torch.Tensor]
        ] = {}

    def forget(self) -> None:
        """Drop what was captured: the step works on other tensors from now on."""
        self._num_seen.clear()
        self._graphs.clear()

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run the step."""
        shapes = tuple(one.shape for one in inputs)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            if self._num_seen.get(shapes, 0) < _STEPS_BEFORE_CAPTURE:
                self._num_seen[shapes] = self._num_seen.get(shapes, 0) + 1
                output = self._step(*inputs)
            else:
                if shapes not in self._graphs:
                    self._graphs[shapes] = self._captured(inputs)
                graph, places, result = self._graphs[shapes]
                for place, one in zip(places, inputs, strict=True):
                    place.copy_(one, non_blocking=True)
                graph.replay()
                output = result.clone()
        for one in inputs:
            one.record_stream(self._stream)
        torch.cuda.current_stream().wait_stream(self._stream)
        return output

    def _captured(
        self, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...], torch.Tensor]:
        places = tuple(one.clone() for one in inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            result = self._step(*places)
        return graph, places, result
