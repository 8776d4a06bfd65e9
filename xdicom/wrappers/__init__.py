"""Functions of other packages that take and return series: `from xdicom.wrappers import scipy`.

Each module has the name of the package that it wraps, which is imported with it and not before.
"""

import importlib
from types import ModuleType

__all__ = ["scipy"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"there is no wrapper {name!r}; there are {__all__}")


def __dir__() -> list[str]:
    return __all__
