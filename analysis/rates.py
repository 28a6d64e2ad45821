"""How a learning rate is written."""

from __future__ import annotations


def format_rate(rate: float, num_digits: int = 2) -> str:
    """A learning rate in scientific notation without idle zeros, as 6.3e-08 or 1e-04; 0 for the control."""
    if rate == 0:
        return "0"
    digits, _, exponent = f"{rate:.{num_digits - 1}e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}e{exponent}"
