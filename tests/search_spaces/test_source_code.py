"""Functions of the user's that change are other functions."""

from orchestrator.planning.plan import Plan
from search_spaces.source_code import source_digest
from search_spaces.sweep import load_sweep

SWEEP = """
[sweep]
name = "own"
trials = 1
[task]
name = "digits"
[network]
name = "mine:build"
[budgets]
list = [{flash = "6KB"}]
"""


def test_a_digest_changes_with_the_module_and_with_what_it_imports_beside_it_and_with_nothing_else(tmp_path):
    (tmp_path / "mine.py").write_text("import torch\nfrom parts.block import Block\n\ndef build():\n    import late\n")
    (tmp_path / "parts").mkdir()
    for name in ("parts/__init__", "parts/block", "late", "other"):
        (tmp_path / f"{name}.py").write_text("size = 1\n")
    base, seen = str(tmp_path), [source_digest(["mine:build"], str(tmp_path))]
    assert seen[0] == source_digest(["mine:build", "mine:loss"], base)
    for name in ("mine", "parts/block", "late"):
        path = tmp_path / f"{name}.py"
        path.write_text(path.read_text() + "# changed\n")
        seen.append(source_digest(["mine:build"], base))
    assert len(set(seen)) == 4
    (tmp_path / "other.py").write_text("size = 2\n")
    (tmp_path / "parts" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "parts" / ".ipynb_checkpoints" / "block.py").write_text("size = 2\n")  # does not go to nodes either
    assert source_digest(["mine:build"], base) == seen[-1]
    assert source_digest(["torch:nn"], base) is source_digest([], base) is source_digest(["mine:build"], None) is None


def test_an_edited_network_or_loss_makes_other_trials(tmp_path):
    (tmp_path / "mine.py").write_text("def build():\n    return 1\n")
    (tmp_path / "own.py").write_text("def loss(outputs, targets):\n    return 1\n")
    (tmp_path / "sweep.toml").write_text(SWEEP)

    def hashed(*changes: str) -> str:
        plan = Plan(load_sweep(tmp_path / "sweep.toml", list(changes)))
        return plan.spec(plan.trials[0], {}).hash()

    with_loss = "training.loss='own:loss'"
    first = hashed(), hashed(with_loss)
    assert first == (hashed(), hashed(with_loss))
    (tmp_path / "own.py").write_text("def loss(outputs, targets):\n    return 2\n")
    assert (hashed() == first[0], hashed(with_loss) == first[1]) == (True, False)
    (tmp_path / "mine.py").write_text("def build():\n    return 2\n")
    assert hashed() != first[0]
    builtin = Plan(load_sweep(tmp_path / "sweep.toml", ["network.name='tiny-cnn'"]))
    assert "code" not in builtin.spec(builtin.trials[0], {}).canonical()
