//! The directories of a user's brokers.

use crate::{
    error::{Error, Result},
    kafka::ffi,
};
use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The directory of a broker: a lock, the control socket, the cluster's socket, the helper's log.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

/// The path of a Unix socket has at most 107 bytes.
const SOCKET_PATH: usize = 107;

impl Place {
    /// Creates the directory so that only this user can read it.
    pub(super) fn of(name: &str) -> Result<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 40 || name.starts_with('.') || !name.chars().all(legal) {
            return Err(Error::config(format!(
                "'{name}' is not a valid name for an embedded broker. Use 1 to 40 letters, digits, dots, underscores and hyphens."
            )));
        }
        let root = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(dir)
                if dir.is_absolute() && dir.is_dir() && owned(&dir) && dir.as_os_str().len() < SOCKET_PATH - 70 =>
            {
                dir.join("bayou")
            }
            _ => PathBuf::from(format!("/tmp/bayou-{}", ffi::user_id())),
        };
        private_directory(&root)?;
        let place = root.join(name);
        private_directory(&place)?;
        Ok(Self(place))
    }

    pub(super) fn at(directory: &Path) -> Self {
        Self(directory.to_path_buf())
    }
    pub(super) fn directory(&self) -> &Path {
        &self.0
    }
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
    /// The socket behind the gate.
    pub(super) fn mock_socket(&self) -> PathBuf {
        self.0.join("mock.sock")
    }
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("helper.log")
    }
    /// Contains the scratch directory of the last helper, in case the helper could not remove it.
    pub(super) fn scratch_note(&self) -> PathBuf {
        self.0.join("scratch.path")
    }

    /// The process that starts or ends the helper holds it. Closing the file releases the lock, also after a crash.
    pub(super) fn lock_file(&self) -> std::io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(self.0.join("lock"))
    }

    /// Whether the lock is still the file that other processes will find.
    pub(super) fn is_locked_by(&self, lock: &File) -> bool {
        let there = fs::metadata(self.0.join("lock"));
        there
            .is_ok_and(|there| lock.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino())))
    }
}

fn owned(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|m| m.is_dir() && m.uid() == ffi::user_id())
}

fn private_directory(directory: &Path) -> Result<()> {
    let wrong = |why: String| {
        Error::connection(format!(
            "the embedded broker needs the directory {} for this user only: {why}. Remove it, or set XDG_RUNTIME_DIR.",
            directory.display()
        ))
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(wrong(e.to_string())),
    }
    // Everybody can write to /tmp. A different user can have created the directory first, and could read in it.
    let metadata = fs::symlink_metadata(directory).map_err(|e| wrong(e.to_string()))?;
    if !metadata.is_dir() || metadata.uid() != ffi::user_id() {
        return Err(wrong("it belongs to a different user".into()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong("other users can enter it".into()));
    }
    Ok(())
}
