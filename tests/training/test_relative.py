"""Weights trained relative to their size: each channel moves in proportion, and is plain again afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgewright.training.relative import relative_steps


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 9, 2))
    with torch.no_grad():
        first = network[0]
        assert isinstance(first, nn.Conv2d)
        first.weight *= torch.tensor([0.3, 1.0, 30.0, 0.0])[:, None, None, None]
    return network


def _first(network: nn.Sequential) -> Tensor:
    first = network[0]
    assert isinstance(first, nn.Conv2d)
    return first.weight.detach().clone()


def _trained(network: nn.Module, rate: float) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    network(torch.randn(8, 3, 5, 5)).square().mean().backward()
    optimiser.step()


def test_every_channel_moves_by_the_same_share() -> None:
    network = _network()
    before = _first(network)
    with relative_steps(network):
        _trained(network, 0.01)
    moved = (_first(network) - before).abs().flatten(1).amax(1)
    size = before.square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(moved[:3] / size[:3], torch.full((3,), 0.01), rtol=1e-2, atol=0)
    assert float(moved[3]) > 0, "a channel of zeros can move, too"


def test_what_a_network_computes_stays_and_so_do_its_names() -> None:
    network = _network()
    names, x = list(network.state_dict()), torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        before = network(x)
        with relative_steps(network):
            torch.testing.assert_close(network(x), before)
        torch.testing.assert_close(network(x), before)
    assert list(network.state_dict()) == names


def test_frozen_parameters_are_left_alone() -> None:
    network = _network().requires_grad_(False)
    with relative_steps(network):
        assert not any("original" in name for name, _ in network.named_parameters())


def test_a_training_that_fails_leaves_the_network_plain() -> None:
    network = _network()
    names = list(network.state_dict())
    with pytest.raises(ZeroDivisionError), relative_steps(network):
        raise ZeroDivisionError
    assert list(network.state_dict()) == names
