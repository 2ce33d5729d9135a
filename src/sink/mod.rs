//! Where rows go. Each kind of sink is a file or folder here, and implements `Sink`; `make` is the one list of them.
//!
//! A sink is used in this order:
//!
//! ```text
//! Sink     what the user asked for     check() when the line is typed, open() when a run starts
//! Writer   the opened target           commit() what is sealed, once for each epoch and idempotently
//! Staging  how rows go to the target   judge() rows before the seal, begin() an epoch's part
//! Part     one epoch's rows            push() rows, finish() as files or rows that wait for the commit
//! ```

pub(crate) mod delta;
pub(crate) mod function;
pub(crate) mod quarantine;
pub(crate) mod spark;
pub(crate) mod topic;

use crate::storage::{Location, Registered};
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// Rows are added; other writers may add theirs.
    Append,
    /// The rows of changed groups replace the rows with the same keys; the table is bayou's alone.
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

/// The kind of an output, with that kind's own options.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one for each output")]
pub enum To {
    Delta(delta::DeltaOptions),
    Function(function::FunctionOptions),
    Topic(topic::TopicOptions),
    Spark(spark::SparkOptions),
}

/// The facts about the rows that every kind of sink gets.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    /// The output's name.
    pub name: String,
    pub schema: SchemaRef,
    /// The columns of a target that is created for the rows: NOT NULL only where the user declared it.
    pub declared: SchemaRef,
    pub mode: OutputMode,
    /// The columns that rows are merged by, in modes that use keys: update, and for a topic also complete.
    pub keys: Vec<usize>,
    pub clock: SharedClock,
}

/// The one list of sinks.
pub(crate) fn make(to: &To, rows: Rows) -> Box<dyn Sink> {
    match to {
        To::Delta(options) => Box::new(options.spec(rows)),
        To::Function(options) => Box::new(options.sink(rows)),
        To::Topic(options) => Box::new(options.sink(rows)),
        To::Spark(options) => Box::new(options.sink(rows)),
    }
}

impl To {
    /// The folder that the output has for itself. Only tables that bayou commits to have one.
    pub fn place(&self) -> Option<&Location> {
        match self {
            Self::Delta(options) => Some(&options.location),
            Self::Function(_) | Self::Topic(_) | Self::Spark(_) => None,
        }
    }

    pub fn is_table(&self) -> bool {
        matches!(self, Self::Delta(_) | Self::Spark(_))
    }

    /// The target in a seal, if it has a place of its own.
    pub fn address(&self) -> Option<String> {
        match self {
            Self::Delta(options) => Some(options.location.address()),
            Self::Spark(options) => Some(options.table.shown.clone()),
            Self::Function(_) | Self::Topic(_) => None,
        }
    }

    /// Whether written rows stay in the target and later epochs change them. Rows that a function got are not bayou's any more.
    pub fn keeps_rows(&self) -> bool {
        match self {
            Self::Delta(_) | Self::Topic(_) | Self::Spark(_) => true,
            Self::Function(_) => false,
        }
    }

    /// The columns that the output's files are grouped by.
    pub fn partition_by(&self) -> &[String] {
        match self {
            Self::Delta(options) => &options.partition_by,
            Self::Spark(options) => &options.partition_by,
            Self::Function(_) | Self::Topic(_) => &[],
        }
    }

    /// The output as messages and reports name it.
    pub fn describe(&self) -> String {
        match self {
            Self::Delta(options) => options.location.display(),
            Self::Function(options) => options.function.describe(),
            Self::Topic(options) => options.describe(),
            Self::Spark(options) => options.table.describe(),
        }
    }

    /// The name of the way in which rows are written, in seals and definitions.
    pub fn mode_name(&self, mode: OutputMode) -> &'static str {
        match self {
            Self::Delta(_) => mode.name(),
            Self::Function(_) => function::MODE,
            Self::Topic(_) => topic::mode_name(mode),
            Self::Spark(_) => spark::mode_name(mode),
        }
    }

    /// Whether rows in this mode are distinguished by keys.
    pub fn has_keys(&self, mode: OutputMode) -> bool {
        match self {
            Self::Delta(_) | Self::Spark(_) | Self::Function(_) => mode == OutputMode::Update,
            Self::Topic(_) => mode != OutputMode::Append,
        }
    }
}

/// Whether a seal's way of writing is that of a table that bayou commits to. Only the query itself can commit to other targets.
pub(crate) fn is_table(mode: &str) -> bool {
    OutputMode::parse(mode).is_some()
}

/// An output as the user described it. Nothing is opened yet.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The checks that need no I/O.
    fn check(&self) -> Result<()>;

    /// Opens the target, and creates it where it does not exist.
    async fn open(&self) -> Result<Box<dyn Writer>>;

    /// Whether the target exists.
    async fn exists(&self) -> Result<bool> {
        Ok(true)
    }

    /// The newest epoch of `app` that the target has taken, without creating the target.
    async fn newest_epoch(&self, _app: &str) -> Result<Option<i64>> {
        Ok(None)
    }

    /// Refuses a target that has epochs of `app`, before a query without a checkpoint begins. If this case cannot be distinguished from a lost
    /// checkpoint, `newest_epoch` refuses the target.
    async fn refuse_taken(&self, _app: &str) -> Result<()> {
        Ok(())
    }

    /// The writers of the target.
    async fn writers(&self) -> Result<Writers> {
        Ok(Writers::default())
    }

    /// The optional work, which runs in parallel with the stream.
    fn upkeep(&self) -> Option<Box<dyn Maintain>> {
        None
    }
}

/// A target that is open.
#[async_trait]
pub trait Writer: Send + Sync {
    /// How rows are staged for the target as it was last looked at.
    fn staging(&self) -> Result<Arc<dyn Staging>>;

    /// The query that commits to the target from now on.
    fn belongs_to(&mut self, _owner: &Owner) {}

    /// Commits what is sealed, once and only once: an epoch that the target has taken already is no error. `None` where the target has no
    /// versions.
    async fn commit(&mut self, commit: Commit) -> Result<Option<u64>>;

    /// Whether the target is committed after the others, because its commit may depend on their rows.
    fn is_last(&self) -> bool {
        false
    }

    /// The target's id and version, where it has them.
    fn version(&self) -> Result<Option<(String, u64)>> {
        Ok(None)
    }

    /// The target as messages name it.
    fn describe(&self) -> String;

    /// The target as a catalog knows it, if it has its name from one.
    fn registered(&self) -> Option<Registered> {
        None
    }

    /// Refuses a target that is not the one that finished epochs were committed to.
    fn check_id(&self, known: &str, _accept: bool) -> Result<()> {
        let Some((id, _)) = self.version()?.filter(|(id, _)| id != known) else { return Ok(()) };
        Err(Error::data_loss(format!(
            "{}: the table was recreated by a different program (its id was {known}, and is {id}). Write to a different table. Or, to empty this \
             table and read everything again from the start, run with full_refresh=True, accept_changes=True.",
            self.describe()
        )))
    }

    /// The metrics of the last commit: files, rows and bytes, with the names of the target's own kind.
    fn metrics(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }

    /// Notes for the user about how the rows go into the target.
    fn notes(&self) -> Vec<String> {
        vec![]
    }

    /// The newest epoch of `app` that the target has taken.
    async fn newest_epoch(&self, _app: &str) -> Result<Option<i64>> {
        Ok(None)
    }

    /// Refuses a target that others have changed since `version` such that it disagrees with the log of epochs.
    async fn check_since(&self, _version: u64, _epoch: Option<i64>, _app: &str, _accept: bool) -> Result<()> {
        Ok(())
    }

    /// Whether there are rows in the target.
    async fn has_rows(&self) -> Result<bool> {
        Ok(false)
    }

    /// Removes all rows, at the start of a new generation. `epoch` makes sure that this happens once.
    async fn empty(&mut self, _app: &str, _epoch: i64) -> Result<()> {
        Ok(())
    }

    /// A last look before the seal: how rows are staged by now, and how many of the staged rows the target does not accept any more. `None`: there
    /// is nothing to look at, or the target cannot be reached, and the commit tries again.
    async fn look(
        &mut self,
        _files: &[WaitingFile],
        _whole: Option<&StagedRows>,
        _admitted: Option<&str>,
    ) -> Result<Option<(Arc<dyn Staging>, usize)>> {
        Ok(None)
    }
}

/// How rows go to a target. This is separate from the target, which may be busy with a commit.
pub trait Staging: Send + Sync {
    /// The rows that the target does not accept.
    fn judge(&self, _rows: &RecordBatch) -> Result<Vec<Refused>> {
        Ok(vec![])
    }

    /// Identifies the target's requirements for rows. It is different when the requirements have changed.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// Begins an epoch's part.
    fn begin(&self, runtime: &tokio::runtime::Handle) -> Box<dyn Part>;
}

/// One epoch's rows on their way to a target.
#[async_trait]
pub trait Part: Send {
    /// Called from the stages' thread; waits if a writer of files falls behind.
    fn push(&mut self, rows: RecordBatch) -> Result<()>;

    /// Bytes of rows that are held in memory until the end.
    fn held(&self) -> usize {
        0
    }

    /// The entry for the seal.
    async fn finish(self: Box<Self>, changes: Changes<'_>) -> Result<Staged>;

    /// Abandons the epoch.
    fn abort(self: Box<Self>) {}
}

/// The changes in an aggregate's result since the previous epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    pub any: bool,
    /// Mode update: the keys of the groups that changed.
    pub keys: &'a [RecordBatch],
}

/// Rows that a part holds in memory until the end of the epoch.
#[derive(Debug, Default)]
pub(in crate::sink) struct HeldRows {
    pub batches: Vec<RecordBatch>,
    pub bytes: usize,
}

impl HeldRows {
    pub(crate) fn push(&mut self, rows: RecordBatch) {
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows);
    }
}

/// A row that a target does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub row: u32,
    /// The constraints that the row breaks.
    pub rules: Vec<Arc<str>>,
    pub error: Arc<str>,
}

/// A file that waits in the target for its commit, in the target's own words.
pub(crate) type WaitingFile = serde_json::Value;

/// Rows that the query keeps in a file of its own until they are committed.
#[derive(Debug, Clone)]
pub struct StagedRows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// The rows of an epoch for a target.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    pub rows: u64,
    pub files: Vec<WaitingFile>,
    pub whole: Option<StagedRows>,
    /// The names of the columns that rows are merged by.
    pub keys: Vec<String>,
}

/// The query that writes to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub query: String,
    pub id: String,
    pub generation: u64,
}

/// The content of a commit: exactly what the seal says, also if the output is defined differently by now.
#[derive(Debug, Clone)]
pub struct Commit {
    pub name: String,
    /// `bayou/<query name>/<output>`
    pub app: String,
    /// The log of epochs that the seal is in.
    pub log: String,
    pub epoch: i64,
    /// When the epoch was sealed.
    pub sealed: EventTime,
    /// The mode in the seal.
    pub mode: String,
    pub staged: Staged,
    /// The seal's nonce. It distinguishes the commit from that of a different query with the same name.
    pub nonce: String,
    /// How the rows were judged (`Staging::fingerprint`); None where that is not known.
    pub admitted: Option<String>,
    /// The target was looked at a moment ago.
    pub looked: bool,
    /// The rows were staged a moment ago by this process: nothing can have happened to their files.
    pub fresh: bool,
    pub known: Option<Known>,
    pub accept_changes: bool,
}

/// The target as the newest finished epoch has it.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: String,
    pub version: u64,
    pub epoch: Option<i64>,
}

/// The writers of a target, as far as the target shows them.
#[derive(Debug, Default)]
pub struct Writers {
    /// The application ids of all transactions.
    pub apps: BTreeSet<String>,
    /// There are rows without a transaction of bayou's.
    pub others: bool,
}

/// Work that runs in parallel with the stream and never fails the stream.
#[async_trait]
pub trait Maintain: Send {
    /// Does what is due, and returns what went wrong.
    async fn maintain(&mut self, round: Round<'_>) -> Vec<String>;
}

pub struct Round<'a> {
    /// The target is at this version, or beyond.
    pub version: u64,
    pub optimize_every: Option<usize>,
    /// Whether the target's log is cleaned; None: as the target's property says.
    pub clean_log: Option<bool>,
    /// The watermark of the query. Windows that end at or before it do not change any more.
    pub watermark: Option<EventTime>,
    /// The oldest version that a kept epoch of the query needs.
    pub oldest: BoxFuture<'a, u64>,
}
