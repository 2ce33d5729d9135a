//! Small files are stored in the seal itself: the name of such a file contains its content. In a store, a file costs a
//! request, however small the file is, and the seal is written in any case.

use crate::epoch::{EpochLog, StateFiles, WITHIN, number_of};
use crate::storage::crash;
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A file of up to this many bytes is small.
const SMALL: usize = 16 << 10;
/// The small files of one operator take up to this many bytes, because each seal repeats them until they are compacted.
const TOGETHER: usize = 64 << 10;
/// The small files of all operators together take up to this many bytes.
const ALL: usize = 128 << 10;
/// Between the name and the content. The encoding has neither this letter nor a slash.
const CONTENT: char = '#';

fn taken(files: &StateFiles) -> usize {
    files.names().filter(|f| f.starts_with(WITHIN)).map(String::len).sum()
}

/// The number of bytes that a further small file of an operator may have.
pub(super) fn room(files: &StateFiles, of_all: usize) -> usize {
    TOGETHER.saturating_sub(taken(files)).min(of_all)
}

/// The number of bytes that further small files of all operators may have.
pub(super) fn room_of_all(state: &BTreeMap<String, StateFiles>) -> usize {
    ALL.saturating_sub(state.values().map(taken).sum())
}

/// The place of a file, for messages.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    let Some(small) = name.strip_prefix(WITHIN) else { return name.into() };
    let epoch = number_of(small).unwrap_or_default();
    let name = small.split(CONTENT).next().unwrap_or_default();
    format!("{name}, which stands in the seals from epoch {epoch} on,").into()
}

impl EpochLog {
    /// Writes a file as `write_file` does. If the file is small and has at most `room` bytes, it is not written, and
    /// the returned name contains its content. On local disk a file costs little, and can be looked at.
    pub(crate) async fn keep_file(
        &self,
        folder: String,
        epoch: i64,
        kind: &str,
        bytes: Vec<u8>,
        room: usize,
    ) -> Result<String> {
        if self.at.is_local() || bytes.len() > SMALL.min(room) {
            return self.write_file(folder, epoch, kind, bytes).await;
        }
        let name = Self::file_name(epoch, kind);
        // The crash points are those of a file that is written.
        let path = self.at.object(&format!("{folder}/{name}"));
        crash::before("put", &path);
        crash::after("put", &path);
        Ok(format!("{WITHIN}{name}{CONTENT}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The content of a file. None if it is gone.
    pub(crate) async fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(small) = name.strip_prefix(WITHIN) else { return self.at.get(name).await };
        let content = small.split_once(CONTENT).map(|(_, content)| content);
        let bytes = content.and_then(|content| URL_SAFE_NO_PAD.decode(content).ok());
        bytes.map(Some).ok_or_else(|| {
            Error::storage(format!(
                "{}: {} is damaged. Restore the seal from a backup, or start over with full_refresh=True.",
                self.at.display(),
                shown(name)
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Location;

    #[tokio::test]
    async fn small_files_of_a_store_stand_in_their_names_as_long_as_there_is_room() {
        let log = EpochLog::new(Location::in_memory().unwrap());
        let mut files = StateFiles::default();
        let mut contents = vec![];
        for n in 0..40u8 {
            let content: Vec<u8> = (0..4000u32).map(|i| (i as u8).wrapping_mul(31) ^ n).collect();
            let name = log
                .keep_file("state/a".into(), n.into(), "increment", content.clone(), room(&files, ALL))
                .await
                .unwrap();
            files.increments.push(name);
            contents.push(content);
        }
        let small = files.increments.iter().filter(|f| f.starts_with(WITHIN)).count();
        assert!((8..16).contains(&small), "{small}");
        for (name, content) in files.increments.iter().zip(&contents) {
            assert_eq!(log.read_file(name).await.unwrap().as_ref(), Some(content), "{}", shown(name));
            assert!(shown(name).len() < 100 && shown(name).contains(".arrow"), "{}", shown(name));
        }
        let large = log.keep_file("staged/t".into(), 7, "rows", vec![1; SMALL + 1], usize::MAX).await.unwrap();
        assert!(large.starts_with("staged/t/00000000000000000007-rows-"), "{large}");
        assert_eq!(log.read_file(&large).await.unwrap().unwrap().len(), SMALL + 1);
        let e = log.read_file("within/00000000000000000007-rows-x.arrow#!").await.unwrap_err();
        assert!(
            e.message
                .contains("00000000000000000007-rows-x.arrow, which stands in the seals from epoch 7 on, is damaged"),
            "{e}"
        );
    }
}
