"""The GAN loss reaches the generator, which the released code's does not, and leaves the discriminator alone."""

import pytest
import torch

from codiff_batch.networks.one_step import ALPHA_BAR, TIMESTEP
from training.adversary import Adversary, CompactDiscriminator, alpha_bars


@pytest.fixture
def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(CompactDiscriminator(12, width=8), horizon=400)


def test_the_schedule_is_the_one_of_the_one_step() -> None:
    assert alpha_bars()[TIMESTEP].item() == pytest.approx(ALPHA_BAR, abs=1e-6)


def test_the_generator_gets_a_gradient_and_the_discriminator_none(adversary: Adversary) -> None:
    fake = torch.randn(2, 12, 32, 32, requires_grad=True)
    adversary.generator_loss(fake).backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in adversary.parameters())
    assert all(parameter.requires_grad for parameter in adversary.parameters())


def test_the_discriminator_gets_a_gradient_and_the_generator_none(adversary: Adversary) -> None:
    fake = torch.randn(2, 12, 32, 32, requires_grad=True)
    adversary(torch.randn_like(fake), fake).backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in adversary.parameters())


@pytest.mark.slow
def test_the_two_players_learn(adversary: Adversary) -> None:
    """Latents that differ in contrast only are told apart; a generator that may scale its own then closes the gap."""
    real, weak = 2 * torch.randn(8, 12, 16, 16), 0.3 * torch.randn(8, 12, 16, 16)
    rival = torch.optim.AdamW(adversary.parameters(), lr=2e-3)
    first = adversary(real, weak).item()
    for _ in range(80):
        rival.zero_grad()
        loss = adversary(real, weak)
        loss.backward()
        rival.step()
    assert loss.item() < first / 2
    scale = torch.ones((), requires_grad=True)
    player = torch.optim.AdamW([scale], lr=5e-2)
    for _ in range(40):
        player.zero_grad()
        adversary.generator_loss(weak * scale).backward()
        player.step()
    assert scale.item() > 1.5


def test_in_16_bit_floats_small_differences_still_count(adversary: Adversary) -> None:
    """Between two 16-bit floats near log 2 lie 0.004, more than a discriminator gains in its first thousand steps."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = adversary(torch.randn(2, 12, 32, 32), torch.randn(2, 12, 32, 32))
    assert loss.dtype == torch.float32


def test_logits_depend_on_the_timestep(adversary: Adversary) -> None:
    latent = torch.randn(1, 12, 16, 16).expand(2, -1, -1, -1)
    early, late = adversary.discriminator(latent, torch.tensor([0, 399]))
    assert not torch.allclose(early, late)
