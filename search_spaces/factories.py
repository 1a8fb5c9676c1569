"""``module:factory`` references and entry points: import, call with the arguments they accept, errors in one line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from mcu.errors import InputError


def is_reference(name: str) -> bool:
    """Whether ``name`` is of the form ``package.module:factory``."""
    return ":" in name


def check_reference(reference: str) -> tuple[str, str]:
    """Module and attribute of ``package.module:factory``.

    Raises:
        InputError: when either part is not a dotted Python name.
    """
    module, _, attribute = reference.partition(":")
    for part in (module, attribute):
        if not part or not all(piece.isidentifier() for piece in part.split(".")):
            raise InputError(f"{reference!r}: must be of the form package.module:factory")
    return module, attribute


def call_reference(reference: str, base: str | None, offered: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Import ``package.module:factory``, looking in ``base`` first, and call it; see :func:`call_factory`.

    ``base`` is on the import path only while the factory is imported and called.

    Raises:
        InputError: when it cannot be imported, is not callable, or raises.
    """
    module_name, attribute = check_reference(reference)
    with _beside(base, module_name):
        factory = _attribute(_import(module_name, reference, base), attribute, reference)
        return call_factory(factory, reference, offered, options)


def load_reference(reference: str, base: str | None) -> Callable[..., Any]:
    """The function that ``package.module:function`` names, looked up in ``base`` first.

    Raises:
        InputError: when it cannot be imported or is not a function.
    """
    module_name, attribute = check_reference(reference)
    with _beside(base, module_name):
        found = _attribute(_import(module_name, reference, base), attribute, reference)
    if not callable(found):
        raise InputError(f"{reference!r}: is a {type(found).__name__}, must be a function")
    function: Callable[..., Any] = found
    return function


def _attribute(module: ModuleType, attribute: str, reference: str) -> Any:
    found: Any = module
    for piece in attribute.split("."):
        if not hasattr(found, piece):
            raise InputError(f"{reference!r}: {module.__file__ or module.__name__} has no {attribute!r}")
        found = getattr(found, piece)
    return found


def call_factory(factory: Any, name: str, offered: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Call ``factory`` with those of ``offered`` that its signature takes and all of ``options``.

    Raises:
        InputError: when it is not callable, does not accept an option, needs other arguments, or raises.
    """
    if not callable(factory):
        raise InputError(f"{name!r}: is a {type(factory).__name__}, must be a function or class")
    arguments = _arguments(factory, name, offered, options)
    return called(factory, repr(name), **arguments)


def called(function: Callable[..., Any], name: str, *given: Any, **arguments: Any) -> Any:
    """What a user's function returns.

    Raises:
        InputError: beginning with ``name``, when it raises, with the place where it did.
    """
    try:
        return function(*given, **arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name} raised {_one_line(error)}") from error


def _arguments(
    factory: Callable[..., Any], name: str, offered: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return dict(options)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    named = [key for key, parameter in parameters.items() if parameter.kind in _BY_NAME]
    for key in options:
        if key not in named and not takes_any:
            allowed = ", ".join(key for key in named if key not in offered) or "none"
            raise InputError(f"{name!r} has no option {key!r}: its options are {allowed}")
    arguments = {key: value for key, value in offered.items() if key in named or takes_any} | dict(options)
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in _NEEDED
        if required and (key not in arguments or parameter.kind is parameter.POSITIONAL_ONLY):
            raise InputError(f"{name!r} needs {key!r}: it is given {', '.join(offered)} and its options")
    return arguments


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_NEEDED = (*_BY_NAME, inspect.Parameter.POSITIONAL_ONLY)


def _import(module_name: str, reference: str, base: str | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            looked = f"{base} and the Python path" if base else "the Python path"
            raise InputError(f"{reference!r}: no module {missing!r} in {looked}") from None
        raise InputError(f"{reference!r}: importing it raised {_one_line(error)}") from error
    except Exception as error:
        raise InputError(f"{reference!r}: importing it raised {_one_line(error)}") from error


_ELSEWHERE: dict[str, str] = {}


def moved(paths: Mapping[str, str]) -> None:
    """Register where folders and files that a sweep names are on this machine."""
    _ELSEWHERE.update(paths)


def local_path(path: str) -> str:
    """The path on this machine of a folder or file that a sweep names."""
    return _ELSEWHERE.get(path, path)


def require_beside(reference: str, base: str | None) -> None:
    """Refuse a function whose module is neither in the folder ``base`` nor in a folder of installed packages.

    Raises:
        InputError: naming the function and the folder.
    """
    module_name, _ = check_reference(reference)
    if folder_beside(base, module_name.partition(".")[0]) is None:
        raise InputError(
            f"{reference!r}: there is no such module in {base}; functions of a sweep that came from elsewhere must lie "
            "beside it, those of installed packages are not run"
        )


def folder_beside(base: str | None, top: str) -> Path | None:
    """The folder of a sweep if it holds a module of that name, and is none of installed packages."""
    folder = Path(local_path(base)).resolve() if base else None
    if folder is None or not ((folder / f"{top}.py").is_file() or (folder / top).is_dir()):
        return None
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()} - {Path(sys.prefix).resolve()}
    return None if any(place in (folder, *folder.parents) for place in installed) else folder


@contextmanager
def _beside(base: str | None, module_name: str) -> Iterator[None]:
    """Put ``base`` first on the import path when it holds the module; undo it afterwards.

    A module of the same name that came from elsewhere steps aside for the while, so that two sweeps in
    one process can each have their own ``model.py``.
    """
    top = module_name.partition(".")[0]
    folder = folder_beside(base, top)
    if folder is None:
        if top in sys.stdlib_module_names:
            raise InputError(f"{module_name!r}: is a module of Python itself; there is no {top}.py beside the sweep")
        yield
        return
    aside = {} if _lies_in(sys.modules.get(top), folder) else _pop_modules(top)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        if aside:
            _pop_modules(top)
            sys.modules.update(aside)


def _lies_in(module: ModuleType | None, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(place and folder in Path(place).resolve().parents for place in places)


def _pop_modules(top: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == top or name.startswith(top + ".")]
    return {name: sys.modules.pop(name) for name in names}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"
