"""Fit T1 to several flip angles on a dask cluster, and write the map as DICOM."""

import xarray as xr
from distributed import Client, LocalCluster

import xdicom as xd
from xdicom.phantom import Phantom
from xdicom.phantomstudy import write_phantom
from xdicom.relaxation import fit_t1


def main() -> None:
    """Make a phantom study, fit it by two worker processes, and save the map."""
    write_phantom(Phantom(columns=48, rows=64, slices=6, flip_angles=(3.0, 8.0, 15.0)), "scans")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
        xd.database("scans") as db,
    ):
        angles = db.series(FlipAngle=lambda angle: angle > 0)
        signal = xd.to_xarray(angles, dims=("slice", "FlipAngle"), chunks={"slice": 1})
        t1 = xr.apply_ufunc(
            fit_t1,
            signal,
            input_core_dims=[["FlipAngle"]],
            kwargs={"flip_angles": signal.FlipAngle.values, "repetition_time": signal.attrs["RepetitionTime"]},
            dask="parallelized",
            output_dtypes=["float32"],
        )
        result = angles[0].new_sibling(SeriesDescription="T1 map")
        result.set_xarray(t1, range=(0, 5000))  # the workers read, fit and stage, slice by slice
        result.save("results")
        print(result.to_xarray().max().compute().item(), "ms at most")


if __name__ == "__main__":
    main()
