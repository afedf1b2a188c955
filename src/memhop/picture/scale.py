"""The scale of the bars and numbers of a picture."""

import math
from typing import NamedTuple


class Scale(NamedTuple):
    """How weights are shown.

    Attributes:
        full: the weight of a full bar: 1, or the largest weight if that is over 1 or below 0.25.
        unit: numbers are multiples of this: 1 if two decimals suffice.
    """

    full: float
    unit: float

    @classmethod
    def of(cls, peak: float) -> "Scale":
        """Return the scale for weights of at most ``peak`` in size.

        >>> Scale.of(0.75), Scale.of(0.05)
        (Scale(full=1.0, unit=1.0), Scale(full=0.05, unit=0.01))
        """
        # a softmax in half precision may exceed 1 slightly; the peak may be 0
        return cls(
            full=1.0 if 0.25 <= peak <= 1.005 or not peak else peak,
            unit=1.0 if 0.1 <= peak < 1000 or not peak else power_of_ten(peak),
        )

    def format(self, weight: float) -> str:
        """Return a weight with two decimals, in multiples of ``unit``."""
        return f"{weight / self.unit:.2f}"

    def legend(self, mark: str = "bar") -> list[str]:
        """Return the lines that explain the scale of bars, or of other marks; usually none."""
        full = [f"full {mark} = {self.full:.3g}"] if self.full != 1 else []
        return full + ([f"numbers x {self.unit:g}"] if self.unit != 1 else [])


def power_of_ten(number: float) -> float:
    """Return the power of ten at or below a number, or the smallest number above zero.

    >>> power_of_ten(0.05), power_of_ten(5e-324)
    (0.01, 5e-324)
    """
    return max(10.0 ** math.floor(math.log10(number)), math.ulp(0.0))
