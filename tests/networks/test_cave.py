"""CaVE: the authors' layout and the compact one."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from codiff_batch.networks.cave import CaVE, DualCaVE
from codiff_batch.networks.compact_cave import CompactCaVE, ImplicitDecoder
from codiff_batch.networks.dct import BlockDCT, rgb_to_ycbcr, ycbcr_to_rgb


def test_authors_layout_has_the_released_checkpoints_size_and_names() -> None:
    with torch.device("meta"):
        state = DualCaVE().state_dict()
    assert len(state) == 346
    learned = {k: v for k, v in state.items() if "running" not in k and "num_batches" not in k}
    assert sum(v.numel() for v in learned.values()) == 74_887_428
    assert state["m_down1.4.weight"].shape == (128, 64, 2, 2)
    assert state["m_down3.4.weight"].shape == (512, 256, 4, 4)
    assert state["m_up3.0.weight"].shape == (512, 256, 4, 4)
    assert state["m_body_encoder.3.res.1.running_var"].shape == (512,)
    assert state["qf_pred.10.weight"].shape == (1, 512)


@pytest.mark.parametrize("cave", [CaVE((4, 4, 8, 16), depth=1), CompactCaVE(8, 1, 16)], ids=["authors", "compact"])
@pytest.mark.parametrize(("height", "width", "count"), [(64, 96, 6), (87, 33, 2), (1, 1, 1), (31, 70, 2)])
def test_one_token_for_each_32x32_pixels_of_any_size(
    cave: torch.nn.Module, height: int, width: int, count: int
) -> None:
    tokens, qf = cave.eval()(torch.rand(2, 3, height, width))
    assert tokens.shape == (2, count, 16)
    assert qf.shape == (2,)
    assert ((qf > 0) & (qf < 100)).all()


def test_released_decoder_restores_an_image_of_the_same_size() -> None:
    cave = DualCaVE((4, 4, 8, 16), depth=1).eval()
    restored, qf = cave.restore(torch.rand(2, 3, 64, 32))
    assert restored.shape == (2, 3, 64, 32)
    assert qf.shape == (2,)
    with pytest.raises(ValueError, match="multiples of 32"):
        cave.restore(torch.rand(1, 3, 40, 32))


def test_untrained_implicit_decoder_returns_its_input() -> None:
    cave, decoder = CompactCaVE(8, 1, 16), ImplicitDecoder(8, 16, depth=1)
    image = torch.rand(2, 3, 64, 96)
    assert torch.allclose(decoder(image, cave.embed(image)), image, atol=1e-5)


def test_block_dct_shows_what_the_quantizer_did() -> None:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(60, 200, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    image = torch.from_numpy(decoded.copy()).permute(2, 0, 1)[None] / 255
    coefficients = BlockDCT()(rgb_to_ycbcr(image))
    assert coefficients.shape == (1, 192, 8, 8)
    steps = coefficients[0, 0] / 16  # the luma table's DC entry at QF 50
    assert (steps - steps.round()).abs().max() < 0.3


def test_dct_and_colours_turn_back() -> None:
    image = torch.rand(1, 3, 16, 24)
    dct = BlockDCT()
    assert torch.allclose(ycbcr_to_rgb(dct.inverse(dct(rgb_to_ycbcr(image)))), image, atol=1e-4)
