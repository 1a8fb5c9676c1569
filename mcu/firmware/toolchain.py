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
        compile_flags, link_flags: additional flags for compiling, and for linking with its C library.
        startup: the source with its reset handler; none where that is the C library's.
        platform: the sources a self test needs from the emulated machine.
        counted: what the emulator counts, "instructions" or "cycles".
        stack_alignment: bytes; ``alignment``: of tables and functions in flash.
        pointer: bytes of a pointer and of a count.
    """

    name: str
    title: str
    prefix: str
    emulator: str
    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    startup: tuple[str, ...]
    platform: tuple[str, ...]
    counted: str = "instructions"
    stack_alignment: int = 8
    alignment: int = 4
    pointer: int = 4

    @property
    def self_test(self) -> tuple[str, ...]:
        """The sources a self test needs from the emulated machine, and the reset handler."""
        return *self.platform, *self.startup

    @property
    def packages(self) -> str:
        """The Debian packages with its tools, separated by spaces."""
        lines = (files("mcu.firmware") / "packages.txt").read_text("ascii").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith(f"{self.name}: "))


_GRAPHS = ("-fcallgraph-info=su",)
_OWN_START = ("-nostartfiles", "-T", "link.ld")
ARM = Architecture(
    "arm",
    "Arm Cortex-M",
    "arm-none-eabi-",
    "qemu-system-arm",
    _GRAPHS,
    ("--specs=nano.specs", *_OWN_START),
    ("startup_arm.c",),
    ("platform_semihosting.c", "platform_arm.c"),
)
RISCV = Architecture(
    "riscv",
    "RISC-V (RV32IMC, RV32IMAC)",
    "riscv64-unknown-elf-",
    "qemu-system-riscv32",
    _GRAPHS,
    _OWN_START,
    ("startup_riscv.c",),
    ("platform_semihosting.c", "platform_riscv.c"),
)
AVR = Architecture(
    "avr",
    "AVR (ATmega328P, ATmega2560)",
    "avr-",
    "simavr",
    # the last: frames hold what calls pass, so that their sizes say all
    ("-std=gnu11", "-fstack-usage", "-maccumulate-args"),
    ("-T", "link_avr.ld", "-Wl,--no-stubs"),
    (),
    ("platform_avr.c",),
    counted="cycles",
    stack_alignment=1,
    alignment=1,
    pointer=2,
)
ARCHITECTURES = (ARM, RISCV, AVR)


class ToolsMissing(InputError):  # noqa: N818
    """A program that firmware needs is not installed; the message names the packages."""


@dataclass(frozen=True)
class Toolchain:
    """Paths of an architecture's programs, None where absent."""

    gcc: Path | None
    runner: Path | None
    architecture: Architecture = ARM

    def advice(self) -> str | None:
        """What to install, or None if everything is there."""
        programs = {f"{self.architecture.prefix}gcc": self.gcc, self.architecture.emulator: self.runner}
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
        return self._require(self.runner)

    def size_tool(self) -> Path:
        """The section size lister that comes with the compiler. Raises ToolsMissing if absent."""
        return self.compiler().with_name(f"{self.architecture.prefix}size")

    def symbol_tool(self) -> Path:
        """The symbol lister that comes with the compiler. Raises ToolsMissing if absent."""
        return self.compiler().with_name(f"{self.architecture.prefix}nm")

    def listing(self, elf: Path) -> str:
        """A linked program, disassembled. Raises ToolsMissing if the compiler is absent."""
        return self._dump("-d", elf)

    def relocations(self, item: Path) -> str:
        """An object file's symbols, and what its sections refer to. Raises ToolsMissing if the compiler is absent."""
        return self._dump("-rt", item)

    def version(self) -> str:
        """The compiler's version. Raises ToolsMissing if absent."""
        command = [str(self.compiler()), "-dumpfullversion", "-dumpversion"]  # the first since GCC 7
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _dump(self, what: str, item: Path) -> str:
        tool = self.compiler().with_name(f"{self.architecture.prefix}objdump")
        return subprocess.run([str(tool), what, str(item)], capture_output=True, text=True, check=True).stdout

    def _require(self, path: Path | None) -> Path:
        if path is None:
            raise ToolsMissing(self.advice())
        return path


def toolchain(architecture: Architecture = ARM) -> Toolchain:
    """Look for Debian's compiler and emulator of an architecture on the PATH."""
    gcc, runner = shutil.which(f"{architecture.prefix}gcc"), shutil.which(architecture.emulator)
    return Toolchain(Path(gcc) if gcc else None, Path(runner) if runner else None, architecture)
