"""Whether a forward pass is the second one of an activation checkpoint."""

from __future__ import annotations

import torch


def recomputing() -> bool:
    """True while autograd runs a forward pass again inside a backward pass, as ``torch.utils.checkpoint`` does.

    Layers with running state skip their update then, so that a checkpointed step counts once. Under
    ``torch.compile`` recomputation happens in the compiled graph, after state was handled, so the answer is False.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
