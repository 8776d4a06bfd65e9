"""Every exception that xdicom raises on purpose; each is also the builtin that a caller expects.

It holds no logic: the text, with what was found and what to type, is written where the fault is seen.
"""


class XdicomError(Exception):
    """Root of all errors that xdicom raises on purpose."""

    def __str__(self) -> str:
        """Return the text as written (a KeyError would show its repr)."""
        return " ".join(str(arg) for arg in self.args)


class UnknownTagError(XdicomError, KeyError, AttributeError):
    """A name is no DICOM keyword, no registered attribute and no tag."""


class TagValueError(XdicomError, ValueError):
    """A value cannot be held by the value representation of its element."""


class NotOneValueError(XdicomError, ValueError):
    """A single value was asked for where there are several, or none."""


class NotDicomError(XdicomError, ValueError):
    """A file is not DICOM at all."""


class BrokenFileError(XdicomError, ValueError):
    """A file is DICOM but damaged: truncated, inconsistent or over a limit."""


class PixelError(XdicomError, ValueError):
    """The pixels of a frame cannot be given; the header may still be fine."""


class MissingDecoderError(PixelError, ImportError):
    """The decoder of a transfer syntax is not installed."""


class StaleError(XdicomError, OSError):
    """The file behind a frame changed since it was scanned, and the frame in it is no longer the same."""


class StackError(XdicomError, ValueError):
    """Frames do not fill a grid along the dims that were asked for."""


class GeometryError(XdicomError, ValueError):
    """There is no position, orientation or spacing, or no regular one."""


class RecordError(XdicomError, LookupError):
    """A record does not exist (any more), or an operation makes no sense on it."""


class EditError(XdicomError, ValueError):
    """An edit cannot be staged."""


class SaveError(XdicomError, OSError):
    """A save was refused or interrupted; the edits are still staged."""


class LockedError(XdicomError, TimeoutError):
    """Another process is editing the folder."""


class CatalogError(XdicomError, OSError):
    """The catalog of a folder cannot be read or written."""


class MissingPackageError(XdicomError, ImportError):
    """An optional package is not installed."""
