"""What ``doctor`` says of the tools for firmware."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcu.errors import InputError
from mcu.firmware.toolchain import ARCHITECTURES, Architecture
from orchestrator.cli.doctor import firmware_tools


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda item: item.name)
def test_missing_tools_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch, architecture: Architecture) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=f"needs {architecture.prefix}gcc and .*: apt-get install") as refused:
        firmware_tools(architecture)
    assert str(refused.value).endswith(architecture.packages)
    assert "\n" not in str(refused.value)


def test_ci_installs_the_packages_that_doctor_names() -> None:
    script = (Path(__file__).parents[3] / ".ci/run").read_text(encoding="utf-8")
    assert "mcu/firmware/packages.txt" in script
    assert "arm-none-eabi" not in script, "the list is in one place"
