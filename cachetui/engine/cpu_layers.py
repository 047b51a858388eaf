"""What quantized layers of bitsandbytes 0.50 cannot do on a CPU, and how they can after all."""

from __future__ import annotations

from functools import cache
from typing import Any

_ROWS, _COLUMNS = 32, 64


def mend(model: Any) -> None:
    """Make the quantized layers of a model on the CPU take every shape. Weights stay as they are.

    4 bit: where the CPU has AVX512-BF16 the first forward repacks the weights, and fails for sizes that its blocks do
    not fill (functional.py, _convert_weight_packed_for_cpu): such layers are computed without.
    8 bit: inputs with more than three dimensions, as in DeepSeek's attention, are not flattened (autograd/
    _functions.py, MatMul8bitLt.forward), and backends/default/ops.py wants rows.
    """
    import bitsandbytes

    flat = _flat()
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            if module.out_features % _ROWS or module.in_features % _COLUMNS:
                module.support_avx512bf16_for_cpu = False
        elif type(module) is bitsandbytes.nn.Linear8bitLt:
            module.__class__ = flat


@cache
def _flat() -> Any:
    import bitsandbytes

    class Linear8bitLt(bitsandbytes.nn.Linear8bitLt):
        """Rows only."""

        def forward(self, x: Any) -> Any:
            """The same, for inputs of any number of dimensions."""
            if x.dim() <= 3:
                return super().forward(x)
            return super().forward(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    return Linear8bitLt
