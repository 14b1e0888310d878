"""Speed of schemes on this device against `jnp.matmul`: Figure 5 of the AlphaTensor paper.

    python experiments/matmul_speed.py --sizes 1024 2048
    python experiments/matmul_speed.py --sizes 8192 10240 --dtype bfloat16 --schemes my.npz
    python experiments/matmul_speed.py --sizes 4096 --chain 3 --warm-ups 1    # on a laptop

Method of Fawzi et al. (2022): a trial is the mean time of one product in a chain; the speed-up is
the ratio of the medians over the trials. Here the methods take turns within each trial, so that a
machine that slows down slows all alike. The run folder holds config.json, result.json with every
time, and figures/speed.png with the paper's rows beside the measured ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import alphajax
from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes.files import load
from alphajax.alphatensor.schemes.matmul import matmul
from alphajax.alphatensor.schemes.timing import Bench, Product, make_matrices, run_chain
from alphajax.config import check_counts

# Figure 5 of the paper: speed-up in per cent over the standard multiplication, float32.
PAPER_SIZES = (8192, 10240, 12288, 14336, 16384, 18432, 20480)
PAPER = {
    "V100, Strassen^2": (4.3, 6.8, 10.1, 16.1, 13.8, 15.3, 21.3),
    "V100, AlphaTensor": (8.5, 10.7, 13.3, 19.6, 16.6, 17.9, 23.9),
    "TPU v2, Strassen^2": (6.6, 9.0, 8.9, 9.2, 7.2, 6.9, 8.4),
    "TPU v2, AlphaTensor": (10.3, 12.4, 13.9, 13.4, 11.2, 12.3, 13.9),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Speed of schemes against jnp.matmul on this device.

    Attributes:
      sizes: side lengths of the square matrices.
      schemes: files with further schemes; every scheme of a file is measured.
      levels: number of levels at which the schemes of the files are used.
      dtype: of the matrices.
      precision: of the products. "highest" is true float32 everywhere; "default" lets TPUs and
        recent GPUs round float32 to fewer bits.
      trials: samples of each method; the paper has 10.
      chain: products in the chain of a trial; the paper has 20.
      warm_ups: products before the first trial; the paper has 10.
      seed: of the matrices.
      out: run folder.
    """

    sizes: tuple[int, ...] = (512, 1024)
    schemes: tuple[Path, ...] = ()
    levels: int = 1
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    precision: Literal["default", "high", "highest"] = "highest"
    trials: Annotated[int, tyro.conf.arg(aliases=["-t"])] = 10
    chain: int = 20
    warm_ups: int = 10
    seed: int = 0
    out: Path = Path("runs/matmul_speed")

    def __post_init__(self) -> None:
        check_counts(self, 1, "levels", "trials", "chain", "warm_ups")
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes = {self.sizes}; expected positive side lengths")


def methods(config: Config) -> dict[str, Product]:
    """The matrix products to compare, by name; the first is the standard."""
    precision = config.precision

    def product_of(scheme: schemes.Scheme, levels: int) -> Product:
        return lambda a, b: matmul(scheme, a, b, levels, precision=precision)

    products: dict[str, Product] = {
        "jnp.matmul": lambda a, b: jnp.matmul(a, b, precision=precision),
        "Strassen": product_of(schemes.strassen(), 1),
        "Strassen^2": product_of(schemes.strassen(), 2),
    }
    for path in config.schemes:
        for key, scheme in load(path).items():
            products[f"{path.stem}:{key} rank {scheme.rank}"] = product_of(scheme, config.levels)
    return products


def measure(config: Config, size: int) -> dict[str, list[float]]:
    """Measure all methods at one size.

    Args:
      config: method and settings.
      size: side of the square matrices.

    Returns:
      Seconds per product by method, one number per trial.

    Raises:
      FloatingPointError: a product left the range of the dtype.
    """
    a, b = make_matrices(Bench(size=size, dtype=config.dtype, seed=config.seed))
    products = {name: jax.jit(product) for name, product in methods(config).items()}
    for name, product in products.items():
        last = run_chain(product, a, b, config.warm_ups)  # the first one compiles
        if not bool(jnp.isfinite(last).all()):
            raise FloatingPointError(f"{name} at size {size} left the range of {config.dtype}")
    times: dict[str, list[float]] = {name: [] for name in products}
    for trial in range(config.trials):
        for name in list(products)[:: 1 if trial % 2 == 0 else -1]:
            start = time.perf_counter()
            run_chain(products[name], a, b, config.chain)
            times[name].append((time.perf_counter() - start) / config.chain)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median seconds, speed-up of the medians in %, and quartiles of the ratios, by method."""
    standard = next(iter(times.values()))
    summaries = {}
    for name, seconds in times.items():
        ratios = [100 * (s / t - 1) for s, t in zip(standard, seconds, strict=True)]
        low, high = np.percentile(ratios, [25, 75])
        speed_up = 100 * (statistics.median(standard) / statistics.median(seconds) - 1)
        summaries[name] = {
            "seconds": statistics.median(seconds),
            "speed_up_percent": speed_up,
            "quartiles_percent": (float(low), float(high)),
        }
    return summaries


def device() -> dict[str, Any]:
    """The device and the settings of XLA on which the times depend."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def table(summaries: dict[int, dict]) -> str:
    """Speed-up over the standard multiplication in %, measured and published."""
    sizes = sorted({*summaries, *PAPER_SIZES})
    rows = [["speed-up in %", *map(str, sizes)]]
    for name in next(iter(summaries.values())):
        cells = []
        for size in sizes:
            row = summaries.get(size, {}).get(name)
            cells.append(f"{row['speed_up_percent']:+.1f}" if row else "")
        rows.append([f"here: {name}", *cells])
    for name, values in PAPER.items():
        paper = dict(zip(PAPER_SIZES, values, strict=True))
        rows.append([f"paper: {name}", *(f"{paper[s]:+.1f}" if s in paper else "" for s in sizes)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if c == 0 else cell.rjust(w)
            for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    for size, rows_of_size in summaries.items():
        for name, row in rows_of_size.items():
            low, high = row["quartiles_percent"]
            lines.append(
                f"{size}: {name}: {1e3 * row['seconds']:.2f} ms a product, "
                f"{row['speed_up_percent']:+.1f} % (quartiles {low:+.1f} to {high:+.1f})"
            )
    return "\n".join(lines)


def plot(summaries: dict[int, dict], title: str, path: Path) -> None:
    """Draw the measured speed-ups, with quartiles, beside the paper's.

    Args:
      summaries: by size and method, of `summary`.
      title: of the measured half.
      path: of the PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for name in list(next(iter(summaries.values())))[1:]:
        rows = [summaries[size][name] for size in summaries]
        middle = np.array([row["speed_up_percent"] for row in rows])
        quartiles = np.array([row["quartiles_percent"] for row in rows]).T
        spread = np.clip([middle - quartiles[0], quartiles[1] - middle], 0, None)
        left.errorbar(list(summaries), middle, spread, marker="o", capsize=3, label=name)
    left.set_title(title, fontsize=9)
    for name, values in PAPER.items():
        right.plot(PAPER_SIZES, values, "--" if "Strassen" in name else "-", marker="o", label=name)
    right.set_title("Fawzi et al. (2022), Figure 5", fontsize=9)
    for axes in (left, right):
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xlabel("matrix size")
        axes.legend(fontsize=8)
    left.set_ylabel("speed-up over the standard multiplication (%)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(config: Config) -> None:
    """Measure all sizes; results are written after each."""
    config.out.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    (config.out / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    this_device, times, summaries = device(), {}, {}
    title = f"{this_device['kind']}, {config.dtype}, precision {config.precision}"
    print(title)
    for size in config.sizes:
        times[size] = measure(config, size)
        summaries[size] = summary(times[size])
        result = {
            "system": "matmul_speed",
            "device": this_device,
            "settings": settings,
            "version": alphajax.__version__,
            "summaries": summaries,
            "seconds": times,
            "paper_percent": {"sizes": PAPER_SIZES, **PAPER},
        }
        (config.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        plot(summaries, title, config.out / "figures" / "speed.png")
    print(table(summaries))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
