//! Delta tables: create, stage data files, commit them exactly once.
//!
//! deltalake's own write operations are not used: they stage and commit in one call, retry without looking at `txn`, and
//! report an error after a commit that is durable. See `docs/decisions/0004-deltalake-staged-commits.md`.

mod check;
mod commit;
mod maintain;
mod merge;
mod stage;

pub use commit::{Commit, Committed};
pub use deltalake::kernel::Add;
pub use maintain::{Upkeep, maintain};
pub use merge::{Merge, merge_rows, merge_schema};
pub use stage::{Stager, Staging};

use crate::storage::{Location, hint};
use crate::{Error, Kind, Result};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::{DeltaTable, DeltaTableError};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// Rows are added; other writers may add theirs.
    Append,
    /// The rows of changed groups take the place of those with the same keys; the table is bayou's alone.
    Update,
    /// The table is the newest result as a whole; it is bayou's alone.
    Complete,
}

impl OutputMode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Update => "update",
            Self::Complete => "complete",
        }
    }
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Append, Self::Update, Self::Complete].into_iter().find(|m| m.name() == name)
    }
}

/// What a table is to be.
#[derive(Debug, Clone)]
pub struct TableSpec {
    pub location: Location,
    pub schema: SchemaRef,
    pub partition_by: Vec<String>,
    pub mode: OutputMode,
    pub name: Option<String>,
    pub comment: Option<String>,
    /// New columns may be added to a table that exists (`schema_mode="merge"`).
    pub merge_schema: bool,
}

impl TableSpec {
    /// What can be checked before any I/O: names and types that Delta takes.
    pub fn check(&self) -> Result<()> {
        let place = self.location.display();
        if self.schema.fields().is_empty() {
            return Err(Error::schema(format!("{place}: a table needs at least one column")));
        }
        let mut seen = std::collections::BTreeSet::new();
        for field in self.schema.fields() {
            let name = field.name();
            if name.is_empty() || name.contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=']) {
                return Err(Error::schema(format!(
                    "{place}: '{name}' is not a column name that Delta takes (none of \" ,;{{}}()=\"). \
                     Name it with AS, as in \"{name} AS {}\".",
                    suggestion(name)
                )));
            }
            if !seen.insert(name.to_lowercase()) {
                return Err(Error::schema(format!(
                    "{place}: the column '{name}' appears twice (names match without case)"
                )));
            }
            check_type(name, field.data_type()).map_err(|e| e.context(&place))?;
        }
        for column in &self.partition_by {
            if self.schema.index_of(column).is_err() {
                let hint = crate::error::did_you_mean(column, self.schema.fields().iter().map(|f| f.name().as_str()));
                return Err(Error::schema(format!(
                    "{place}: partition_by names '{column}', which is not a column.{hint}"
                )));
            }
        }
        if !self.partition_by.is_empty() && self.partition_by.len() == self.schema.fields().len() {
            return Err(Error::schema(format!("{place}: partition_by names every column; leave one out")));
        }
        Ok(())
    }
}

fn suggestion(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    plain.trim_matches('_').replace("__", "_")
}

fn check_type(name: &str, t: &DataType) -> Result<()> {
    match t {
        DataType::Null => Err(Error::schema(format!(
            "column '{name}' is always NULL and has no type. Give it one, as in CAST(NULL AS STRING) AS {name}."
        ))),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 | DataType::Float16 => {
            Err(Error::schema(format!(
                "column '{name}' has the type {t}, which Delta has not. CAST it to BIGINT or DOUBLE."
            )))
        }
        DataType::Timestamp(_, None) => Err(Error::schema(format!(
            "column '{name}' is a timestamp without time zone, which plain Delta has not. CAST it to TIMESTAMP."
        ))),
        DataType::List(f) | DataType::LargeList(f) => check_type(name, f.data_type()),
        DataType::Map(f, _) => check_type(name, f.data_type()),
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|f| check_type(&format!("{name}.{}", f.name()), f.data_type()))
        }
        DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => {
            Err(Error::schema(format!(
                "column '{name}' has the type {t}, which Delta has not. CAST it to STRING or BIGINT."
            )))
        }
        _ => Ok(()),
    }
}

/// So many versions are read one by one before a table is loaded anew.
const ANEW: u32 = 100;

/// A table that exists, at the version last looked at.
pub struct Table {
    /// Versions that were read one by one since the table was loaded.
    advanced: u32,
    pub spec: TableSpec,
    pub(crate) table: DeltaTable,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.spec.location.display())
    }
}

/// A commit or a checkpoint. What a writer that died has left beside them makes no table.
fn is_log(name: &str) -> bool {
    let number = name.split('.').next().unwrap_or_default();
    number.len() == 20
        && number.bytes().all(|b| b.is_ascii_digit())
        && (name.ends_with(".json") || name.ends_with(".parquet"))
}

/// Opens the table at `location`, or `None` where there is none.
pub async fn open(location: &Location) -> Result<Option<DeltaTable>> {
    // Asked of the store, not read off an error's text.
    if !location.has_any("_delta_log", is_log).await? {
        return Ok(None);
    }
    let mut table = DeltaTable::new(location.log_store());
    match within(location, "opening the table", table.load()).await {
        Ok(()) => Ok(Some(table)),
        Err(e) if e.kind == Kind::Storage => Err(damaged(location, e).await),
        Err(e) => Err(e),
    }
}

/// The error of a log that can be read and not understood, with what to do about it.
async fn damaged(location: &Location, e: Error) -> Error {
    let out = "restore the file; or move the table away and start over with reset(confirm=True)";
    let advice = if e.message.contains("Json error") {
        format!("A commit of the table's log is damaged, perhaps the newest one by a power cut: {out}")
    } else if ["Parquet error", "Arrow error", "Invalid Checkpoint"].iter().any(|text| e.message.contains(text)) {
        let names = location.list("_delta_log").await.unwrap_or_default();
        let newest = names.into_iter().filter(|n| n.contains(".checkpoint.")).max();
        format!(
            "A checkpoint of the table's log is damaged or missing{}. Where every commit from version 0 on is still in _delta_log, move the \
             checkpoints and _last_checkpoint away, and the log is read without them. Otherwise {out}",
            newest.map_or_else(String::new, |n| format!(", perhaps {n}"))
        )
    } else {
        return e;
    };
    Error::storage(format!("{}. {advice}.", e.message)).with_source(e)
}

/// Runs a deltalake call with a time limit and bayou's errors.
pub(crate) async fn within<T>(
    location: &Location,
    doing: &str,
    call: impl Future<Output = Result<T, DeltaTableError>>,
) -> Result<T> {
    within_time(location.timeout(), location, doing, call).await
}

/// As `within`, for what makes many calls to the store, each of which has its own limit.
pub(crate) async fn within_time<T>(
    most: Duration,
    location: &Location,
    doing: &str,
    call: impl Future<Output = Result<T, DeltaTableError>>,
) -> Result<T> {
    match tokio::time::timeout(most, call).await {
        Ok(Ok(v)) => Ok(v),
        Ok(Err(e)) => Err(delta_error(e).context(format!("{}: {doing}", location.display()))),
        Err(_) => Err(Error::storage(format!(
            "{}: {doing} took longer than {} seconds. Check that the store can be reached.",
            location.display(),
            most.as_secs()
        ))),
    }
}

/// deltalake's error as ours; the kind by the chain of sources, for a failing put may arrive as a Parquet error.
pub(crate) fn delta_error(e: DeltaTableError) -> Error {
    let mut kind = Kind::Storage;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(s) = source {
        if let Some(o) = s.downcast_ref::<object_store::Error>()
            && matches!(o, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })
        {
            kind = Kind::Auth;
        }
        source = s.source();
    }
    let text = e.to_string();
    // With RUST_BACKTRACE set the kernel's errors bring theirs along.
    let said = text.split("\n   0: ").next().unwrap_or_default().trim_end_matches("stack backtrace:").trim();
    Error::new(kind, format!("{said}{}", hint(&text))).with_source(e)
}

/// Commits that run no hooks: checkpoints and clean-up happen apart, where their failure hurts nobody.
pub(crate) fn quiet() -> CommitProperties {
    CommitProperties::default().with_max_retries(0).with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

impl Table {
    /// Opens the table, or makes it by a commit without data. Says whether it is new.
    pub async fn ensure(spec: TableSpec) -> Result<(Self, bool)> {
        spec.check()?;
        let mut created = false;
        for _ in 0..3 {
            if let Some(table) = open(&spec.location).await? {
                let mut table = Self { spec, table, advanced: 0 };
                table.check_usable()?;
                table.reconcile().await?;
                return Ok((table, created));
            }
            created = true;
            if let Err(e) = Self::create(&spec).await {
                // Somebody else may have made it in the same moment; or the put landed all the same.
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
            .schema
            .as_ref()
            .try_into_kernel()
            .map_err(|e: arrow::error::ArrowError| Error::schema(format!("{}: {e}", spec.location.display())))?;
        let mut create = deltalake::operations::create::CreateBuilder::new()
            .with_log_store(spec.location.log_store())
            .with_columns(kernel.fields().cloned())
            .with_partition_columns(spec.partition_by.clone())
            .with_commit_properties(quiet());
        if let Some(name) = &spec.name {
            create = create.with_table_name(name);
        }
        if let Some(comment) = &spec.comment {
            create = create.with_comment(comment);
        }
        within(&spec.location, "creating the table", async { create.await.map(drop) }).await
    }

    pub fn id(&self) -> Result<String> {
        Ok(self.snapshot()?.metadata().id().to_string())
    }

    pub fn version(&self) -> u64 {
        self.table.version().unwrap_or_default()
    }

    /// The newest epoch that `app` has committed to this table, at the version last looked at.
    pub async fn transaction(&self, app: &str) -> Result<Option<i64>> {
        let log = self.table.log_store();
        within(&self.spec.location, "reading the table's txn", self.snapshot()?.transaction_version(log.as_ref(), app))
            .await
    }

    pub async fn refresh(&mut self) -> Result<()> {
        // A fresh load, not an update: after RESTORE, recreation or clean-up by others an increment may mislead.
        let mut table = DeltaTable::new(self.spec.location.log_store());
        within(&self.spec.location, "reloading the table", table.load()).await?;
        self.table = table;
        self.advanced = 0;
        Ok(())
    }

    /// Moves to the newest version by reading only the commits since.
    pub async fn advance(&mut self) -> Result<()> {
        // Each update leaves some kilobytes of its own in the snapshot; from time to time it is read anew, from the last checkpoint on.
        if self.advanced >= ANEW {
            return self.refresh().await;
        }
        self.advanced += 1;
        let update = self.table.update_state();
        match tokio::time::timeout(self.spec.location.timeout(), update).await {
            Ok(Ok(())) => Ok(()),
            _ => self.refresh().await,
        }
    }

    pub(crate) fn snapshot(&self) -> Result<&deltalake::table::state::DeltaTableState> {
        self.table.snapshot().map_err(delta_error)
    }

    pub fn arrow_schema(&self) -> Result<SchemaRef> {
        Ok(self.snapshot()?.snapshot().arrow_schema())
    }

    /// The table's columns against the stream's: the same types by name; new columns only when merging is allowed.
    async fn reconcile(&mut self) -> Result<()> {
        let place = self.spec.location.display();
        let existing = self.arrow_schema()?;
        let mut missing = vec![];
        for field in self.spec.schema.fields() {
            match existing.field_with_name(field.name()) {
                Ok(old) if same_type(old.data_type(), field.data_type()) => {}
                Ok(old) => {
                    return Err(Error::schema(format!(
                        "{place}: column '{}' is {} in the table and {} in the stream. CAST it, or write to another table.",
                        field.name(),
                        crate::expr::type_to_ddl(old.data_type()),
                        crate::expr::type_to_ddl(field.data_type()),
                    )));
                }
                Err(_) => missing.push(field.clone()),
            }
        }
        for old in existing.fields() {
            if !old.is_nullable() && self.spec.schema.index_of(old.name()).is_err() {
                return Err(Error::schema(format!(
                    "{place}: the table's column '{}' is NOT NULL, and the stream has it not",
                    old.name()
                )));
            }
        }
        let partitions = self.snapshot()?.metadata().partition_columns().to_vec();
        if partitions != self.spec.partition_by {
            return Err(Error::config(format!(
                "{place}: the table is partitioned by {partitions:?}, and partition_by says {:?}. Partitions of a table cannot change.",
                self.spec.partition_by
            )));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(|f| f.name().as_str()).collect();
        if !self.spec.merge_schema {
            return Err(Error::schema(format!(
                "{place}: the stream has new columns {names:?}. Say schema_mode=\"merge\" to add them to the table."
            )));
        }
        // Rows that are there already have no value for them, whatever the stream's have.
        let missing: Vec<_> = missing.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let kernel: StructType = (&Schema::new(missing))
            .try_into_kernel()
            .map_err(|e: arrow::error::ArrowError| Error::schema(format!("{place}: {e}")))?;
        let add = self
            .table
            .clone()
            .add_columns()
            .with_fields(kernel.fields().cloned().collect::<Vec<_>>())
            .with_commit_properties(quiet());
        within(&self.spec.location, "adding columns", async { add.await.map(drop) }).await?;
        self.refresh().await
    }
}

/// Types that Delta stores alike; nullability of nested fields aside.
fn same_type(a: &DataType, b: &DataType) -> bool {
    use DataType::*;
    match (a, b) {
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => true,
        (List(x) | LargeList(x), List(y) | LargeList(y)) => same_type(x.data_type(), y.data_type()),
        (Map(x, _), Map(y, _)) => match (x.data_type(), y.data_type()) {
            (Struct(x), Struct(y)) => x.iter().zip(y).all(|(x, y)| same_type(x.data_type(), y.data_type())),
            _ => false,
        },
        (Struct(x), Struct(y)) => {
            x.len() == y.len()
                && x.iter().zip(y).all(|(x, y)| x.name() == y.name() && same_type(x.data_type(), y.data_type()))
        }
        _ => a == b,
    }
}

pub(crate) fn writer_schema(spec: &TableSpec) -> SchemaRef {
    Arc::new(Schema::new(spec.schema.fields().clone()))
}
