import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcu.errors import InputError
from search_spaces.hyperparameters import Range
from search_spaces.networks import build_network
from search_spaces.sweep import SweepConfig, load_sweep
from search_spaces.tasks import load_task, task_names
from search_spaces.template import template

MINIMAL = """
[sweep]
name = "kitchen"
[task]
name = "mnist-5k"
[network]
name = "resnet8"
[budgets]
devices = ["stm32f446re"]
"""
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def write(tmp_path):
    def write(text=MINIMAL):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return path

    return write


def test_four_keys_are_enough(write):
    sweep = load_sweep(write())
    assert sweep.sweep.name == "kitchen"
    assert sweep.methods.names == ["differentiable", "uniform", "l1"]
    assert sweep.training.epochs == 20
    assert sweep.workers.executor == "ray"
    assert sweep.workers.count == "auto"
    assert sweep.hyperparameters["learning_rate"] == Range(low=0.02, high=0.3, log=True)
    assert [named.device for named in sweep.planned_budgets()] == ["stm32f446re"]


def test_every_documented_key_is_read(write):
    sweep = load_sweep(
        write("""
[sweep]
name = "kitchen-sensor"
seed = 7
trials = 5
[task]
name = "fashion-mnist"
data = "images"
options = {train_limit = 100}
[network]
names = ["resnet8", "ds-cnn"]
width = 0.5
[budgets]
list = [{flash = "64KB", sram = "16KB", macs = "4M"}]
runtime = "firmware"
[methods]
names = ["differentiable", "uniform"]
trials = {uniform = 2}
[training]
epochs = 3
batch_size = 32
device = "cpu"
[hyperparameters]
learning_rate = {low = 0.01, high = 0.3, log = true}
optimiser = {choices = ["sgd", "adam"]}
weight_decay = 5e-4
[sampler]
name = "nsga2"
[stopping]
enabled = false
[workers]
executor = "local"
cpus_per_trial = 2
count = 3
max_attempts = 1
""")
    )
    assert [choice.name for choice in sweep.network.choices()] == ["resnet8", "ds-cnn"]
    assert [choice.width for choice in sweep.network.choices()] == [0.5, 0.5]
    assert (sweep.trials_of("differentiable"), sweep.trials_of("uniform")) == (5, 2)
    assert sweep.task.data is not None
    assert Path(sweep.task.data).is_absolute()
    assert (sweep.budgets.runtime, sweep.sampler.name, sweep.stopping.enabled) == ("firmware", "nsga2", False)
    assert (sweep.workers.count, sweep.workers.cpus_per_trial, sweep.training.device) == (3, 2, "cpu")


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("workers.time_limit='20s'", "workers.min_free='64MB'", "workers.count=2", "workers.gpus_per_trial=0.25"),
        ("budgets.latency='1.5ms'", "budgets.runtime='firmware'", "workers.ship=['a.npy']", "lineage.enabled=true"),
    ],
)
def test_json_brings_the_same_sweep_back(write, given):
    sweep = load_sweep(write(), given)
    assert SweepConfig.model_validate_json(sweep.canonical()) == sweep
    assert "\n" not in sweep.canonical()


def test_overrides_win_and_are_read_as_toml(write):
    overrides = ["training.epochs=4", "task.name=digits", 'budgets.devices=["rp2040"]', "workers.count=2"]
    overrides += ["hyperparameters.learning_rate=0.1", "task.options.train_limit=50", "sweep.name=two words"]
    sweep = load_sweep(write(), overrides)
    assert (sweep.training.epochs, sweep.task.name, sweep.workers.count) == (4, "digits", 2)
    assert sweep.hyperparameters["learning_rate"] == 0.1
    assert sweep.task.options == {"train_limit": 50}
    assert sweep.sweep.name == "two words"
    assert sweep.planned_budgets()[0].label == "rp2040"


def test_paths_are_relative_to_where_they_were_written(write, tmp_path, monkeypatch):
    path = write(MINIMAL.replace('"mnist-5k"', '"fashion-mnist"\ndata = "images"'))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_sweep(path).task.data == str(tmp_path / "images")
    assert load_sweep(path, ["task.data=mine"]).task.data == str(elsewhere / "mine")


def test_only_factories_remember_the_folder(write, tmp_path):
    sweep = load_sweep(write())
    assert (sweep.task.base, sweep.network.choices()[0].base) == (None, None)
    sweep = load_sweep(write(), ["network.name=my.module:net", "task.name=my:data"])
    assert sweep.network.choices()[0].base == str(tmp_path)
    assert sweep.task.base == str(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "--set: unknown key training.epoch: did you mean epochs"),
        ("swep.name=x", "unknown key swep: did you mean sweep"),
        ("training.epochs=-1", "--set: training.epochs = -1: must be greater than or equal to 1"),
        ("training.epochs=many", "--set: training.epochs = 'many': must be a valid integer"),
        ("training.device=tpu", "training.device = 'tpu': must be 'auto', 'cpu' or 'cuda'"),
        ("budgets.devices=['stm32f44re']", r"budgets.devices\[0\].*'stm32f44re'.*did you mean stm32f446re"),
        ("budgets.list=[{flash='64KB'}]", "with --set budgets.list: budgets: more than one form"),
        ("budgets.runtime=wasm", "must be 'tflm' or 'firmware'"),
        ("task.name=mnist5k", "did you mean mnist-5k"),
        ("task.colour=red", "unknown key task.colour: allowed are name, data, path, options$"),
        ("task.base=x", "unknown key task.base"),
        ("network.name=resnet9", "network 'resnet9' is unknown: did you mean resnet8"),
        ("network.names=['ds-cnn']", "either name = '...' or names"),
        ("network.width=0", "network.width = 0: must be greater than 0"),
        ("network.options={depth=3}", "no option 'depth'"),
        ("methods.trials={l2=3}", "trials.l2: is not among names"),
        ("methods.names=['l1','l1']", "each must be there once"),
        ("sampler.name=cmaes", "must be 'tpe', 'optuna-tpe', 'nsga2', 'nsga3', 'qmc', 'random' or 'grid'"),
        ("workers.count=0", "must be 'auto' or a whole number"),
        ("workers.executor=slurm", "must be 'ray', 'local' or 'simulated'"),
        ("sweep.name=", "sweep.name = '': must have at least 1 character"),
        ("sweep.trials=1.5", "sweep.trials = 1.5: must be a valid integer"),
        ("hyperparameters.x={low = 0.1, high = inf}", "hyperparameters.x.high = inf: must be a finite number"),
        ("hyperparameters.x={choices = [1, nan]}", r"hyperparameters.x.choices\[1\] = nan: must be a finite number"),
        ("hyperparameters.x={low = true, high = 2}", "low = True: must be a valid integer or a valid number"),
        ("hyperparameters.learning_rate={low=1,high=0}", "low must be less than high"),
        ("hyperparameters.learning_rate={low=1,hi=2}", "hyperparameters.learning_rate"),
        ("network.name.x=1", "name is 'resnet8' in the file, not a table"),
        ("epochs=3", "--set epochs=3: must be of the form section.key=value"),
        ("training.epochs", "--set training.epochs: must be of the form"),
    ],
)
def test_a_mistake_is_one_line_with_place_value_and_what_is_allowed(write, override, message):
    with pytest.raises(InputError, match=message) as caught:
        load_sweep(write(), [override])
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "kitchen"', "", "sweep.name is missing"),
        ("[network]", "[netwrk]", "network is missing|unknown key netwrk"),
        (
            'devices = ["stm32f446re"]',
            'flash = ["64QB", "1MB"]',
            r"budgets.flash\[0\]: '64QB' has the unknown unit 'QB'",
        ),
        ('devices = ["stm32f446re"]', 'list = [{sram = "-8KB"}]', r"budgets.list\[0\].sram: '-8KB' is negative"),
        (
            'devices = ["stm32f446re"]',
            "list = [{srm = 3}]",
            r"budgets.list\[0\].srm: is an unknown key: did you mean sram",
        ),
        ('devices = ["stm32f446re"]', "", "no form of budgets"),
        ('name = "kitchen"', "name = kitchen", r"is not TOML: .*line 3"),
        ('name = "kitchen"', 'name = "a\\u0007b"', "sweep.name"),
        ("[sweep]", "sweep = 3\n[other]", "sweep = 3|unknown key other"),
    ],
)
def test_a_mistake_in_the_file_names_the_file(write, old, new, message):
    path = write(MINIMAL.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: no such file"):
        load_sweep(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read"):
        load_sweep(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(InputError, match="is not UTF-8"):
        load_sweep(tmp_path / "latin.toml")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.sampled_from(["sweep", "task", "network", "budgets", "methods", "training", "hyperparameters", "workers"]),
    st.sampled_from(["name", "names", "list", "devices", "flash", "count", "options", "trials", "epochs", "x"]),
    VALUES,
)
@example(section="methods", key="trials", value={"\n": None})
def test_whatever_stands_in_a_file_is_a_sweep_or_an_input_error(write, monkeypatch, section, key, value):
    table = tomllib.loads(MINIMAL)
    table.setdefault(section, {})[key] = value
    monkeypatch.setattr("search_spaces.sweep._read", lambda path: table)
    refusal = ""
    try:
        load_sweep(write())
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal


@pytest.mark.parametrize("task", [*task_names(), "my.module:data"])
@pytest.mark.parametrize("device", [None, "stm32f446re", "nucleo-f446re"])
def test_the_template_is_a_sweep_that_loads(write, task, device):
    sweep = load_sweep(write(template(task, device)))
    assert sweep.task.name == task
    assert {named.device for named in sweep.planned_budgets()} == {"stm32f446re" if device else None}


def test_the_template_refuses_what_does_not_exist():
    with pytest.raises(InputError, match="mnist-5k"):
        template("mnist5k")
    with pytest.raises(InputError, match="stm32f446re"):
        template("mnist-5k", "stm32f44re")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_load(example):
    sweep = load_sweep(example)
    assert len(sweep.planned_budgets()) >= 2
    assert {"differentiable", "uniform"} <= set(sweep.methods.names)


def test_the_users_example_builds_its_task_and_network():
    sweep = load_sweep(EXAMPLES / "your_own_network.toml", ["task.options.recordings=120"])
    task = load_task(sweep.task)
    assert (task.input_shape, len(task.classes), len(task.x_train)) == ((3, 128, 1), 4, 84)
    network = build_network(sweep.network.choices()[0], task.input_shape, len(task.classes), seed=0)
    assert network.head.out_features == 4


def test_loading_a_sweep_imports_neither_torch_nor_ray():
    code = f"import sys; from search_spaces.sweep import load_sweep; load_sweep({str(EXAMPLES / 'quickstart.toml')!r})"
    code += "; print({'torch', 'ray', 'optuna', 'scipy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_key_is_read_under_its_earlier_name_too_and_trials_keep_their_hashes(write):
    earlier = load_sweep(write(MINIMAL.replace('"resnet8"', '"resnet8"\nmultiple = 4')))
    now = load_sweep(write(MINIMAL.replace('"resnet8"', '"resnet8"\nround_to = 4')))
    assert earlier == now
    (choice,) = now.network.choices()
    assert choice.round_to == 4
    stored = {"name": "resnet8", "width": 1.0, "options": {}, "base": None, "multiple": 4}
    assert choice.model_dump(mode="json") == stored
    assert type(choice).model_validate(stored) == choice
    with pytest.raises(InputError, match="multiple"):
        load_sweep(write(MINIMAL.replace('"resnet8"', '"resnet8"\nmultiple = 4\nround_to = 4')))
