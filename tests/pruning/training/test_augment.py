import pytest
import torch

from mcu.errors import InputError
from pruning.training.augment import AUGMENTATIONS, augmentation


def batch(count=32, shape=(1, 49, 10), seed=0):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed)) + 1


def augmented(name, x, seed=0):
    return augmentation(name)(x, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 49, 10), (6, 100, 1), (3, 8, 8), (1, 1, 1)])
def test_a_batch_keeps_its_shape_and_the_generator_decides(name, shape):
    x = batch(shape=shape)
    before = x.clone()
    out = augmented(name, x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.equal(x, before)
    assert torch.equal(out, augmented(name, x))
    assert torch.isfinite(out).all()


def test_spec_augment_hides_runs_of_frames_and_bands():
    x = torch.ones(200, 1, 50, 10)
    out = augmented("spec_augment", x)
    rows, columns = (out == 0).all(3)[:, 0], (out == 0).all(2)[:, 0]
    assert rows.any(1).float().mean() > 0.5
    assert 0.3 < columns.any(1).float().mean() < 0.9
    assert columns.sum(1).max() == 2
    assert rows.sum(1).max() <= 5 + 5  # hidden, and moved in by the time shift


def test_jitter_changes_gain_and_offset_by_channel():
    x = torch.linspace(-1, 1, 100).view(1, 1, 100, 1).expand(64, 6, 100, 1)
    out = augmented("jitter", x)
    middle = out.mean(2)[..., 0]
    gain = (out[:, :, -20:].mean(2) - out[:, :, :20].mean(2))[..., 0] / 1.6
    assert middle.abs().max() < 0.25
    assert middle.std(1).min() > 0.01
    assert 0.75 < gain.min() < 0.9
    assert 1.1 < gain.max() < 1.25


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(InputError, match="allowed are none, shift"):
        augmentation("mixup")
