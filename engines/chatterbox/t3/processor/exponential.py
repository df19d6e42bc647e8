"""e to the x."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.chatterbox.t3.processor.compiled import compiled
from engines.chatterbox.t3.processor.instructions import bits_as_float

ONE, HALF, NEAR = np.float32(1), np.float32(0.5), np.float32(127)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
E0, E1, E2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E3, E4, E5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
LOWEST, HIGHEST = np.float32(-87), np.float32(88)


@compiled
def exponential(x: Any) -> Any:
    """e to the x, float32, within an ulp or two; in one piece that is computed for many at once (Cephes)."""
    x = min(max(x, LOWEST), HIGHEST)
    whole = np.floor(x * LOG2_E + HALF)
    x = x - whole * LN2_HIGH - whole * LN2_LOW
    series = (((((E0 * x + E1) * x + E2) * x + E3) * x + E4) * x + E5) * x * x + x + ONE
    return series * bits_as_float(np.int32(np.int32(whole + NEAR) << np.int32(23)))
