-- The catalog of one folder. Every blob is packed by xdicom.packing; nothing here is a pickle.
CREATE TABLE property (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- One row a file; paths are bytes relative to the folder. status: ok, skipped (not DICOM), broken.
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, status TEXT NOT NULL, problems TEXT NOT NULL
);
-- One row a series; the blobs have one entry a frame.
CREATE TABLE series (
    id INTEGER PRIMARY KEY, patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL, frames INTEGER NOT NULL,
    file BLOB NOT NULL, number BLOB NOT NULL, "offset" BLOB NOT NULL, length BLOB NOT NULL,
    UNIQUE (patient, study, series)
);
-- One row per series and tag: the distinct raw values, and which row of the series has which.
CREATE TABLE value (
    series INTEGER NOT NULL, tag INTEGER NOT NULL, raws BLOB NOT NULL, codes BLOB, PRIMARY KEY (series, tag)
) WITHOUT ROWID;
-- What is staged, in the same form; files are here the chunk files of staged pixels, or the user's own.
CREATE TABLE staged_file (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL
);
CREATE TABLE staged_series (
    id INTEGER PRIMARY KEY, patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL, frames INTEGER NOT NULL,
    file BLOB NOT NULL, number BLOB NOT NULL, "offset" BLOB NOT NULL, length BLOB NOT NULL,
    UNIQUE (patient, study, series)
);
CREATE TABLE staged_value (
    series INTEGER NOT NULL, tag INTEGER NOT NULL, raws BLOB NOT NULL, codes BLOB, PRIMARY KEY (series, tag)
) WITHOUT ROWID;
-- Series made by new_sibling: the series that they follow.
CREATE TABLE follows (
    patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL,
    source_patient TEXT NOT NULL, source_study TEXT NOT NULL, source_series TEXT NOT NULL,
    PRIMARY KEY (patient, study, series)
) WITHOUT ROWID;
-- One row per edited tag of a table: of the catalog (kind 0) or staged (kind 1). raws NULL: the element is removed.
-- codes as in value, -2 where a row is not edited; NULL where all rows get the same.
CREATE TABLE edit (
    kind INTEGER NOT NULL, patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL, tag INTEGER NOT NULL,
    raws BLOB, codes BLOB, PRIMARY KEY (kind, patient, study, series, tag)
) WITHOUT ROWID;
-- The rows that the edits of a table of the catalog were made for, by SOPInstanceUID, frame number and matrix.
CREATE TABLE edit_row (
    kind INTEGER NOT NULL, patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL,
    digest BLOB NOT NULL, identity BLOB NOT NULL, PRIMARY KEY (kind, patient, study, series)
) WITHOUT ROWID;
-- A save past its point of no return: files that are written, flushed and wait to be put in place. temp is relative to
-- the private folder; old and new are the stamps of the file that goes and of the one that comes.
CREATE TABLE job_file (
    path BLOB PRIMARY KEY, temp BLOB NOT NULL, action TEXT NOT NULL, instance TEXT NOT NULL, digest BLOB NOT NULL,
    old_size INTEGER NOT NULL, old_mtime_ns INTEGER NOT NULL, old_inode INTEGER NOT NULL,
    new_size INTEGER NOT NULL, new_mtime_ns INTEGER NOT NULL, new_inode INTEGER NOT NULL
) WITHOUT ROWID;
-- The tables whose edits that save makes permanent.
CREATE TABLE job_layer (
    kind INTEGER NOT NULL, patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL,
    PRIMARY KEY (kind, patient, study, series)
) WITHOUT ROWID;
