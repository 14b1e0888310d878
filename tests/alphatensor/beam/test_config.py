"""Settings of the beam: block sizes, and refused values."""

import jax
import pytest

from alphajax.alphatensor.beam.config import BeamConfig


@pytest.mark.parametrize(
    "device, samples, mutations, size",
    [
        ("cpu", 131_072, 0, 32),
        ("gpu", 131_072, 0, 2048),
        ("gpu", 8192, 0, 256),
        ("gpu", 131_072, 1024, 1024),
        ("tpu", 3072, 0, 32),
    ],
)
def test_block_size_depends_on_the_device(monkeypatch, device, samples, mutations, size):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert BeamConfig(samples=samples, mutations=mutations).block_size() == size


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(width=-1), "width: received -1"),
        (dict(samples=0), "samples: received 0"),
        (dict(samples=1000), "samples: received 1000; expected a multiple of 1024"),
        (dict(width=600, samples=1024), "expected at most half of samples, 512"),
        (dict(basis_samples=-1), "basis_samples: received -1"),
        (dict(mutations=1000), "mutations: received 1000; expected a multiple of 1024"),
        (dict(moves=0), "moves: received 0"),
        (dict(policy_temperature=0.0), "policy_temperature: received 0.0; expected a finite"),
        (dict(sampling_temperature=float("nan")), "sampling_temperature: received nan"),
        (dict(log_prob_weight=-1.0), "log_prob_weight: received -1.0"),
        (dict(basis_density=1.5), "basis_density: received 1.5"),
    ],
)
def test_invalid_values_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        BeamConfig(**config)
