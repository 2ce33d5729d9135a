//! The places of a query's checkpoint, quarantine and staged rows. Runs, repairs and readers all use these rules.

use super::output::Aside;
use super::stream::check_name;
use crate::storage::{Location, StorageOptions};
use crate::{Error, Result};

/// The folder of checkpoints next to or below the tables that a query writes, if the user does not choose a different place.
const CHECKPOINTS: &str = "_bayou";

pub(crate) const QUARANTINE_SUFFIX: &str = "_quarantine";

/// The places of one query.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The name of the query.
    pub name: String,
    pub checkpoint: Location,
    pub quarantine: Aside,
}

/// The user's own choice of the checkpoint's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen<'a> {
    pub query_name: Option<&'a str>,
    pub checkpoint_location: Option<&'a str>,
    pub storage: &'a StorageOptions,
}

impl Chosen<'_> {
    fn checkpoint(&self, name: &str, default: impl FnOnce() -> Location) -> Result<Location> {
        self.checkpoint_location.map_or_else(|| Ok(default()), |at| Ok(Location::parse(at, self.storage)?.join(name)))
    }
}

impl Places {
    /// The places of a query that writes one table. The query is named after the table unless the user gives it a name.
    pub(crate) fn of_table(at: &Location, chosen: &Chosen<'_>) -> Result<Self> {
        let name = query_name(chosen.query_name, at.name())?;
        let checkpoint = chosen.checkpoint(&name, || checkpoint_in(at, &name))?;
        let aside = quarantine_name(&at.name());
        // A table at the root of a bucket can have no folder next to it, so its quarantine is below it.
        let quarantine = at.parent().map_or_else(|| checkpoint_in(at, &aside), |parent| parent.join(&aside));
        Ok(Self { name, checkpoint, quarantine: quarantine.into() })
    }

    /// The places of a query whose tables are in a catalog: nothing is next to or below these tables.
    pub(crate) fn of_catalog(name: &str, checkpoint: &Location, quarantine: Aside) -> Self {
        Self { name: name.into(), checkpoint: checkpoint.join(name), quarantine }
    }

    /// The places of a pipeline, whose tables are folders below its root.
    pub(crate) fn of_pipeline(root: &Location, name: &str, chosen: &Chosen<'_>) -> Result<Self> {
        let checkpoint = chosen.checkpoint(name, || checkpoint_in(root, name))?;
        Ok(Self { name: name.into(), checkpoint, quarantine: root.join(&quarantine_name(name)).into() })
    }

    /// The folder of rows that wait until Spark commits them.
    pub(crate) fn staged(&self, output: &str) -> Location {
        staged_in(&self.checkpoint, output)
    }

    /// The places of a query whose target has no folder: everything is in the folder that the user chose for the checkpoint.
    pub(crate) fn of_target_without_folder(at: &Location, name: &str) -> Self {
        Self { name: name.into(), checkpoint: at.join(name), quarantine: at.join(&quarantine_name(name)).into() }
    }
}

/// The name of a query that writes one table.
pub(crate) fn query_name(given: Option<&str>, table: String) -> Result<String> {
    let name = given.map_or(table, str::to_string);
    check_name(&name, "a query").map_err(|e| match given {
        Some(_) => e.context("query_name"),
        None => Error::config(format!(
            "{}. A query is named after its target unless query_name= gives it a different name. Set query_name= for this query.",
            e.message
        )),
    })?;
    Ok(name)
}

/// The checkpoint of a query in a folder.
pub(crate) fn checkpoint_in(folder: &Location, query: &str) -> Location {
    folder.join(CHECKPOINTS).join(query)
}

/// The folder of staged rows in a checkpoint. It is outside the generations, because the files of an epoch are removed after its commit.
pub(crate) fn staged_in(checkpoint: &Location, output: &str) -> Location {
    checkpoint.join("staged").join(output)
}

/// The folder of a quarantine table. `of` is a pipeline, or the table of a single query.
pub(crate) fn quarantine_name(of: &str) -> String {
    format!("{of}{QUARANTINE_SUFFIX}")
}

/// Whether a table is the quarantine of a pipeline.
pub(crate) fn is_quarantine(table: &str, pipeline: &str) -> bool {
    table == quarantine_name(pipeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Location {
        Location::parse(path, &StorageOptions::default()).unwrap()
    }

    fn shown(places: &Places) -> [String; 3] {
        [places.name.clone(), places.checkpoint.display(), places.quarantine.describe()]
            .map(|t| t.trim_end_matches('/').into())
    }

    #[test]
    fn a_query_keeps_its_files_where_the_documentation_says() {
        let storage = StorageOptions::default();
        let unnamed = Chosen { query_name: None, checkpoint_location: None, storage: &storage };
        let named = Chosen { query_name: Some("q"), ..unnamed };
        let elsewhere = Chosen { checkpoint_location: Some("/c"), ..named };
        let of_table = |path: &str, chosen: &Chosen<'_>| shown(&Places::of_table(&at(path), chosen).unwrap());
        assert_eq!(of_table("/l/t", &unnamed), ["t", "/l/t/_bayou/t", "/l/t_quarantine"]);
        assert_eq!(of_table("/l/t", &named), ["q", "/l/t/_bayou/q", "/l/t_quarantine"]);
        assert_eq!(of_table("/l/t", &elsewhere), ["q", "/c/q", "/l/t_quarantine"]);
        assert_eq!(of_table("s3://b", &named), ["q", "s3://b/_bayou/q", "s3://b/_bayou/table_quarantine"]);
        let pipeline = |chosen: &Chosen<'_>| shown(&Places::of_pipeline(&at("/l"), "p", chosen).unwrap());
        assert_eq!(pipeline(&unnamed), ["p", "/l/_bayou/p", "/l/p_quarantine"]);
        assert_eq!(pipeline(&elsewhere), ["p", "/c/p", "/l/p_quarantine"]);
        assert_eq!(shown(&Places::of_target_without_folder(&at("/c"), "f")), ["f", "/c/f", "/c/f_quarantine"]);
        assert!(is_quarantine("p_quarantine", "p") && !is_quarantine("t_quarantine", "p"));
        let error = Places::of_table(&at("/l/a b"), &unnamed).unwrap_err();
        assert!(error.message.contains("Set query_name="), "{error}");
    }
}
