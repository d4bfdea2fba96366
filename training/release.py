"""Write finished stages of the full model in the authors' two-file format, for ``codiff-batch models import``.

Run as ``python -m training.release training/configs/paper-stage2.toml --stage1 DIR --stage2 DIR --base DIR --out DIR``.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from codiff_batch.models.official import UNET_ADAPTERS, VAE_ADAPTERS
from training.average import load_learned_state
from training.config import read_config
from training.run import averaged_weights
from training.stage2 import Stage2Config, build

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--stage1", "first", required=True, type=_folder, help="Folder of the finished stage 1.")
@click.option("--stage2", "second", required=True, type=_folder, help="Folder of the finished stage 2.")
@click.option("--base", required=True, type=_folder, help="The base model it was trained on.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where the files go.")
def main(config_file: Path, first: Path, second: Path, base: Path, out: Path) -> None:
    """Write codiff.pkl and cave.pth."""
    config = read_config(config_file, Stage2Config)
    model, _ = build(config, base, first)
    unet, vae = model.unet.unet, model.autoencoder.vae
    load_learned_state(model, averaged_weights(second))
    out.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            **{listed: sorted(unet.peft_config[name].target_modules) for name, listed in UNET_ADAPTERS.items()},
            **{listed: sorted(vae.peft_config[name].target_modules) for name, listed in VAE_ADAPTERS.items()},
            "rank_unet": config.rank,
            "rank_vae": config.rank,
            "state_dict_unet": {k: v for k, v in unet.state_dict().items() if "lora" in k or "conv_in" in k},
            "state_dict_vae": {k: v for k, v in vae.state_dict().items() if "lora" in k},
            "proj": model.projector.state_dict(),
        },
        out / "codiff.pkl",
    )
    torch.save(model.cave.state_dict(), out / "cave.pth")
    click.echo(f"{out}: codiff.pkl and cave.pth; install them with 'codiff-batch models import --base {base} ...'")


if __name__ == "__main__":
    main()
