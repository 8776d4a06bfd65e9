"""DICOM folders as labelled lazy arrays, and arrays as DICOM again."""

__version__ = "0.1.0"
