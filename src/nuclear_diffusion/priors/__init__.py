"""Anything with `denoise(x, sigma)`: the protocol, the shipped network, checkpoints, zea's presets."""
