"""A widened network computes what the narrow one did, and all that is new in it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from training.compact import CompactCODiff, CompactConfig, load_start
from training.widening import widened

NARROW = CompactConfig(
    cave_width=8, cave_depth=1, token_width=16, context=16, widths=(8, 8, 12, 16), depths=(1, 1, 2, 1)
)
WIDE = CompactConfig(
    cave_width=12, cave_depth=1, token_width=24, context=20, widths=(12, 8, 20, 24), depths=(1, 1, 2, 1)
)


def trained(config: CompactConfig) -> CompactCODiff:
    """A model none of whose weights is zero."""
    model = CompactCODiff(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images, the second one's tables unknown."""
    return torch.rand(2, 3, 64, 96), torch.stack((torch.randint(1, 40, (2, 8, 8)).float(), torch.zeros(2, 8, 8)))


def test_a_widened_network_computes_the_same() -> None:
    torch.manual_seed(0)
    narrow, wide = trained(NARROW), CompactCODiff(WIDE)
    load_start(wide, narrow.state_dict())
    image, tables = inputs()
    with torch.inference_mode():
        for ours, theirs in zip(wide(image, tables), narrow(image, tables), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_texture_may_keep_its_widths_over_a_wider_generator() -> None:
    torch.manual_seed(0)
    textured = replace(NARROW, texture=True)
    narrow = trained(textured)
    wide = CompactCODiff(replace(textured, widths=WIDE.widths, texture_widths=NARROW.widths))
    load_start(wide, narrow.state_dict())
    assert narrow.learning.state_dict().keys() == wide.learning.state_dict().keys()
    for name, value in narrow.learning.state_dict().items():
        assert torch.equal(value, wide.learning.state_dict()[name]), name
    image, tables = inputs()
    with torch.inference_mode():
        torch.testing.assert_close(wide(image, tables)[0], narrow(image, tables)[0], atol=1e-4, rtol=1e-4)


def test_texture_that_learns_to_see_the_faithful_correction_starts_as_it_was() -> None:
    torch.manual_seed(0)
    before = trained(replace(NARROW, texture=True))
    after = CompactCODiff(replace(NARROW, texture=True, texture_refines=True))
    load_start(after, before.state_dict())
    image, tables = inputs()
    restored = after(image, tables)[0]
    torch.testing.assert_close(restored, before(image, tables)[0], atol=1e-4, rtol=1e-4)
    (restored - 0.5).square().mean().backward()
    stem = after.get_parameter("generator.texture.unet.stem.weight")
    assert stem.shape[1] == 24
    assert stem.grad is not None and stem.grad[:, 12:].abs().amin(dim=0).min() > 0


def test_two_steps_reach_every_new_weight() -> None:
    torch.manual_seed(0)
    narrow, wide = trained(NARROW), CompactCODiff(WIDE)
    load_start(wide, narrow.state_dict())
    before = {name: value.clone() for name, value in wide.named_parameters()}
    optimizer = torch.optim.SGD(wide.parameters(), lr=1.0)
    image, tables = inputs()
    for _ in range(2):
        optimizer.zero_grad()
        restored, qf = wide(image, tables)
        ((restored - 0.5).square().mean() + qf.mean() / 100).backward()
        nn.utils.clip_grad_norm_(wide.parameters(), 1.0)
        optimizer.step()
    for name, value in wide.named_parameters():
        assert (value != before[name]).any(), name
    new = wide.get_parameter("generator.unet.down.2.blocks.0.conv1.weight")[12:]
    assert not torch.equal(new[0], new[1]), "new units are not copies of each other"


def test_a_network_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="missing or does not fit"):
        widened(CompactCODiff(NARROW).state_dict(), CompactCODiff(CompactConfig()))
    with pytest.raises(ValueError, match="missing or does not fit"):
        widened(CompactCODiff(WIDE).state_dict(), CompactCODiff(NARROW))
