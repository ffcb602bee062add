"""Diffusion priors, anything with `denoise(x, sigma)`: protocol, shipped network, checkpoints, zea presets."""
