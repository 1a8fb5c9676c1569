"""The compiler and the emulator: found on the PATH, or one line that says what to install."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mcu.errors import InputError

APT_PACKAGES = ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm")


class ToolsMissing(InputError):  # noqa: N818
    """A program that firmware needs is not installed; the message names the packages."""


@dataclass(frozen=True)
class Toolchain:
    """Paths of the programs, None where absent."""

    gcc: Path | None
    qemu: Path | None

    def advice(self) -> str | None:
        """What to install, or None if everything is there."""
        missing = [name for name, path in (("arm-none-eabi-gcc", self.gcc), ("qemu-system-arm", self.qemu)) if not path]
        if not missing:
            return None
        return f"firmware needs {' and '.join(missing)}: apt-get install {' '.join(APT_PACKAGES)}"

    def compiler(self) -> Path:
        """The compiler. Raises ToolsMissing if absent."""
        return self._require(self.gcc)

    def emulator(self) -> Path:
        """The emulator. Raises ToolsMissing if absent."""
        return self._require(self.qemu)

    def size_tool(self) -> Path:
        """The section size lister that comes with the compiler. Raises ToolsMissing if absent."""
        gcc = self.compiler()
        return gcc.with_name(gcc.name.replace("gcc", "size"))

    def _require(self, path: Path | None) -> Path:
        if path is None:
            raise ToolsMissing(self.advice())
        return path


def toolchain() -> Toolchain:
    """Look for Debian's Arm compiler and QEMU on the PATH."""
    gcc, qemu = shutil.which("arm-none-eabi-gcc"), shutil.which("qemu-system-arm")
    return Toolchain(gcc=Path(gcc) if gcc else None, qemu=Path(qemu) if qemu else None)
