"""Backbones: where they come from, which tensors are frozen, and towers that were tuned from them."""
