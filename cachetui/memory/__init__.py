"""What a model needs: weights, KV cache, training, against this machine or a card. From headers and config alone.

headers reads tensors, sources what lies on disk, weights counts bytes by mode, cache the KV cache, training QLoRA,
shapes the tensors that a config stands for, catalogue what is not on disk, devices what there is to run on,
estimating puts it together, planner sums the disk that a project needs. No torch, no network, no weights read.
"""

from __future__ import annotations

from cachetui.memory.estimating import estimate
from cachetui.memory.model import Ask, Device, Estimate, Line, Mode, Verdict
from cachetui.memory.sources import Facts, NotAModel, facts_of

__all__ = ["Ask", "Device", "Estimate", "Facts", "Line", "Mode", "NotAModel", "Verdict", "estimate", "facts_of"]
