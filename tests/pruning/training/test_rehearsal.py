"""Networks whose last operator does not suit what their outputs are read as."""

from contextlib import nullcontext

import pytest
from torch import nn

from mcu.errors import InputError
from mcu.terms import TaskKind
from mcu.tracing.trace import trace
from pruning.training.rehearsal import require_end

SIGNED = (TaskKind.REGRESSION, TaskKind.RECONSTRUCTION)


@pytest.mark.parametrize(
    ("last", "refused"),
    [
        (nn.Identity(), ()),
        (nn.LeakyReLU(), ()),
        (nn.ReLU(), SIGNED),
        (nn.ReLU6(), SIGNED),
        (nn.ELU(), SIGNED),
        (nn.Sigmoid(), tuple(TaskKind)),
        (nn.Tanh(), tuple(TaskKind)),
        (nn.Softmax(1), (*SIGNED, TaskKind.MULTI_LABEL)),
        (nn.LogSoftmax(1), (*SIGNED, TaskKind.MULTI_LABEL)),
    ],
)
def test_outputs_that_cannot_be_what_they_are_read_as_are_refused(last, refused):
    traced = trace(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3), last, nn.Flatten()), (1, 8, 8))
    for kind in TaskKind:
        with pytest.raises(InputError, match="network: it ends in ") if kind in refused else nullcontext():
            require_end(traced, kind)


def test_a_loss_of_ones_own_takes_anything_that_the_model_keeps():
    softmax, sigmoid = (trace(nn.Sequential(nn.Linear(4, 3), last), (4,)) for last in (nn.Softmax(1), nn.Sigmoid()))
    require_end(sigmoid, TaskKind.MULTI_LABEL, own_loss=True)
    require_end(softmax, TaskKind.CLASSIFICATION, own_loop=True)
    with pytest.raises(InputError, match="it ends in softmax, but its outputs are taken for what the exported model"):
        require_end(softmax, TaskKind.CLASSIFICATION, own_loss=True)
    for own in ("own_loss", "own_loop"):
        with pytest.raises(InputError, match="it ends in sigmoid, but its outputs are taken for deviations"):
            require_end(sigmoid, TaskKind.REGRESSION, **{own: True})
