"""Functions of other packages that take and return series: `from xdicom.wrappers import scipy`.

`scipy` is imported when it is used and not before; the other modules are parts of it.
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
