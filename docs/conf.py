"""Settings of the documentation, for Sphinx."""

import xdicom

project = "xdicom"
author = "xdicom contributors"
release = version = xdicom.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"
html_theme = "alabaster"
html_theme_options = {"description": "DICOM folders as labelled lazy arrays", "page_width": "70em"}
