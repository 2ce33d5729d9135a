//! Lists the newer files of a folder with many old ones. Each commit needs them from a table's log, whose folder has
//! one file for each version of several weeks.

use object_store::path::Path;
use object_store::{Error, ObjectMeta, Result};
use std::fs;
use std::io::ErrorKind;

/// Names that are the same on disk and in a store.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Files that are being written. No listing shows them.
fn is_temporary(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The files in `folder` (as a store path: `prefix`) above `offset`, in order. `None` if the names alone are not
/// enough: the folder contains folders, or names that a store spells differently. object_store's own listing builds a
/// path for every name, which is a hundred times the work.
pub(super) fn later(folder: &std::path::Path, prefix: &Path, offset: &Path) -> Result<Option<Vec<ObjectMeta>>> {
    let name = offset.prefix_match(prefix).and_then(|mut parts| parts.next().filter(|_| parts.next().is_none()));
    let Some(after) = name.as_ref().map(AsRef::as_ref).filter(|name| is_plain(name)) else { return Ok(None) };
    let failed = |source: std::io::Error| Error::Generic { store: "local disk", source: source.into() };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(vec![])),
        entries => entries.map_err(failed)?,
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return Ok(None) };
        if is_temporary(name) {
            continue;
        }
        let is_file = entry.file_type().map_err(failed)?.is_file();
        if !is_file || !is_plain(name) {
            return Ok(None);
        }
        if name <= after {
            continue;
        }
        let about = match entry.metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => continue, // removed since
            about => about.map_err(failed)?,
        };
        found.push(ObjectMeta {
            location: prefix.clone().join(name),
            last_modified: about.modified().map_err(failed)?.into(),
            size: about.len(),
            e_tag: None,
            version: None,
        });
    }
    found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    Ok(Some(found))
}

/// At most this many folders of one table are searched.
const FOLDERS: usize = 10_000;

/// Removes temporary files older than `age`, in a folder and its subfolders. Returns how many. Files that cannot be
/// read or removed are left for the next time.
pub(super) fn sweep(folder: &std::path::Path, age: std::time::Duration) -> usize {
    let (mut removed, mut folders) = (0, vec![folder.to_path_buf()]);
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        seen += 1;
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && seen + folders.len() < FOLDERS {
                folders.push(entry.path());
            }
            if !kind.is_file() || !entry.file_name().to_str().is_some_and(is_temporary) {
                continue;
            }
            let written = entry.metadata().and_then(|m| m.modified()).ok();
            let old = written.and_then(|at| at.elapsed().ok()).is_some_and(|a| a >= age);
            if old && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStore;
    use object_store::local::LocalFileSystem;

    fn folder() -> (tempfile::TempDir, Path) {
        let dir = tempfile::tempdir().unwrap();
        let prefix = Path::from_filesystem_path(dir.path()).unwrap();
        (dir, prefix)
    }

    /// Sorted, as object_store's listing.
    fn theirs(prefix: &Path, offset: &Path) -> Vec<(Path, u64, chrono::DateTime<chrono::Utc>)> {
        let store = LocalFileSystem::new();
        let listed = store.list_with_offset(Some(prefix), offset).try_collect::<Vec<_>>();
        let mut listed: Vec<_> = futures::executor::block_on(listed)
            .unwrap()
            .into_iter()
            .map(|m| (m.location, m.size, m.last_modified))
            .collect();
        listed.sort();
        listed
    }

    #[test]
    fn what_is_later_in_a_log_is_what_object_store_finds() {
        let (dir, prefix) = folder();
        let write = |name: &str, bytes: &str| fs::write(dir.path().join(name), bytes).unwrap();
        for n in 0..300 {
            write(&format!("{n:020}.json"), &"x".repeat(n));
        }
        write("00000000000000000250.checkpoint.parquet", "parquet");
        write("_last_checkpoint", "{}");
        write("00000000000000000299.json#123", "being written");
        write(".00000000000000000299.json.crc", "of Hadoop");
        for offset in
            ["0", "00000000000000000000.json", "00000000000000000250", "00000000000000000299.json", "_", "zzz"]
        {
            let offset = prefix.clone().join(offset);
            let ours: Vec<_> = later(dir.path(), &prefix, &offset).unwrap().unwrap();
            let ours: Vec<_> = ours.into_iter().map(|m| (m.location, m.size, m.last_modified)).collect();
            assert_eq!(ours, theirs(&prefix, &offset), "{offset}");
        }
        assert_eq!(
            later(dir.path(), &prefix, &prefix.clone().join("00000000000000000297.json")).unwrap().unwrap().len(),
            3
        );
    }

    #[test]
    fn a_folder_that_is_not_there_has_nothing_later() {
        let (dir, prefix) = folder();
        let prefix = prefix.join("none");
        let offset = prefix.clone().join("0");
        assert_eq!(later(&dir.path().join("none"), &prefix, &offset).unwrap(), Some(vec![]));
        assert_eq!(theirs(&prefix, &offset), vec![]);
    }

    #[test]
    fn what_names_alone_do_not_tell_is_left_to_object_store() {
        for odd in ["sub/file", "a name", "a%20name", "ä", "x#y", "link"] {
            let (dir, prefix) = folder();
            let file = dir.path().join(odd);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(dir.path().join("1"), "").unwrap();
            if odd == "link" {
                #[cfg(unix)]
                std::os::unix::fs::symlink(dir.path().join("1"), &file).unwrap();
            } else {
                fs::write(&file, "").unwrap();
            }
            assert_eq!(later(dir.path(), &prefix, &prefix.clone().join("0")).unwrap(), None, "{odd}");
        }
        let (dir, prefix) = folder();
        for offset in ["elsewhere/0".into(), prefix.clone().join("deeper").join("0"), prefix.clone()] {
            assert_eq!(later(dir.path(), &prefix, &offset).unwrap(), None, "{offset}");
        }
    }
}
