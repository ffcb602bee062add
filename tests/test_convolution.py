"""The networks' convolution and its gradient, against `lax.conv_general_dilated` and jax's own gradient of that."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.priors.convolution import Conv, correlate

BATCHES = {"one": (1,), "frames": (3,), "vmapped": (3, 1), "vmapped frames": (2, 3)}


def key(seed: int) -> jax.Array:
    return jax.random.key(seed, impl="rbg")  # compiles faster than the default


def xlas(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def draw(batch: tuple[int, ...], size: int, c_out: int = 5) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Frames wider than high and by default other channels out than in: no two axes can be taken for each other."""
    x, dy = (jax.random.normal(key(k), (*batch, 7, 9, channels)) for k, channels in enumerate((4, c_out)))
    return x, jax.random.normal(key(2), (size, size, 4, c_out)), dy


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_gradient_of_a_correlation_is_xlas_own(size, batch, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # each has a branch of its own
    x, kernel, dy = draw(batch, size)

    def of(function):
        every = jax.vmap(function, (0, None)) if len(batch) > 1 else function

        @jax.jit
        def value_and_gradients(x, kernel, dy):
            y, pull_back = jax.vjp(every, x, kernel)
            return y, *pull_back(dy)

        return value_and_gradients(x, kernel, dy)

    (y, *ours), (expected, *theirs) = of(correlate), of(xlas)
    np.testing.assert_array_equal(y, expected)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def descend(function, x: jax.Array, kernel: jax.Array, steps: int = 3) -> jax.Array:
    """Steps down |f(sin f(x))|^2 in a scan, as the samplers go down through a network."""
    every = jax.vmap(function, (0, None)) if x.ndim > 4 else function

    def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        y, pull_back = jax.vjp(lambda x: every(jnp.sin(every(x, kernel)), kernel), x)
        return x - 1e-3 * pull_back(y)[0], None

    return jax.lax.scan(step, x, None, length=steps)[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_the_gradient_within_a_loop_is_xlas_own(size, batch):
    x, kernel, _ = draw(batch, size, c_out=4)
    ours, theirs = (jax.jit(descend, static_argnums=0)(function, x, kernel) for function in (correlate, xlas))
    assert jnp.abs(ours - x).max() > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU compiler")
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_the_way_back_is_made_of_convolutions_as_the_way_there(batch):
    """What keeps the gradient fast in a loop: a convolution of another kind is one that XLA does in plain loops."""
    x, kernel, _ = draw(batch, 3, c_out=4)

    def kinds(function) -> tuple[set[str], int]:
        text = jax.jit(function).lower(x, kernel).compile().as_text()
        assert text is not None
        found = re.findall(r" convolution\(.*?(window=\{.*?\}, dim_labels=[\w>-]+)", text)
        return set(found), len(found)

    def there(x, kernel):
        every = jax.vmap(correlate, (0, None)) if x.ndim > 4 else correlate
        return jax.lax.scan(lambda x, _: (every(jnp.sin(every(x, kernel)), kernel), None), x, None, length=3)[0]

    expected, forward = kinds(there)
    if forward != 2:
        pytest.skip("this XLA compiles convolutions to something else")
    assert kinds(lambda x, kernel: descend(correlate, x, kernel)) == (expected, 4)


def test_a_layer_of_random_weights_keeps_the_variance():
    layer = Conv.random(16, 400, key=key(0))
    y = layer(jax.random.normal(key(1), (2, 20, 20, 16)))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(jnp.std(y), 1, rtol=0.03)
    assert not Conv.random(4, 4, key=key(0), gain=0.0).kernel.any()
