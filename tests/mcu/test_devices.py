import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import mcu.devices
from mcu.devices import Device, Simd, catalogue, find_device, read_devices
from mcu.errors import InputError

ENTRY = """
[{name}]
vendor = "V"
core = "cortex-m4f"
simd = "dsp"
clock = "80M"
flash = "512KB"
sram = "128KB"
source = "a data sheet"
{more}
"""


def device(name="part", more=""):
    return read_devices(ENTRY.format(name=name, more=more), "parts.toml")


def test_the_catalogue_holds_the_families_people_use():
    names = " ".join(entry.name for entry in catalogue())
    families = "stm32l0 stm32l4 stm32f4 stm32f7 stm32h7 stm32u5 nrf52832 nrf52840 nrf5340 rp2040 rp2350 esp32 esp32-s3 "
    families += "esp32-c3 samd21 samd51 msp432p401r mimxrt106 apollo4 max32666"
    assert len(catalogue()) >= 24
    assert [family for family in families.split() if family not in names] == []


@pytest.mark.parametrize(
    ("name", "flash_kb", "sram_kb", "megahertz", "core"),
    [
        ("stm32f446re", 512, 128, 180, "cortex-m4f"),
        ("nrf52840", 1024, 256, 64, "cortex-m4f"),
        ("stm32l072", 192, 20, 32, "cortex-m0+"),
        ("rp2040", 2048, 264, 133, "cortex-m0+"),
        ("samd21", 256, 32, 48, "cortex-m0+"),
        ("stm32f746", 1024, 320, 216, "cortex-m7f"),
    ],
)
def test_vendor_figures_are_as_published(name, flash_kb, sram_kb, megahertz, core):
    part = find_device(name)
    figures = (part.flash, part.sram, part.clock_hz, part.core)
    assert figures == (flash_kb * 1024, sram_kb * 1024, megahertz * 10**6, core)


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_every_device_leaves_a_budget_smaller_than_itself(entry):
    budget = entry.budget()
    assert 0 < budget.flash < entry.flash
    assert 0 < budget.sram < entry.sram
    assert budget.macs is None
    assert entry.source
    assert (entry.simd is Simd.DSP) == any(core in entry.core for core in ("m4", "m7", "m33"))


def test_names_aliases_and_case_lead_to_the_same_device():
    assert find_device("STM32F446RE") is find_device("nucleo-f446re") is find_device(" stm32f446 ")


def test_an_unknown_device_gets_close_matches():
    with pytest.raises(InputError, match=r"'stm32f44re'.*stm32f446re"):
        find_device("stm32f44re")
    with pytest.raises(InputError, match="mcusweep devices"):
        find_device("zzz")


def test_the_reserve_follows_the_stated_rule():
    (part,) = device()
    assert (part.reserve_flash, part.reserve_sram) == (128 * 1024, 32 * 1024)
    small = mcu.devices.default_reserve_flash(64 * 1024), mcu.devices.default_reserve_sram(8 * 1024)
    assert small == (32 * 1024, 4 * 1024)


def test_an_arena_stays_within_one_bank():
    (part,) = device(more='sram_bank = "64KB"')
    assert part.budget().sram == 64 * 1024


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('colour = "red"', "unknown key 'colour'"),
        ('reserve_flash = "512KB"', "leaves nothing"),
        ('reserve_sram = "-1KB"', "negative"),
        ('sram_bank = "256KB"', "sram_bank"),
        ('sram = "1KB"', "not TOML"),
        ('aliases = "board"', "must be a list of names"),
        ('external_flash = "no"', "must be true or false"),
    ],
)
def test_nonsense_is_refused_with_its_place(more, message):
    with pytest.raises(InputError, match=message) as caught:
        device(more=more)
    assert "parts.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"512KB"', '"512XB"', "unknown unit"),
        ('"80M"', '"80"', "clock_hz = 80"),
        ('"dsp"', '"sse"', "simd = 'sse'"),
        ('source = "a data sheet"', "", "source is missing"),
        ('vendor = "V"', "vendor = 3", "vendor must be a text"),
        ("[part]", "[Part]", "lower case"),
    ],
)
def test_a_wrong_figure_is_refused(old, new, message):
    text = ENTRY.format(name="part", more="").replace(old, new)
    with pytest.raises(InputError, match=message):
        read_devices(text, "parts.toml")


@pytest.fixture
def plugins(monkeypatch):
    def install(loaded):
        entry = EntryPoint("extra", "nowhere:nothing", mcu.devices.ENTRY_POINTS)
        monkeypatch.setattr(EntryPoint, "load", lambda self: loaded)
        monkeypatch.setattr(mcu.devices, "entry_points", lambda group: [entry])
        catalogue.cache_clear()

    yield install
    catalogue.cache_clear()


def test_an_entry_point_adds_devices(plugins):
    (part,) = device("my-board")
    plugins(lambda: [part])
    assert find_device("my-board") == part


def test_an_entry_point_cannot_take_a_name_or_bring_something_else(plugins):
    plugins(device("rp2040")[0])
    with pytest.raises(InputError, match="taken by 'rp2040'"):
        catalogue()
    plugins(["rp9999"])
    with pytest.raises(InputError, match="is not a Device"):
        catalogue()


def test_a_device_made_in_python_is_checked_too():
    with pytest.raises(InputError, match="flash"):
        Device("x", "v", "c", Simd.NONE, 10**6, -1, 2048, 0, 0, "s")


def test_the_catalogue_imports_neither_torch_nor_ray():
    code = "import sys, mcu.devices as d; d.catalogue(); print({'torch', 'ray', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
