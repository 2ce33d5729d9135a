//! Delta tables: create, stage data files, commit them exactly once.
//!
//! deltalake's own write operations are not used, because they stage and commit in one call, retry without checking
//! `txn`, and return an error after a durable commit. See `docs/decisions/0004-deltalake-staged-commits.md`.

mod added;
mod admission;
mod check;
mod commit;
mod elsewhere;
mod files;
mod fit;
mod history;
mod join;
mod listed;
mod maintain;
mod merge;
mod prune;
mod rewrite;
mod schema;
mod sink;
mod sorted;
mod stage;
mod tail;
mod units;
mod writers;

pub(crate) use added::{Added, added, read_added};
pub(in crate::sink) use admission::{Admission, Check, fingerprint};
pub(crate) use elsewhere::not_by_bayou;
pub(in crate::sink) use elsewhere::{columns_of, files as files_part, read as read_file, write as write_files};
pub(crate) use fit::relaxed;
pub(in crate::sink) use fit::relaxed_schema;
pub(crate) use history::{CommitOf, about, history, version_at};
pub(in crate::sink) use merge::{merge_schema, merge_staged};
pub(crate) use merge::{present, without};
pub(in crate::sink) use schema::{Beside, Wanted, checks};
pub(crate) use sink::look_up;
pub(in crate::sink) use stage::in_columns_of;

use super::OutputMode;
use crate::storage::{About, Location, explained, failure};
use crate::time::SharedClock;
use crate::{Error, Kind, Result};
use arrow::datatypes::{DataType, Fields, SchemaRef};
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::{DeltaTable, DeltaTableError};
use merge::Merge;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tail::Tail;

/// The user's options for a table.
#[derive(Debug, Clone)]
pub struct DeltaOptions {
    pub location: Location,
    pub partition_by: Vec<String>,
    pub table_name: Option<String>,
    pub comment: Option<String>,
    /// New columns may be added to a table that exists (`schema_mode="merge"`).
    pub merge_schema: bool,
}

/// The requested properties of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub location: Location,
    /// The schema of the stream.
    pub schema: SchemaRef,
    /// The schema of a new table: NOT NULL only for columns for which the user asked for it.
    pub declared: SchemaRef,
    pub partition_by: Vec<String>,
    pub mode: OutputMode,
    /// Mode update: the columns that rows are merged by.
    pub keys: Vec<usize>,
    pub name: Option<String>,
    pub comment: Option<String>,
    /// New columns can be added to an existing table (`schema_mode="merge"`).
    pub merge_schema: bool,
    pub clock: SharedClock,
}

impl TableSpec {
    /// The checks that need no I/O: names and types that Delta accepts.
    pub(super) fn check_columns(&self) -> Result<()> {
        self.check_columns_as(&self.location.display())
    }

    /// `place`: the table as messages name it.
    pub(in crate::sink) fn check_columns_as(&self, place: &str) -> Result<()> {
        if self.schema.fields().is_empty() {
            return Err(Error::schema(format!("{place}: a table needs at least one column")));
        }
        let mut seen = BTreeMap::new();
        for field in self.schema.fields() {
            let name = field.name();
            if !is_name(name) {
                return Err(Error::schema(format!(
                    "{place}: '{name}' is not a valid column name in Delta (none of \" ,;{{}}()=\"). Rename it with \
                     AS, for example \"{} AS {}\".",
                    // A name with parentheses is the text of an expression, and is shown as it was written.
                    if name.contains('(') { name.clone() } else { crate::expr::quoted(name) },
                    suggestion(name)
                )));
            }
            if let Some(other) = seen.insert(name.to_lowercase(), name) {
                return Err(Error::schema(format!(
                    "{place}: the columns '{other}' and '{name}' have the same name, because a table does not distinguish upper and lower case. \
                     Rename one: rename({{\"{name}\": \"{name}_2\"}})."
                )));
            }
            check_type(name, field.data_type()).map_err(|e| e.context(place))?;
        }
        for (i, column) in self.partition_by.iter().enumerate() {
            let Ok(field) = self.schema.field_with_name(column) else {
                let hint = crate::error::did_you_mean(column, self.schema.fields().iter().map(|f| f.name().as_str()));
                return Err(Error::schema(format!(
                    "{place}: partition_by names '{column}', which is not a column.{hint}"
                )));
            };
            if self.partition_by[..i].contains(column) {
                return Err(Error::schema(format!("{place}: partition_by names '{column}' twice")));
            }
            check_partition(column, field.data_type()).map_err(|e| e.context(place))?;
        }
        if !self.partition_by.is_empty() && self.partition_by.len() == self.schema.fields().len() {
            return Err(Error::schema(format!("{place}: partition_by names every column. Leave one out.")));
        }
        Ok(())
    }
}

/// Whether Delta accepts the name for a column, or for a field within a column.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='])
}

/// Checks the names of a struct's fields. `path`: the path to the struct, with "[]" for the content of an array or a map.
fn check_fields(path: &str, fields: &Fields) -> Result<()> {
    for (i, field) in fields.iter().enumerate() {
        let name = field.name();
        let what = if !is_name(name) {
            "which is not a name that Delta takes (none of \" ,;{}()=\")"
        } else if fields[..i].iter().any(|f| f.name().eq_ignore_ascii_case(name)) {
            "twice (names match without case)"
        } else {
            continue;
        };
        let advice = if path.contains("[]") {
            "Leave the column out, or keep it as text: declare it STRING".to_string()
        } else {
            let plain = format!("{path}_{}", suggestion(name)).replace(['.', '`'], "_");
            format!("Select it as a column of its own, as in \"{path}.{} AS {plain}\"", crate::expr::quoted(name))
        };
        return Err(Error::schema(format!("column '{path}' has the field '{name}', {what}. {advice}.")));
    }
    Ok(())
}

fn suggestion(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    plain.trim_matches('_').replace("__", "_")
}

/// Types whose values can be written to the partition entry of the log in a form that all readers read back.
fn check_partition(name: &str, t: &DataType) -> Result<()> {
    let instead = match t {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            format!("Partition by its text, for example hex(`{name}`) AS {}_hex", suggestion(name))
        }
        DataType::Struct(_) => {
            format!(
                "Partition by one of its fields, selected as a separate column, for example `{name}`.field AS field"
            )
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) => "Partition by a different column".into(),
        _ => return Ok(()),
    };
    Err(Error::schema(format!(
        "partition_by names '{name}', which is {}: readers of Delta do not read such a partition's value back. {instead}.",
        crate::expr::type_to_ddl(t)
    )))
}

fn check_type(name: &str, t: &DataType) -> Result<()> {
    match t {
        DataType::Null => Err(Error::schema(format!(
            "column '{name}' is always NULL and has no type. Give it one, for example CAST(NULL AS STRING) AS {name}."
        ))),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 | DataType::Float16 => {
            Err(Error::schema(format!(
                "column '{name}' has the type {t}, which Delta does not have. CAST it to BIGINT or DOUBLE."
            )))
        }
        DataType::Timestamp(_, None) => Err(Error::schema(format!(
            "column '{name}' is a timestamp without time zone, which plain Delta does not have. CAST it to TIMESTAMP."
        ))),
        DataType::List(f) | DataType::LargeList(f) => check_type(&format!("{name}[]"), f.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair.iter().try_for_each(|f| check_type(&format!("{name}[]"), f.data_type())),
            _ => Ok(()),
        },
        DataType::Struct(fields) => {
            check_fields(name, fields)?;
            fields.iter().try_for_each(|f| check_type(&format!("{name}.{}", f.name()), f.data_type()))
        }
        DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => {
            Err(Error::schema(format!(
                "column '{name}' has the type {t}, which Delta does not have. CAST it to STRING or BIGINT."
            )))
        }
        _ => Ok(()),
    }
}

/// The table property that allows bayou to clean the log of the table.
pub(crate) const CLEAN_LOG: &str = "bayou.cleanLog";

/// An existing table, at the version of the last check.
pub(crate) struct Table {
    /// The newest versions of the log. The loaded table can be older.
    tail: Tail,
    pub spec: TableSpec,
    /// The requirements for a row by the schema and properties of that version.
    admission: Arc<Admission>,
    /// The columns of the stream in the spelling and types of the table.
    written: SchemaRef,
    /// Notes for the user about how the stream fits the table.
    pub notes: Vec<String>,
    /// The metrics of the last commit.
    metrics: BTreeMap<&'static str, u64>,
    pub(crate) table: DeltaTable,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.spec.location.display())
    }
}

/// A commit or a checkpoint. Other files of a writer that died do not make a table.
fn is_log(name: &str) -> bool {
    let number = name.split('.').next().unwrap_or_default();
    number.len() == 20
        && number.bytes().all(|b| b.is_ascii_digit())
        && (name.ends_with(".json") || name.ends_with(".parquet"))
}

/// Whether there is a table at `location`.
pub(crate) async fn exists(location: &Location) -> Result<bool> {
    // The store is asked, because the text of an error is not reliable.
    location.has_any("_delta_log", is_log).await
}

/// Opens the table at `location`, or `None` where there is none.
pub(crate) async fn open(location: &Location) -> Result<Option<DeltaTable>> {
    if !exists(location).await? {
        return Ok(None);
    }
    let mut table = DeltaTable::new(location.log_store());
    match within(location, "opening the table", table.load()).await {
        Ok(()) => Ok(Some(table)),
        Err(e) if e.kind == Kind::Storage => Err(damaged(location, e).await),
        Err(e) => Err(e),
    }
}

/// Opens the table at a version, or at its newest version.
pub(crate) async fn open_at(location: &Location, version: Option<u64>) -> Result<DeltaTable> {
    let mut table = open(location).await?.ok_or_else(|| no_table(location))?;
    if let Some(version) = version
        && table.version() != Some(version)
    {
        within(location, &format!("version {version}"), table.load_version(version)).await?;
    }
    Ok(table)
}

fn no_table(location: &Location) -> Error {
    Error::storage(format!("{}: there is no Delta table here", location.display())).in_table(location.display())
}

/// The error for a log that can be read but not understood, with the remedy.
async fn damaged(location: &Location, e: Error) -> Error {
    let out = "restore the file, or move the table away and start over with full_refresh=True";
    let advice = if e.message.contains("Json error") {
        format!("A commit of the table's log is damaged, perhaps the newest one by a power cut: {out}")
    } else if ["Parquet error", "Arrow error", "Invalid Checkpoint"].iter().any(|text| e.message.contains(text)) {
        let names = location.list("_delta_log").await.unwrap_or_default();
        let newest = names.into_iter().filter(|n| n.contains(".checkpoint.")).max();
        format!(
            "A checkpoint of the table's log is damaged or missing{}. If every commit from version 0 on still exists \
             in _delta_log, move the checkpoints and _last_checkpoint away; the log is then read without them. \
             Otherwise {out}",
            newest.map_or_else(String::new, |n| format!(", perhaps {n}"))
        )
    } else {
        return e;
    };
    Error::storage(format!("{}. {advice}.", e.message)).with_source(e)
}

/// Runs a deltalake call with a time limit and returns bayou's errors.
pub(crate) async fn within<T>(
    location: &Location,
    doing: &str,
    call: impl Future<Output = Result<T, DeltaTableError>>,
) -> Result<T> {
    within_time(location.timeout(), location, doing, call).await
}

/// Like `within`, for operations with many calls to the store, each of which has its own limit.
pub(crate) async fn within_time<T>(
    most: Duration,
    location: &Location,
    doing: &str,
    call: impl Future<Output = Result<T, DeltaTableError>>,
) -> Result<T> {
    match tokio::time::timeout(most, call).await {
        Ok(Ok(v)) => Ok(v),
        Ok(Err(e)) => {
            Err(delta_error(e).context(format!("{}: {doing}", location.display())).in_table(location.display()))
        }
        Err(_) => Err(Error::storage(format!(
            "{}: {doing} took longer than {} seconds. Check that the store can be reached.",
            location.display(),
            most.as_secs()
        ))
        .in_table(location.display())
        .retryable(true)),
    }
}

/// Converts deltalake's error. The chain of sources decides its kind, because a failed put can arrive as a Parquet
/// error.
pub(crate) fn delta_error(e: DeltaTableError) -> Error {
    let mut kind = Kind::Storage;
    let mut passing = false;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(s) = source {
        if let Some(o) = s.downcast_ref::<object_store::Error>() {
            let told = failure(o);
            if told.kind != Kind::Storage {
                kind = told.kind;
            }
        }
        // A full local disk does not become empty by itself.
        let of_store = |o: &object_store::Error| matches!(o, object_store::Error::Generic { store, .. } if !store.contains("local"));
        passing |= s.downcast_ref::<object_store::Error>().is_some_and(of_store);
        source = s.source();
    }
    let text = e.to_string();
    // If RUST_BACKTRACE is set, the errors of the kernel contain a backtrace.
    let said = text.split("\n   0: ").next().unwrap_or_default().trim_end_matches("stack backtrace:").trim();
    let passing = passing && kind == Kind::Storage;
    Error::new(kind, explained(said)).with_source(e).retryable(passing)
}

/// Commits do not run hooks. Checkpoints and clean-up run separately, where their failure has no effect on the commit.
pub(crate) fn quiet() -> CommitProperties {
    CommitProperties::default().with_max_retries(0).with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

impl Table {
    /// Opens the table, or creates it by a commit without data. Returns whether it is new.
    pub(crate) async fn ensure(spec: TableSpec) -> Result<(Self, bool)> {
        spec.check_columns()?;
        let mut created = false;
        for _ in 0..3 {
            if let Some(table) = open(&spec.location).await? {
                let mut table = Self::reconciled(spec, table).await?;
                table.enter().await?;
                return Ok((table, created));
            }
            if spec.location.entry().is_some_and(|entry| entry.registered().is_some()) {
                return Err(Error::config(format!(
                    "{}: the catalog has the table, and there is no Delta table in its folder. Drop the entry (DROP TABLE), and run again with \
                     location= to have the table created. If the table's files were lost, restore them.",
                    spec.location.display()
                )));
            }
            created = true;
            refuse_foreign_files(&spec.location).await?;
            if let Err(e) = Self::create(&spec).await {
                // A different writer can have created it in the same moment. Or our put was written although it returned an
                // error.
                if open(&spec.location).await?.is_none() {
                    return Err(e);
                }
                created = false;
            }
        }
        Err(Error::storage(format!("{}: the table appears and disappears", spec.location.display())))
    }

    async fn create(spec: &TableSpec) -> Result<()> {
        let kernel: StructType = spec
            .declared
            .as_ref()
            .try_into_kernel()
            .map_err(|e: arrow::error::ArrowError| Error::schema(format!("{}: {e}", spec.location.display())))?;
        let mut create = deltalake::operations::create::CreateBuilder::new()
            .with_log_store(spec.location.log_store())
            .with_columns(kernel.fields().cloned())
            .with_partition_columns(spec.partition_by.clone())
            // Whether bayou cleans the log of the table is a property of the table, which the user can change.
            .with_raise_if_key_not_exists(false)
            .with_configuration([(CLEAN_LOG, Some("true"))])
            .with_commit_properties(quiet());
        if let Some(name) = &spec.name {
            create = create.with_table_name(name);
        }
        if let Some(comment) = &spec.comment {
            create = create.with_comment(comment);
        }
        within(&spec.location, "creating the table", async { create.await.map(drop) }).await
    }

    /// Registers the table in the catalog that its name is from.
    async fn enter(&mut self) -> Result<()> {
        let Some(entry) = self.spec.location.entry().cloned() else { return Ok(()) };
        let metadata = serde_json::to_value(self.snapshot()?.metadata()).unwrap_or_default();
        let schema = metadata["schemaString"].as_str().and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
        let texts = |of: &serde_json::Value| serde_json::from_value(of.clone()).unwrap_or_default();
        let about = About {
            schema,
            partition_by: serde_json::from_value(metadata["partitionColumns"].clone()).unwrap_or_default(),
            comment: metadata["description"].as_str().map(str::to_string),
            properties: texts(&metadata["configuration"]),
        };
        let notes = entry.register(about).await?;
        self.notes.extend(notes);
        Ok(())
    }

    pub(crate) fn id(&self) -> Result<String> {
        Ok(self.snapshot()?.metadata().id().to_string())
    }

    pub(crate) fn version(&self) -> u64 {
        self.tail.version
    }

    pub(crate) async fn refresh(&mut self) -> Result<()> {
        // Loads the table again instead of updating it, because after RESTORE, recreation or clean-up by others an
        // update can be wrong.
        let mut table = DeltaTable::new(self.spec.location.log_store());
        within(&self.spec.location, "reloading the table", table.load()).await?;
        self.tail = Tail::new(table.version().unwrap_or_default());
        self.table = table;
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> Result<&deltalake::table::state::DeltaTableState> {
        self.table.snapshot().map_err(delta_error)
    }

    pub(crate) fn arrow_schema(&self) -> Result<SchemaRef> {
        Ok(self.snapshot()?.snapshot().arrow_schema())
    }
}

/// A table created around files that it does not name would take them for leftovers, and VACUUM would delete them.
async fn refuse_foreign_files(location: &Location) -> Result<()> {
    let names = location.list("").await?;
    let tables: Vec<&str> = names.iter().filter_map(|n| n.split_once("/_delta_log/")).map(|(t, _)| t).collect();
    let within_table =
        |name: &str| tables.iter().any(|t| name.strip_prefix(t).is_some_and(|rest| rest.starts_with('/')));
    let hidden = |name: &str| name.split('/').any(|part| part.starts_with(['_', '.']));
    let foreign = names.iter().find(|n| n.ends_with(".parquet") && !hidden(n) && !within_table(n));
    foreign.map_or(Ok(()), |file| {
        Err(Error::config(format!(
            "{}: there are Parquet files ({file}) but no Delta table. A new table in this folder would treat these files as leftovers, and VACUUM \
             would delete them. Write to a different folder. Or convert the files to a table first, with deltalake.convert_to_deltalake(\"…\"). If \
             _delta_log was lost, restore it.",
            location.display()
        )))
    })
}

/// The error of the store below an error of deltalake or Parquet.
pub(crate) fn store_error(e: object_store::Error) -> Error {
    failure(&e).with_source(e)
}
