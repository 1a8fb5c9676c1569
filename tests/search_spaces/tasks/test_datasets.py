"""Datasets where arrays are accepted."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mcu.errors import InputError
from mcu.terms import TaskKind
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task
from search_spaces.tasks.datasets import dataset_arrays

X = torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3


class Named(Dataset):
    """One with class names, as torchvision's have."""

    classes = ("a", "b", "c")

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return X[index], int(Y[index])


class Column:
    names = ("zero", "one", "two")


class Rows:
    """As a data set of Hugging Face behaves: rows are dictionaries, columns have features."""

    features = {"image": None, "label": Column()}  # noqa: RUF012

    def __len__(self):
        return 60

    def __getitem__(self, index):
        from PIL import Image

        grey = (X[index, 0].numpy() * 255).astype(np.uint8)
        return {"image": Image.fromarray(grey), "label": int(Y[index])}


def test_a_torch_dataset_is_read_sample_by_sample():
    arrays = dataset_arrays(TensorDataset(X, Y), "mine")
    assert np.array_equal(arrays["x"], X.numpy())
    assert np.array_equal(arrays["y"], Y.numpy())
    assert dataset_arrays(Named(), "mine")["classes"].tolist() == ["a", "b", "c"]
    loaded = dataset_arrays(DataLoader(TensorDataset(X, Y), 8, shuffle=True), "mine")
    assert np.array_equal(loaded["y"], Y.numpy())


def test_splits_by_name_and_images_of_hugging_face():
    arrays = dataset_arrays({"train": Rows(), "validation": Rows(), "test": Rows(), "unsupervised": Rows()}, "mine")
    assert sorted(arrays) == ["classes", "x_test", "x_train", "x_val", "y_test", "y_train", "y_val"]
    assert arrays["x_val"].shape == (60, 1, 6, 6)
    assert arrays["x_val"].dtype == np.uint8
    assert arrays["classes"].tolist() == ["zero", "one", "two"]


def test_a_factory_may_return_a_dataset(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "def digits():\n    return TensorDataset(torch.rand(90, 1, 6, 6), torch.arange(90) % 3)\n"
        "def values():\n    x = torch.rand(90, 5)\n"
        "    return {'x': x.numpy(), 'y': x.sum(1).numpy(), 'kind': 'regression'}\n"
    )
    task = load_task(TaskChoice(name="mine:digits", base=str(tmp_path)))
    assert (task.input_shape, len(task.classes), len(task.y_train)) == ((1, 6, 6), 3, 62)
    values = load_task(TaskChoice(name="mine:values", base=str(tmp_path)))
    assert (values.kind, values.input_shape, values.outputs) == (TaskKind.REGRESSION, (5, 1, 1), 1)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (TensorDataset(X), "must be a pair of input and target"),
        ([X[0], X[1]], "must be a pair"),
        ({"train": Rows(), "test": TensorDataset(torch.rand(0, 2), torch.rand(0))}, "test: holds no samples"),
    ],
)
def test_what_is_no_dataset_of_pairs_is_named(dataset, message):
    with pytest.raises(InputError, match=message):
        dataset_arrays(dataset, "mine")


def test_samples_of_several_shapes_are_refused():
    class Ragged(Named):
        def __getitem__(self, index):
            return torch.zeros(1, 4 + index % 2, 4), 0

    with pytest.raises(InputError, match="must have one"):
        dataset_arrays(Ragged(), "mine")
