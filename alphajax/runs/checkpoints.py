"""Checkpoints of a RunState, through orbax.

A checkpoint is written beside its final place and renamed when it is complete, so a killed process
leaves a whole checkpoint or none.  The two newest are kept.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, or does not belong to this run."""


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
      folder: where they are; created if absent.
      stamp: JSON values (configuration, versions, devices), stored with each checkpoint and
        compared on restore.  With the same stamp a run continues bit for bit.

    Raises:
      CheckpointError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, stamp: dict[str, Any]):
        # Imported here: orbax takes seconds to load, and the first line should not wait for it.
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self.folder = Path(folder).absolute()
        self.stamp = stamp
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True, enable_async_checkpointing=False
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(f"cannot write checkpoints to {self.folder}: {error}") from error

    def latest(self) -> int | None:
        """The newest complete checkpoint's iteration, or None."""
        return self._manager.latest_step()

    def save(self, iteration: int, state: Any) -> None:
        """Writes the state as checkpoint `iteration`; returns when it is complete on disk.

        Args:
          iteration: number of the checkpoint.
          state: a pytree of arrays.

        Raises:
          CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
        """
        args = self._ocp.args
        try:
            self._manager.save(
                iteration,
                args=args.Composite(
                    state=args.StandardSave(_plain(state)), stamp=args.JsonSave(self.stamp)
                ),
            )
            self._manager.wait_until_finished()
        except Exception as error:  # orbax and tensorstore raise many types for a failed write
            raise CheckpointError(
                f"could not save checkpoint {iteration} in {self.folder} ({_brief(error)}); the run"
                " stops, and --resume continues from the last complete one when there is space"
            ) from error

    def restore(self, abstract: Any) -> tuple[int, Any]:
        """The newest checkpoint, in the shapes and shardings of `abstract`.

        Args:
          abstract: a pytree of `jax.ShapeDtypeStruct`s with shardings, as from `training.abstract`.

        Returns:
          Its iteration and the state.

        Raises:
          CheckpointError: there is none, it was written by another configuration, version or number
            of devices, or its files are damaged.
        """
        iteration = self.latest()
        if iteration is None:
            raise CheckpointError(f"{self.folder} holds no complete checkpoint: nothing to resume")
        args = self._ocp.args
        try:
            stamp = self._manager.restore(iteration, args=args.Composite(stamp=args.JsonRestore()))[
                "stamp"
            ]
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {iteration} in {self.folder} is damaged: {_brief(error)}"
            ) from error
        for name in sorted(set(stamp) | set(self.stamp)):
            if stamp.get(name) != self.stamp.get(name):
                raise CheckpointError(
                    f"checkpoint {iteration} in {self.folder} is of another run: its {name} is"
                    f" {stamp.get(name)!r}, this run's is {self.stamp.get(name)!r};"
                    " resume with the same configuration, or start a new run folder"
                )
        try:
            restored = self._manager.restore(
                iteration,
                args=args.Composite(state=args.StandardRestore(_plain_abstract(abstract))),
            )["state"]
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {iteration} in {self.folder} is damaged: {_brief(error)}"
            ) from error
        return iteration, _typed(restored, abstract)

    def close(self) -> None:
        """Releases orbax's threads."""
        self._manager.close()


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(state: Any) -> Any:
    """Typed keys as raw data; empty arrays, which tensorstore cannot hold, as one zero."""

    def convert(x):
        if _is_key(x):
            return jax.random.key_data(x)
        return x if x.size else np.zeros(1, x.dtype)

    return jax.tree.map(convert, state)


def _plain_abstract(abstract: Any) -> Any:
    def convert(x):
        if _is_key(x):
            data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(x.shape, x.dtype))
            return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=x.sharding)
        return x if x.size else np.zeros(1, x.dtype)

    return jax.tree.map(convert, abstract)


def _typed(restored: Any, abstract: Any) -> Any:
    def convert(x, like):
        if _is_key(like):
            impl = jax.random.key_impl(jnp.empty((), like.dtype))
            return jax.device_put(jax.random.wrap_key_data(x, impl=impl), like.sharding)
        if not like.size:
            return jax.device_put(np.zeros(like.shape, like.dtype), like.sharding)
        return x

    return jax.tree.map(convert, restored, abstract)


def _brief(error: BaseException) -> str:
    text = str(error).strip()
    if "No space left on device" in text:
        return "no space left on the disk"
    return text.splitlines()[0][:300] if text else type(error).__name__
