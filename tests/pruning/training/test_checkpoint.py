"""What is kept between epochs comes back bit by bit, or not at all."""

import json

import torch

from pruning.training import checkpoint
from pruning.training.checkpoint import load_optimizer_state, read_checkpoint, write_checkpoint


def test_tensors_and_plain_values_come_back_however_deep(tmp_path):
    state = {"step": 3, "network": {"a.b": torch.randn(2, 3)}, "rows": [{"x": None, "t": torch.arange(4)}, "text"]}
    write_checkpoint(tmp_path, state)
    again = read_checkpoint(tmp_path)
    assert torch.equal(again["network"]["a.b"], state["network"]["a.b"])
    assert torch.equal(again["rows"][0]["t"], torch.arange(4))
    assert (again["step"], again["rows"][0]["x"], again["rows"][1]) == (3, None, "text")


def test_an_optimiser_goes_on_to_the_bit(tmp_path):
    def steps(weight, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (weight.sin().square()).sum().backward()
            optimizer.step()

    weight = torch.nn.Parameter(torch.arange(16.0).view(2, 2, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.NAdam([weight], lr=0.1)
    steps(weight, optimizer, 3)
    write_checkpoint(tmp_path, {"optimizer": optimizer.state_dict()})
    other = torch.nn.Parameter(weight.detach().clone(memory_format=torch.channels_last))
    again = torch.optim.NAdam([other], lr=0.7)
    load_optimizer_state(again, read_checkpoint(tmp_path)["optimizer"])
    assert again.state[other]["exp_avg"].stride() == other.stride()
    steps(weight, optimizer, 3)
    steps(other, again, 3)
    assert torch.equal(weight, other)


def test_a_checkpoint_of_another_format_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT - 1)
    write_checkpoint(tmp_path, {"step": 1})
    monkeypatch.undo()
    assert json.loads((tmp_path / checkpoint.MANIFEST).read_bytes())
    assert read_checkpoint(tmp_path) is None
