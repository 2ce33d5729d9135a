//! Mounts that look like a disk and have no put-if-absent: no hard links, and a rename that is not one step.

use super::Mounts;
use crate::{Error, Result};
use parking_lot::RwLock;
use std::path::{Path, PathBuf};

const KNOWN: [(&str, &str); 2] = [("/Volumes", "Unity Catalog volumes"), ("/dbfs", "the DBFS mount")];

/// Folders that tests treat like `/Volumes`.
static TREATED: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// For tests: the folder has no hard links from now on, like `/Volumes`.
pub(crate) fn treat_as_mount(folder: PathBuf) {
    TREATED.write().push(folder);
}

/// Whether hard links fail here, as they do on such a mount.
pub(super) fn has_no_links(path: &Path) -> bool {
    TREATED.read().iter().any(|folder| path.starts_with(folder))
}

/// The mount that the path is on. The mount is refused unless `mounts` allows it.
pub(super) fn find(path: &Path, mounts: Mounts) -> Result<Option<&'static str>> {
    let known = KNOWN.iter().find(|(mount, _)| path.starts_with(mount)).map(|(_, what)| *what);
    let Some(what) = known.or_else(|| has_no_links(path).then_some("this mount")) else { return Ok(None) };
    match mounts {
        Mounts::Read | Mounts::SingleWriter => Ok(Some(what)),
        Mounts::Refused => Err(Error::storage(format!(
            "{}: {what} does not have put-if-absent (creating a file only if it is absent), so two runs at a time would damage a Delta table there. Use \
             a cloud URL (s3://, abfss://, gs://) or a table of Unity Catalog (catalog.schema.table). If this job is the only one that ever writes \
             there, and never runs twice at a time, say single_writer=True.",
            path.display()
        ))),
    }
}
