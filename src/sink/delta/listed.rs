//! The files of a table, kept from one commit to the next. Modes update and complete need them, because their commits
//! remove files.

use super::{Table, within};
use crate::{Error, Result};
use deltalake::kernel::LogicalFileView;
use deltalake::kernel::{Action, Add, Remove};
use futures::TryStreamExt;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Listed {
    /// By path and deletion vector: a file can be replaced by itself with a different vector.
    files: BTreeMap<(String, Option<String>), Add>,
}

fn vector(of: &Option<deltalake::kernel::DeletionVectorDescriptor>) -> Option<String> {
    of.as_ref().map(|v| format!("{}{}@{}", v.storage_type, v.path_or_inline_dv, v.offset.unwrap_or_default()))
}

impl Listed {
    /// The files of the loaded snapshot.
    pub(super) async fn load(table: &Table) -> Result<Self> {
        let log = table.table.log_store();
        let views = table.snapshot()?.snapshot().file_views(log.as_ref(), None);
        let views: Vec<_> = within(&table.spec.location, "listing the table's files", views.try_collect()).await?;
        let mut out = Self::default();
        for view in views {
            let add = listed(&view);
            out.files.insert((add.path.clone(), vector(&add.deletion_vector)), add);
        }
        Ok(out)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Add> {
        self.files.values()
    }

    /// Follows a commit. Within one commit, Delta does not order the actions, but a file is never both added and removed
    /// with the same deletion vector.
    pub(super) fn take(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            match action {
                Action::Add(add) => {
                    self.files.insert((add.path.clone(), vector(&add.deletion_vector)), add);
                }
                Action::Remove(remove) => {
                    self.files.remove(&(remove.path, vector(&remove.deletion_vector)));
                }
                _ => {}
            }
        }
    }

    /// Follows the commit of a different writer.
    pub(super) fn take_commit(&mut self, bytes: &[u8]) -> Result<()> {
        for line in lines(bytes) {
            let line = line?;
            self.take(line.add.map(Action::Add).into_iter().chain(line.remove.map(Action::Remove)));
        }
        Ok(())
    }
}

/// A line of a commit, as far as it is about files.
#[derive(Deserialize)]
pub(super) struct Line {
    pub add: Option<Add>,
    pub remove: Option<Remove>,
}

pub(super) fn lines(commit: &[u8]) -> impl Iterator<Item = Result<Line>> {
    let lines = serde_json::Deserializer::from_slice(commit).into_iter::<Line>();
    lines.map(|line| line.map_err(|e| Error::storage(format!("a commit of the table's log is damaged: {e}"))))
}

/// The entry of a file.
pub(super) fn listed(view: &LogicalFileView) -> Add {
    Add {
        path: view.path().to_string(),
        partition_values: view.partition_values_map(),
        size: view.size(),
        modification_time: view.modification_time(),
        data_change: true,
        stats: view.stats(),
        deletion_vector: view.deletion_vector_descriptor(),
        ..Add::default()
    }
}

/// The action that removes a file.
pub(super) fn remove(add: &Add, millis: i64) -> Remove {
    Remove {
        path: add.path.clone(),
        data_change: true,
        deletion_timestamp: Some(millis),
        extended_file_metadata: Some(true),
        size: Some(add.size),
        partition_values: Some(add.partition_values.clone()),
        deletion_vector: add.deletion_vector.clone(),
        ..Remove::default()
    }
}
