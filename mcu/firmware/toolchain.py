"""The compiler and the emulator of an architecture: found on the PATH, or one line that says what to install."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mcu.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """A family of cores that one compiler builds for.

    Attributes:
        name: key of its packages in ``packages.txt``, and suffix of its start-up and platform files.
        title: name in messages and documents.
        prefix: of the names of the compiler's programs.
        emulator: program that runs their output.
        link_flags: additional flags for linking with its C library.
    """

    name: str
    title: str
    prefix: str
    emulator: str
    link_flags: tuple[str, ...] = ()

    @property
    def startup(self) -> str:
        """The source with its reset handler."""
        return f"startup_{self.name}.c"

    @property
    def self_test(self) -> tuple[str, ...]:
        """The sources a self test needs from the emulated machine, and the reset handler."""
        return "platform_semihosting.c", f"platform_{self.name}.c", self.startup

    @property
    def packages(self) -> str:
        """The Debian packages with its tools, separated by spaces."""
        lines = (files("mcu.firmware") / "packages.txt").read_text("ascii").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith(f"{self.name}: "))


ARM = Architecture("arm", "Arm Cortex-M", "arm-none-eabi-", "qemu-system-arm", ("--specs=nano.specs",))
RISCV = Architecture("riscv", "RISC-V (RV32IMC, RV32IMAC)", "riscv64-unknown-elf-", "qemu-system-riscv32")
ARCHITECTURES = (ARM, RISCV)


class ToolsMissing(InputError):  # noqa: N818
    """A program that firmware needs is not installed; the message names the packages."""


@dataclass(frozen=True)
class Toolchain:
    """Paths of an architecture's programs, None where absent."""

    gcc: Path | None
    qemu: Path | None
    architecture: Architecture = ARM

    def advice(self) -> str | None:
        """What to install, or None if everything is there."""
        programs = {f"{self.architecture.prefix}gcc": self.gcc, self.architecture.emulator: self.qemu}
        missing = [name for name, path in programs.items() if path is None]
        if not missing:
            return None
        return (
            f"firmware for {self.architecture.title} needs {' and '.join(missing)}: "
            f"apt-get install {self.architecture.packages}"
        )

    def compiler(self) -> Path:
        """The compiler. Raises ToolsMissing if absent."""
        return self._require(self.gcc)

    def emulator(self) -> Path:
        """The emulator. Raises ToolsMissing if absent."""
        return self._require(self.qemu)

    def size_tool(self) -> Path:
        """The section size lister that comes with the compiler. Raises ToolsMissing if absent."""
        return self.compiler().with_name(f"{self.architecture.prefix}size")

    def symbol_tool(self) -> Path:
        """The symbol lister that comes with the compiler. Raises ToolsMissing if absent."""
        return self.compiler().with_name(f"{self.architecture.prefix}nm")

    def version(self) -> str:
        """The compiler's version. Raises ToolsMissing if absent."""
        command = [str(self.compiler()), "-dumpfullversion"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _require(self, path: Path | None) -> Path:
        if path is None:
            raise ToolsMissing(self.advice())
        return path


def toolchain(architecture: Architecture = ARM) -> Toolchain:
    """Look for Debian's compiler and QEMU of an architecture on the PATH."""
    gcc, qemu = shutil.which(f"{architecture.prefix}gcc"), shutil.which(architecture.emulator)
    return Toolchain(Path(gcc) if gcc else None, Path(qemu) if qemu else None, architecture)
