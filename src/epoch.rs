//! The log of epochs, which makes tables exactly-once.
//!
//! An epoch is a range of offsets in each partition, and its outcome. Its steps:
//!
//! ```text
//! start   query.json, start.json     put-if-absent: the identity of the query, and where it begins
//! work    nothing on storage
//! stage   data files in the tables, state files here; no version refers to them
//! seal    epoch/N.json               put-if-absent: the outcome; after it nothing is computed or read again
//! commit  one commit for each table with txn = N, compare-and-set
//! done    done/N.json                put-if-absent: the version of each table
//! ```
//!
//! **Why nothing is written twice or lost.** Let N be an epoch.
//!
//! 1. There is at most one seal N, because it is created by put-if-absent. Its offsets begin where seal N−1 ended.
//! 2. A table takes N's files at most once: the commit is a compare-and-set on a snapshot in which `txn < N` was read, and
//!    it sets `txn = N`. It does not matter which runner commits: every runner commits the same sealed files.
//! 3. N+1 is sealed only after `done/N` exists, and `done/N` is written only after every table of N has been committed.
//!    So at any time at most one sealed epoch is unfinished, and a start finishes it before it reads anything.
//! 4. An epoch without a seal is not in any table, because only sealed files are committed. Its staged files are garbage.
//! 5. The seal holds the outcome, not the input. After the seal, retention or compaction in Kafka, `random()`, and
//!    the order of float additions cannot make two tables of one epoch differ.
//!
//! An error from storage never decides whether a put happened. The file is read back, and if it has our nonce, we wrote it.
//! All fields, with an example of each file, are in `docs/format.md`.

use crate::position::{Offset, Positions, TopicPartition};
use crate::storage::{Location, Put, Registered};
use crate::time::EventTime;
use crate::window::TrackerState;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const FORMAT_VERSION: u32 = 1;
/// The format of a seal that has small files in it.
pub(crate) const FORMAT_WITHIN: u32 = 2;
/// The names of files that stand in the seal begin with this.
pub(crate) const WITHIN: &str = "within/";
/// The `definition` of a seal that only ends a generation.
pub(crate) const FENCE: &str = "fence";

/// Positions by topic and partition, in the form of the files: `{"topic": {"0": 42}}`.
pub(crate) type PositionMap = BTreeMap<String, BTreeMap<i32, i64>>;

pub(crate) fn position_map(positions: &Positions) -> PositionMap {
    let mut out = PositionMap::new();
    for (tp, offset) in positions {
        out.entry(tp.topic.to_string()).or_default().insert(tp.partition.0, offset.0);
    }
    out
}

pub(crate) fn positions(map: &PositionMap) -> Positions {
    map.iter().flat_map(|(t, ps)| ps.iter().map(move |(p, o)| (TopicPartition::new(t, *p), Offset(*o)))).collect()
}

/// `query.json`: only the identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueryFile {
    pub format_version: u32,
    pub query_name: String,
    pub query_id: String,
    pub generation: u64,
    pub cluster_id: String,
    /// Topic ids, if the broker has them.
    pub topic_ids: BTreeMap<String, Option<String>>,
    pub created_at: EventTime,
}

/// `start.json`: where the first epoch begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartFile {
    pub format_version: u32,
    pub first_epoch: i64,
    pub positions: PositionMap,
    /// The offsets that the user asked for, to warn if a later run differs.
    pub starting_offsets: serde_json::Value,
    pub clock: EventTime,
    /// Set by `reset` and `full_refresh`: before the first epoch, a commit with this txn empties the tables.
    pub truncate_txn: Option<i64>,
}

/// `definition/<hash>.json`: the schemas, rules and state formats of the query.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DefinitionFile {
    pub format_version: u32,
    pub tables: BTreeMap<String, TableDefinition>,
    /// Stateful operators: the content of each operator's snapshots.
    pub operators: BTreeMap<String, String>,
    /// Stateful operators: the stateful steps that lead to each.
    #[serde(default)]
    pub signatures: BTreeMap<String, String>,
    pub state_version: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableDefinition {
    pub schema: String,
    pub mode: String,
    pub partition_by: Vec<String>,
    /// The steps from the topic to the table, for people to read.
    pub steps: Vec<String>,
    /// The names of the table's watermarks in the seals.
    #[serde(default)]
    pub watermarks: Vec<String>,
    /// The table was filled from the earliest offset, and does not share state with tables that began elsewhere.
    #[serde(default)]
    pub filled: bool,
}

/// The part of one partition in an epoch.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Range {
    pub topic: String,
    pub partition: i32,
    /// The first offset of the epoch.
    pub from: i64,
    /// The offset after the last one of the epoch.
    pub until: i64,
    pub records: u64,
    /// The timestamp of the partition's last record so far, in microseconds. None before the first record.
    pub last_timestamp: Option<EventTime>,
    /// The partition's last record so far: its offset, and the leader epoch in which it was written. With them a later
    /// run sees that a log was truncated and written again. None before the first record, in seals of older versions,
    /// and if the broker does not have leader epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
}

impl Range {
    pub(crate) fn place(&self) -> TopicPartition {
        TopicPartition::new(&self.topic, self.partition)
    }
}

/// The content of one table's commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SealedTable {
    pub location: String,
    pub mode: String,
    /// `false`: no rows in this epoch, and therefore no commit.
    pub commit: bool,
    pub rows: u64,
    /// Delta's Add actions, in the form of the commit.
    pub adds: Vec<serde_json::Value>,
    /// The file of rows that are merged (mode "update") or given to a function ("foreach"). Its path starts at the
    /// folder of the generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// Mode "update": the columns by which rows are merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Identifies the state of the table's schema and properties against which the rows were checked. None in seals of
    /// older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<String>,
}

/// The files that contain an operator's state after an epoch: merge them in order, then forget closed windows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateFiles {
    pub base: Option<String>,
    pub increments: Vec<String>,
    pub groups: u64,
    /// The operator has emitted everything that was due up to this time: its own watermark. The watermark of a later
    /// plan can be ahead of it.
    #[serde(default)]
    pub watermark: Option<EventTime>,
}

impl StateFiles {
    /// All files, in the order in which they are merged.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.base.iter().chain(&self.increments)
    }
}

/// `epoch/N.json`: the seal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seal {
    pub format_version: u32,
    pub epoch: i64,
    /// Unique for each seal. It shows whether a failed put has been written all the same.
    pub nonce: String,
    pub definition: String,
    /// `began` is the clock when the epoch's first message was taken. `current_timestamp()` is this moment, and event
    /// times later than this moment plus `max_future` do not count. `clock` is the clock at the end of the epoch. Idle
    /// partitions are determined with it.
    pub began: EventTime,
    pub clock: EventTime,
    pub ranges: Vec<Range>,
    /// Partitions that the query has read before and does not read now. When these partitions come back, reading continues there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Range>,
    /// The ids of topics that were recreated after `query.json` was written, and that the user allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topic_ids: BTreeMap<String, String>,
    /// For each `with_watermark`, before and after the epoch.
    pub watermarks_before: BTreeMap<String, Option<EventTime>>,
    pub watermarks: BTreeMap<String, TrackerState>,
    pub state: BTreeMap<String, StateFiles>,
    /// The versions of joined static tables.
    pub static_versions: BTreeMap<String, u64>,
    pub tables: BTreeMap<String, SealedTable>,
    /// Offsets that were lost, if the user allowed the query to continue.
    pub lost: Vec<LostRange>,
    /// An epoch that fills new tables from the earliest offset names them and their ranges here. The other tables wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
    pub counts: serde_json::Value,
}

impl Seal {
    /// Sets the format by what the seal has.
    pub(crate) fn with_format(mut self) -> Self {
        let state = self.state.values().flat_map(StateFiles::names);
        let staged = self.tables.values().filter_map(|t| t.staged.as_ref());
        let has_small = state.chain(staged).any(|f| f.starts_with(WITHIN));
        self.format_version = if has_small { FORMAT_WITHIN } else { FORMAT_VERSION };
        self
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Backfill {
    pub tables: Vec<String>,
    /// New tables that are filled after these tables.
    pub waiting: Vec<String>,
    pub ranges: Vec<Range>,
    pub watermarks_before: BTreeMap<String, Option<EventTime>>,
    pub watermarks: BTreeMap<String, TrackerState>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LostRange {
    pub topic: String,
    pub partition: i32,
    /// The position before the gap.
    pub from: i64,
    /// The position after the gap: higher than `from` if offsets had been removed, lower if the log had been truncated.
    pub until: i64,
    #[serde(default)]
    pub why: Loss,
}

/// The reason for the loss of offsets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Loss {
    /// In seals of older versions.
    #[default]
    Unknown,
    /// The offsets were removed before they were read.
    Retention,
    /// The log was truncated: the records that were read from `until` on are not in it any more.
    Truncated,
    /// The topic was deleted and recreated.
    Recreated,
    /// The log was truncated, but only transaction markers and similar entries had been read there: no record is lost.
    Markers,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DoneTable {
    pub id: String,
    pub version: u64,
    /// The newest epoch from which this table has taken rows. None before the first.
    pub txn: Option<i64>,
    /// The table as the catalog knows it, if the query names the table in a catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Registered>,
}

/// `done/N.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Done {
    pub format_version: u32,
    pub epoch: i64,
    pub nonce: String,
    pub clock: EventTime,
    pub tables: BTreeMap<String, DoneTable>,
    pub counts: serde_json::Value,
}

/// The files of one generation of one query.
#[derive(Clone)]
pub(crate) struct EpochLog {
    pub at: Location,
}

fn name(folder: &str, epoch: i64) -> String {
    format!("{folder}/{epoch:020}.json")
}

/// The result of a put-if-absent: whether our file or a different one was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Ours,
    Theirs,
}

/// Why a file of a checkpoint cannot be used.
struct Unreadable {
    error: Error,
    is_newer: bool,
}

impl EpochLog {
    pub(crate) fn new(at: Location) -> Self {
        Self { at }
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.look(name).await?.transpose().map_err(|u| u.error)
    }

    /// As `read`, for a query that starts over: a file that is damaged, or that an older bayou wrote, counts as missing. A file of a newer bayou is
    /// an error.
    async fn readable<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.look(name).await? {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(u)) if u.is_newer => Err(u.error),
            _ => Ok(None),
        }
    }

    async fn look<T: DeserializeOwned>(&self, name: &str) -> Result<Option<std::result::Result<T, Unreadable>>> {
        let found = self.at.get(name).await?;
        Ok(found.map(|bytes| self.parse(name, &bytes)))
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> std::result::Result<T, Unreadable> {
        let place = || format!("{}{name}", self.at.display());
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            // Files from before the format had versions do not contain one.
            #[serde(default)]
            format_version: u64,
        }
        let damaged = |e: serde_json::Error| Unreadable {
            is_newer: false,
            error: Error::storage(format!(
                "{} is damaged ({e}). Restore it from a backup, or start over with full_refresh=True.",
                place()
            )),
        };
        let version: Version = serde_json::from_slice(bytes).map_err(damaged)?;
        let newest = if name.starts_with("epoch/") { FORMAT_WITHIN } else { FORMAT_VERSION };
        if version.format_version > u64::from(newest) {
            let error = Error::config(format!(
                "{} was written by a newer bayou (format {}, this one knows {newest}). Upgrade bayou.",
                place(),
                version.format_version
            ));
            return Err(Unreadable { is_newer: true, error });
        }
        if version.format_version < u64::from(FORMAT_VERSION) {
            let error = Error::config(format!(
                "{} was written by an older bayou (format {}, this one reads {FORMAT_VERSION}). Use that version, or \
                 empty the tables and read everything again with full_refresh=True.",
                place(),
                version.format_version
            ));
            return Err(Unreadable { is_newer: false, error });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Creates a file, or returns the existing one. After an error, the file is read back to find out whether it was
    /// written.
    pub(crate) async fn create<T: Serialize + DeserializeOwned>(&self, name: &str, value: &T) -> Result<(T, Put)> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::internal(e.to_string()))?;
        let put = self.at.put_new(name, bytes.clone()).await;
        match (put, self.at.get(name).await) {
            (Err(e), Ok(None) | Err(_)) | (Ok(_), Err(e)) => Err(e),
            (Ok(_), Ok(None)) => Err(Error::storage(format!("{}{name} was written and is gone", self.at.display()))),
            (_, Ok(Some(found))) => {
                let put = if found == bytes { Put::Created } else { Put::Exists };
                let gone = || Error::storage(format!("{}{name} is gone", self.at.display()));
                Ok((self.read::<T>(name).await?.ok_or_else(gone)?, put))
            }
        }
    }

    /// Seals an epoch. If the outcome of the put is unknown, reading the file back settles it.
    pub(crate) async fn seal(&self, seal: &Seal) -> Result<Claim> {
        let name = name("epoch", seal.epoch);
        let bytes = serde_json::to_vec(seal).map_err(|e| Error::internal(e.to_string()))?;
        let mut last = None;
        for _ in 0..3 {
            match self.at.put_new(&name, bytes.clone()).await {
                Ok(Put::Created) => return Ok(Claim::Ours),
                Ok(Put::Exists) => {}
                Err(e) => last = Some(e),
            }
            match self.read::<Seal>(&name).await {
                Ok(Some(found)) if found.nonce == seal.nonce => return Ok(Claim::Ours),
                Ok(Some(_)) => return Ok(Claim::Theirs),
                Ok(None) => {}
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::storage(format!("{}{name} cannot be written", self.at.display()))))
    }

    /// Ends a generation by writing its next seal. A runner that was suspended then loses there.
    ///
    /// `first`: the first epoch of this generation, if its `start.json` cannot be read.
    pub(crate) async fn fence(&self, now: EventTime, first: i64) -> Result<()> {
        loop {
            let first = match self.look::<StartFile>("start.json").await? {
                None => return Ok(()),
                Some(Ok(start)) => start.first_epoch,
                Some(Err(u)) if u.is_newer => return Err(u.error),
                Some(Err(_)) => first,
            };
            let next = self.newest_seal().await?.map_or(first, |n| n + 1);
            if let Some(last) = self.readable_seal(next - 1).await?
                && last.definition == FENCE
            {
                return Ok(());
            }
            let seal = Seal {
                format_version: FORMAT_VERSION,
                epoch: next,
                nonce: uuid::Uuid::new_v4().to_string(),
                definition: FENCE.into(),
                began: now,
                clock: now,
                ranges: vec![],
                topic_ids: BTreeMap::new(),
                watermarks_before: BTreeMap::new(),
                watermarks: BTreeMap::new(),
                state: BTreeMap::new(),
                static_versions: BTreeMap::new(),
                tables: BTreeMap::new(),
                lost: vec![],
                backfill: None,
                left: vec![],
                counts: serde_json::Value::Null,
            };
            if self.seal(&seal).await? == Claim::Ours {
                return Ok(());
            }
        }
    }

    pub(crate) async fn done(&self, done: &Done) -> Result<()> {
        let name = name("done", done.epoch);
        let bytes = serde_json::to_vec(done).map_err(|e| Error::internal(e.to_string()))?;
        let put = self.at.put_new(&name, bytes).await;
        // The content is the same, whichever runner wrote it.
        match put {
            Ok(_) => Ok(()),
            Err(e) => {
                if self.at.exists(&name).await? {
                    Ok(())
                } else {
                    Err(e)
                }
            }
        }
    }

    pub(crate) async fn read_seal(&self, epoch: i64) -> Result<Option<Seal>> {
        self.read(&name("epoch", epoch)).await
    }
    pub(crate) async fn readable_seal(&self, epoch: i64) -> Result<Option<Seal>> {
        self.readable(&name("epoch", epoch)).await
    }
    pub(crate) async fn read_done(&self, epoch: i64) -> Result<Option<Done>> {
        self.read(&name("done", epoch)).await
    }

    async fn numbers(&self, folder: &str) -> Result<Vec<i64>> {
        let names = self.at.list(folder).await?;
        Ok(names.iter().filter_map(|n| n.strip_suffix(".json")?.parse().ok()).collect())
    }

    pub(crate) async fn newest_seal(&self) -> Result<Option<i64>> {
        Ok(self.numbers("epoch").await?.into_iter().max())
    }
    pub(crate) async fn newest_done(&self) -> Result<Option<i64>> {
        Ok(self.numbers("done").await?.into_iter().max())
    }

    /// Writes a file of epoch `epoch` below `folder` ("state/<operator>", "staged/<table>"). Returns its name, relative
    /// to the generation.
    pub(crate) async fn write_file(&self, folder: String, epoch: i64, kind: &str, bytes: Vec<u8>) -> Result<String> {
        let name = format!("{folder}/{}", Self::file_name(epoch, kind));
        self.at.put(&name, bytes).await?;
        Ok(name)
    }

    /// The nonce is needed because two runners can stage the same epoch at the same time.
    pub(crate) fn file_name(epoch: i64, kind: &str) -> String {
        format!("{epoch:020}-{kind}-{}.arrow", &uuid::Uuid::new_v4().simple().to_string()[..8])
    }

    /// Removes epochs that are not among the last 100 and are older than 7 days, and state files older than those of
    /// every kept seal. It reads only the seals that it removes and the oldest one that stays. `oldest` is the result
    /// of the previous call; without it the whole folder is listed.
    pub(crate) async fn clean(&self, newest: i64, now: EventTime, oldest: Option<i64>) -> Result<Cleaned> {
        let week = 7 * 86_400_000_000i64;
        let sealed: Vec<i64> = match oldest {
            Some(oldest) => (oldest..newest).collect(),
            None => {
                let mut all = self.numbers("epoch").await?;
                all.sort_unstable();
                all
            }
        };
        let mut out = Cleaned { removed: 0, oldest };
        let mut oldest_named = None;
        let mut state: BTreeSet<String> = BTreeSet::new();
        let mut old = vec![];
        for epoch in sealed {
            let Some(seal) = self.read_seal(epoch).await? else { continue };
            let files = seal.state.values().flat_map(StateFiles::names).cloned();
            if epoch < newest - 100 && now.0 - seal.clock.0 > week {
                state.extend(files.filter(|f| !f.starts_with(WITHIN)));
                old.push(epoch);
                continue;
            }
            out.oldest = Some(epoch);
            oldest_named = Some(files.filter_map(|f| number_of(&f)).min().unwrap_or(epoch));
            break;
        }
        let mut gone = vec![];
        // After the epoch is done, its staged rows have been merged.
        for file in self.at.list("staged").await? {
            if number_of(&file).is_some_and(|n| n < newest) {
                gone.push(format!("staged/{file}"));
            }
        }
        if let Some(named) = oldest_named.filter(|_| !old.is_empty() || !gone.is_empty()) {
            for file in self.at.list("repair").await? {
                if number_of(&file).is_some_and(|n| Some(n) < out.oldest) {
                    gone.push(format!("repair/{file}"));
                }
            }
            // State files that no seal names are found by listing the folder, once in each run.
            if oldest.is_none() {
                state.extend(self.at.list("state").await?.into_iter().map(|file| format!("state/{file}")));
            }
            gone.extend(state.into_iter().filter(|file| number_of(file).is_some_and(|n| n < named)));
        }
        out.removed = gone.len() + old.len();
        gone.extend(old.iter().map(|epoch| name("done", *epoch)));
        self.at.delete_all(gone).await?;
        // The seals are removed last, because clean-up starts from them. An interrupted clean-up is then repeated for
        // everything.
        self.at.delete_all(old.iter().map(|epoch| name("epoch", *epoch))).await?;
        Ok(out)
    }
}

/// The result of a clean-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cleaned {
    pub removed: usize,
    /// The oldest kept epoch, if it is known.
    pub oldest: Option<i64>,
}

/// The epoch in the name of a state file.
pub(crate) fn number_of(file: &str) -> Option<i64> {
    file.rsplit('/').next()?.get(..20)?.parse().ok()
}

/// Writes, in the folder of a checkpoint, that the next run must start over.
pub(crate) const RESET: &str = "reset.json";

pub(crate) async fn start_over(checkpoint: &Location) -> Result<()> {
    checkpoint.put(RESET, b"{\"formatVersion\": 1}".to_vec()).await
}

/// The newest generation of a query below its checkpoint folder, and whether it is complete. `query.json` is the first
/// file of a generation; other files without it are the remains of a checkpoint.
pub(crate) async fn newest(checkpoint: &Location) -> Result<Option<(u64, bool)>> {
    let mut found: Vec<u64> = checkpoint.folders("").await?.iter().filter_map(|n| n.parse().ok()).collect();
    found.sort_unstable();
    for generation in found.into_iter().rev() {
        if checkpoint.exists(&format!("{generation}/query.json")).await? {
            return Ok(Some((generation, true)));
        }
        let log = EpochLog::new(checkpoint.join(&generation.to_string()));
        if log.at.exists("start.json").await? || log.newest_seal().await?.is_some() {
            return Ok(Some((generation, false)));
        }
    }
    Ok(None)
}

/// The newest generation. An error if its `query.json` is lost.
pub(crate) async fn newest_generation(checkpoint: &Location) -> Result<Option<u64>> {
    match newest(checkpoint).await? {
        Some((generation, false)) => Err(Error::storage(format!(
            "{}{generation}/query.json is missing, but other files of the checkpoint exist. Restore it from a copy. \
             Or, to empty the tables and read everything again, run with full_refresh=True.",
            checkpoint.display()
        ))),
        found => Ok(found.map(|(generation, _)| generation)),
    }
}
