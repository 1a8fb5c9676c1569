import json

import numpy as np

from orchestrator.cli import main as cli


def test_a_task_is_described_with_its_data(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 1, 4, 4))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 3)
    assert cli.run(["tasks", "--describe", "arrays", "--data", str(tmp_path / "a.npz")]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["input_shape"] == [1, 4, 4]
    assert sum(map(sum, about["counts"].values())) == 60
    assert len(about["digest"]) == 32


def test_a_task_that_is_not_there_is_refused_in_one_line(tmp_path, capsys):
    assert cli.run(["tasks", "--describe", "cifar10", "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["tasks", "--describe", "nothing"]) == 2
