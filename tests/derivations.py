"""Series made of others, as the tests of `xdicom.derive` make them."""

import pydicom
from factories import make_series

import xdicom as xd


def opened(folder, **options):
    """Return the only series of a folder, made if need be."""
    if options or not folder.exists():
        make_series(folder, **options)
    return xd.database(folder).series()[0]


def saved(series, target):
    """Save a series and return its datasets by InstanceNumber."""
    series.save(target)
    return sorted(map(pydicom.dcmread, target.rglob("*.dcm")), key=lambda ds: ds.InstanceNumber)


def derived(series, array, target, **options):
    """Set an array on a new sibling of a series and return the saved datasets."""
    new = series.new_sibling(SeriesDescription="derived")
    new.set_xarray(array, **options)
    return saved(new, target)


def raw(ds, keyword):
    """Return the text of an element as it stands in the file."""
    return ds.get_item(keyword).value
