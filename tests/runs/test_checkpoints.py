"""Checkpoints: whole or absent, the same bits back, and never another run's."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.runs.checkpoints import CheckpointError, Checkpoints

# orbax leaves coroutines behind when a save or restore fails, which Python reports.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def state():
    return {
        "key": jax.random.key(3, impl="unsafe_rbg"),
        "empty": jnp.zeros((4, 0, 3), jnp.int8),
        "parameters": jnp.arange(6.0).reshape(2, 3),
        "step": jnp.int32(7),
    }


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def same(a, b):
    raw = [
        [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in y]
        for y in (jax.tree.leaves(a), jax.tree.leaves(b))
    ]
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(*raw, strict=True))


def test_the_newest_comes_back_bit_for_bit(tmp_path, state):
    saved = Checkpoints(tmp_path, {"seed": 1})
    for iteration in (1, 2, 3):
        saved.save(iteration, state | {"step": jnp.int32(iteration)})
    saved.close()
    iteration, back = Checkpoints(tmp_path, {"seed": 1}).restore(abstract(state))
    assert iteration == 3
    assert same(back, state | {"step": jnp.int32(3)})
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_another_runs_checkpoint_is_refused_by_name(tmp_path, state):
    Checkpoints(tmp_path, {"seed": 1, "devices": 2}).save(1, state)
    with pytest.raises(CheckpointError, match="its devices is 2, this run's is 4"):
        Checkpoints(tmp_path, {"seed": 1, "devices": 4}).restore(abstract(state))


def test_nothing_to_resume(tmp_path, state):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        Checkpoints(tmp_path, {}).restore(abstract(state))


def test_a_half_written_checkpoint_does_not_count(tmp_path, state):
    Checkpoints(tmp_path, {}).save(1, state)
    # What a killed process leaves: a folder that was never renamed to its final name.
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp-5")
    shutil.rmtree(tmp_path / "2.orbax-checkpoint-tmp-5" / "state")
    iteration, back = Checkpoints(tmp_path, {}).restore(abstract(state))
    assert iteration == 1
    assert same(back, state)


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, state):
    Checkpoints(tmp_path, {}).save(1, state)
    for file in (tmp_path / "1" / "state").rglob("*"):
        if file.is_file() and "ocdbt" in str(file):
            file.write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoints(tmp_path, {}).restore(abstract(state))


def test_a_failed_save_leaves_the_one_before(tmp_path, state):
    saved = Checkpoints(tmp_path, {})
    saved.save(1, state)
    with pytest.raises(CheckpointError, match="could not save checkpoint 2"):
        saved.save(2, state | {"step": object()})
    assert Checkpoints(tmp_path, {}).restore(abstract(state))[0] == 1


def test_a_folder_that_cannot_be_made(tmp_path, state):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write checkpoints"):
        Checkpoints(tmp_path / "file" / "checkpoints", {})


def test_a_save_that_the_disk_refuses_leaves_the_one_before(tmp_path, state):
    resource = pytest.importorskip("resource")
    saved = Checkpoints(tmp_path, {})
    saved.save(1, state)
    # No file may grow past 64 KiB: a write fails in mid-save, as on a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = jnp.asarray(np.random.default_rng(0).integers(0, 256, 2**20, np.uint8))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="could not save checkpoint 2"):
            saved.save(2, state | {"parameters": noise})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Checkpoints(tmp_path, {}).restore(abstract(state))[0] == 1


def test_no_space_is_said_in_those_words(tmp_path, state, monkeypatch):
    saved = Checkpoints(tmp_path, {})

    def full(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: ... No space left on device [os_error_code='28']")

    import orbax.checkpoint as ocp

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(CheckpointError, match="no space left on the disk"):
        saved.save(1, state)
