"""The paper's ablations on the compact model, one command each: Tables 3, 4 and 5, Figures 4 and 7.

Run as ``python -m training.ablations table3 --photos DIR --test DIR --out DIR [--networks DIR]``. Whatever an
earlier command trained in the same ``--out`` is reused. Results are printed as Markdown; figures are PNG files in
``--out``. ``docs/experiments.md`` has ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

from codiff_batch.engine.crops import textured_crops
from codiff_batch.perceptual import Perceptual, as_tensor
from training import compact, stage1
from training.config import read_config
from training.degradation import compress
from training.evaluate import find_lossless
from training.photos import Pixels, load_photos
from training.recipe import Encoding
from training.run import averaged_weights

CONFIGS = Path(__file__).with_name("configs") / "ablations"
TEST_QFS = (5, 10, 20)
CHROMA_420 = 2


@dataclass(frozen=True)
class Bench:
    """Folders of the photos and of finished runs."""

    photos: Path
    test: Path
    out: Path
    networks: Path | None

    def train(self, module: str, config: str, *more: str | Path) -> Path:
        """Train a configuration to its end, unless already done; returns its folder."""
        folder = self.out / config
        arguments = [CONFIGS / f"{config}.toml", "--photos", self.photos, "--out", folder, *more]
        program = {"compact": compact.main, "stage1": stage1.main}[module]
        program([str(argument) for argument in arguments], standalone_mode=False)
        return folder

    def stage1(self, kind: str) -> Path:
        """A finished CaVE: ``dual``, ``explicit`` or ``implicit``."""
        return self.train("stage1", f"stage1-{kind}")

    def generator(self, config: str, cave: Path, name: str | None = None) -> Path:
        """A finished generator under a frozen CaVE; ``name`` where one configuration is trained under several."""
        if name is None:
            return self.train("compact", config, "--cave", cave)
        return Bench(self.photos, self.test, self.out / name, self.networks).train("compact", config, "--cave", cave)

    def tuned(self, config: str, start: Path) -> Path:
        """A finished generator, continued from another one with other losses."""
        networks = ("--networks", self.networks) if self.networks else ()
        return self.train("compact", config, "--start", start, *networks)

    def cave(self, kind: str) -> stage1.DualLearner | stage1.PaperLearner:
        """A trained CaVE with its decoder, ready to use."""
        learner = stage1.build(read_config(CONFIGS / f"stage1-{kind}.toml", stage1.Stage1Config))
        learner.load_state_dict(averaged_weights(self.stage1(kind)))
        return learner.eval().requires_grad_(False)

    def restore(self, config: str, folder: Path) -> Callable[[Pixels], Pixels]:
        """A trained generator as a function of pictures; it works on whole pictures, as the test sets are small."""
        settings = read_config(CONFIGS / f"{config}.toml", compact.CompactConfig)
        model = compact.CompactCODiff(settings)
        model.load_state_dict(averaged_weights(folder))
        model.eval().requires_grad_(False)
        multiple = 2 ** len(settings.widths)

        def restore(pixels: Pixels) -> Pixels:
            height, width = pixels.shape[:2]
            padded = np.pad(pixels, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
            with torch.inference_mode():
                restored, _ = model(as_tensor(padded), torch.zeros(1, 2, 8, 8))
            levels = restored[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).byte().numpy()
            return np.asarray(levels[:height, :width])

        return restore


def scores_table(bench: Bench, rows: Sequence[tuple[str, Callable[[Pixels], Pixels]]]) -> str:
    """PSNR, LPIPS and DISTS at QF 5, 10 and 20, as the rows of the paper's tables."""
    from codiff_batch.metrics import psnr

    perceptual = Perceptual(bench.networks) if bench.networks else None
    titles = ["", *(f"{metric} at QF {qf}" for metric in ("PSNR", "LPIPS", "DISTS") for qf in TEST_QFS)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    clean = load_photos(find_lossless(bench.test))
    for name, restore in rows:
        found: dict[int, list[tuple[float, ...]]] = {}
        for photo in clean:
            for qf in TEST_QFS:
                picture = restore(compress(photo, Encoding(qf, CHROMA_420))[0])
                told = perceptual(picture, photo) if perceptual else (float("nan"),) * 2
                found.setdefault(qf, []).append((psnr(picture, photo), *told))
        means = {qf: np.mean(values, axis=0) for qf, values in found.items()}
        cells = [f"{means[qf][metric]:{form}}" for metric, form in enumerate((".2f", ".4f", ".4f")) for qf in TEST_QFS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def seen_by_cave(cave: torch.nn.Module, photo: Pixels, qf: int) -> tuple[np.ndarray, float]:
    """CaVE's mean token (D,) and its estimate for a photo at a quality factor."""
    compressed, _ = compress(photo, Encoding(qf, CHROMA_420))
    crops = np.stack(textured_crops(compressed))
    tokens, estimates = cave(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255)
    return tokens.mean(dim=(0, 1)).numpy(), float(estimates.mean())


@click.group()
def main() -> None:
    """Train and measure the paper's ablations on the compact model."""


def _command(function: Callable[[Bench], None]) -> click.Command:
    folder = click.Path(exists=True, file_okay=False, path_type=Path)

    def run(photos: Path, test: Path, out: Path, networks: Path | None) -> None:
        function(Bench(photos, test, out, networks))

    options = [
        click.Option(["--photos"], required=True, type=folder, help="Lossless photos to train on."),
        click.Option(["--test"], required=True, type=folder, help="Lossless photos to measure on."),
        click.Option(["--out"], required=True, type=click.Path(file_okay=False, path_type=Path), help="Runs, figures."),
        click.Option(["--networks"], type=folder, help="Backbones of LPIPS and DISTS; Table 5 needs them."),
    ]
    command = click.Command(function.__name__, callback=run, params=list(options), help=function.__doc__)
    main.add_command(command)
    return command


@_command
def table3(bench: Bench) -> None:
    """Where the prompt comes from: none, learned once for all pictures, or CaVE."""
    cave = bench.stage1("dual")
    kinds = {"empty": "empty", "learnable": "learnable", "cave": "CaVE"}
    runs = {kind: bench.generator(f"prompt-{kind}", cave) for kind in kinds}
    rows = [(told, bench.restore(f"prompt-{kind}", runs[kind])) for kind, told in kinds.items()]
    click.echo(scores_table(bench, [("JPEG", lambda pixels: pixels), *rows]))


@_command
def table4(bench: Bench) -> None:
    """How CaVE was trained: explicitly, implicitly, or both."""
    rows: list[tuple[str, Callable[[Pixels], Pixels]]] = []
    for kind in ("explicit", "implicit", "dual"):
        # The dual row is Table 3's.
        under = None if kind == "dual" else f"under-{kind}"
        folder = bench.generator("prompt-cave", bench.stage1(kind), under)
        rows.append((kind, bench.restore("prompt-cave", folder)))
    click.echo(scores_table(bench, rows))


@_command
def table5(bench: Bench) -> None:
    """Which losses stage 2 has: L2, with DISTS, with DISTS and the GAN."""
    start = bench.generator("prompt-cave", bench.stage1("dual"))
    kinds = {"l2": "L2", "l2-dists": "L2 + DISTS", "l2-dists-gan": "L2 + DISTS + GAN"}
    runs = {kind: bench.tuned(f"loss-{kind}", start) for kind in kinds}
    rows = [(told, bench.restore(f"loss-{kind}", runs[kind])) for kind, told in kinds.items()]
    click.echo(scores_table(bench, rows))


@_command
def fig4(bench: Bench) -> None:
    """t-SNE of CaVE's embeddings by quality factor, for each way of training it."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    qfs = (1, 5, 10, 20, 30, 50, 70, 90)
    clean = load_photos(find_lossless(bench.test))
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axis, kind in zip(axes, ("explicit", "implicit", "dual"), strict=True):
        cave = bench.cave(kind).cave
        tokens = np.stack([seen_by_cave(cave, photo, qf)[0] for qf in qfs for photo in clean])
        labels = np.repeat(qfs, len(clean))
        places = TSNE(perplexity=min(20, len(tokens) / 4), random_state=0, init="pca").fit_transform(tokens)
        for colour, qf in enumerate(qfs):
            axis.scatter(*places[labels == qf].T, s=9, color=plt.get_cmap("viridis")(colour / (len(qfs) - 1)), label=qf)
        separation = silhouette_score(places, labels)
        axis.set(title=f"{kind}, silhouette {separation:.2f}", xticks=[], yticks=[])
        click.echo(f"{kind}: silhouette of the quality factors {separation:.3f}")
    axes[-1].legend(title="QF", bbox_to_anchor=(1, 1))
    figure.savefig(bench.out / "fig4.png", dpi=110)


@_command
def fig7(bench: Bench) -> None:
    """CaVE's QF error over the quality factors, seen and unseen in training, explicit against dual."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    qfs = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98)
    clean = load_photos(find_lossless(bench.test))
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    lines = [f"| | {' | '.join(f'QF {qf}' for qf in qfs)} |", "|---" * (len(qfs) + 1) + "|"]
    for kind in ("explicit", "dual"):
        cave = bench.cave(kind).cave
        errors = [np.mean([abs(seen_by_cave(cave, photo, qf)[1] - qf) for photo in clean]) for qf in qfs]
        axis.plot(qfs, errors, marker=".", label=kind)
        lines.append(f"| {kind} | {' | '.join(f'{error:.1f}' for error in errors)} |")
    axis.axvspan(8, 95, alpha=0.1, label="seen in training")
    axis.set(xlabel="quality factor", ylabel="mean absolute error")
    axis.legend()
    figure.savefig(bench.out / "fig7.png", dpi=110)
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
