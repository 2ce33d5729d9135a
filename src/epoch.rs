//! The log of epochs: what makes tables exactly-once.
//!
//! An epoch is a range of offsets per partition and what became of it. Its life:
//!
//! ```text
//! start   query.json, start.json     put-if-absent: which query this is, and where it begins
//! work    nothing on storage
//! stage   data files in the tables, state files here; no version names them
//! seal    epoch/N.json               put-if-absent: the outcome; from here on nothing is computed or read again
//! commit  one commit per table with txn = N, compare-and-set
//! done    done/N.json                put-if-absent: each table's version
//! ```
//!
//! **Why nothing is written twice or lost.** Let N be an epoch.
//!
//! 1. There is at most one seal N, since it is created only if absent. Its offsets begin where seal N−1 ended.
//! 2. A table takes N's files at most once: the commit is a compare-and-set on a snapshot in which `txn < N` was read, and
//!    it sets `txn = N`. It makes no difference who commits: every runner commits the same sealed files.
//! 3. N+1 is sealed only after `done/N` exists, and `done/N` is written only after every table of N has been committed.
//!    So at any time at most one sealed epoch is unfinished, and a start finishes it before it reads anything.
//! 4. An epoch without a seal is in no table, for only sealed files are committed. Its staged files are garbage.
//! 5. The seal holds the outcome, not the input. After it neither retention or compaction in Kafka, nor `random()`, nor
//!    the order of float additions can make two tables of one epoch disagree.
//!
//! An error from storage never settles whether a put happened: the file is read back, and our nonce in it means that it is
//! ours. All fields, with an example of each file, are in `docs/format.md`.

use crate::position::{Offset, Positions, TopicPartition};
use crate::storage::{Location, Put};
use crate::time::EventTime;
use crate::window::TrackerState;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub const FORMAT_VERSION: u32 = 1;
/// The `definition` of a seal that only ends a generation.
pub const FENCE: &str = "fence";

/// Positions by topic and partition, as they stand in files: `{"topic": {"0": 42}}`.
pub type PositionMap = BTreeMap<String, BTreeMap<i32, i64>>;

pub fn position_map(positions: &Positions) -> PositionMap {
    let mut out = PositionMap::new();
    for (tp, offset) in positions {
        out.entry(tp.topic.to_string()).or_default().insert(tp.partition.0, offset.0);
    }
    out
}

pub fn positions(map: &PositionMap) -> Positions {
    map.iter().flat_map(|(t, ps)| ps.iter().map(move |(p, o)| (TopicPartition::new(t, *p), Offset(*o)))).collect()
}

/// `query.json`: identity only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryFile {
    pub format_version: u32,
    pub query_name: String,
    pub query_id: String,
    pub generation: u64,
    pub cluster_id: String,
    /// Topic ids, where the broker knows them.
    pub topic_ids: BTreeMap<String, Option<String>>,
    pub created_at: EventTime,
}

/// `start.json`: where the first epoch begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartFile {
    pub format_version: u32,
    pub first_epoch: i64,
    pub positions: PositionMap,
    /// What the user asked for, to warn when a later run differs.
    pub starting_offsets: serde_json::Value,
    pub clock: EventTime,
    /// Set by `reset` and `full_refresh`: before the first epoch the tables are emptied by a commit with this txn.
    pub truncate_txn: Option<i64>,
}

/// `definition/<hash>.json`: schemas, rules and state formats of the query.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionFile {
    pub format_version: u32,
    pub tables: BTreeMap<String, TableDefinition>,
    /// Stateful operators: what each one's snapshots are of.
    pub operators: BTreeMap<String, String>,
    /// Stateful operators: the stateful steps that lead to each.
    #[serde(default)]
    pub signatures: BTreeMap<String, String>,
    pub state_version: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TableDefinition {
    pub schema: String,
    pub mode: String,
    pub partition_by: Vec<String>,
    /// The steps from the topic to the table, as people read them.
    pub steps: Vec<String>,
    /// The names of its watermarks in the seals.
    #[serde(default)]
    pub watermarks: Vec<String>,
    /// It was filled from the earliest offset, and shares no state with tables that began elsewhere.
    #[serde(default)]
    pub filled: bool,
}

/// One partition's part of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    pub topic: String,
    pub partition: i32,
    /// The first offset of the epoch.
    pub from: i64,
    /// The offset after its last one.
    pub until: i64,
    pub records: u64,
    /// The timestamp of the partition's last record so far, in microseconds; None when it has none yet.
    pub last_timestamp: Option<EventTime>,
    /// The partition's last record so far: its offset, and the leader epoch it was written in. By these a later run sees that a
    /// log was cut and written anew. None before the first record, in seals of older versions, and where the broker has no epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
}

/// What is to be committed to one table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedTable {
    pub location: String,
    pub mode: String,
    /// `false`: no rows in this epoch, and so no commit.
    pub commit: bool,
    pub rows: u64,
    /// Delta's Add actions, as they go into the commit.
    pub adds: Vec<serde_json::Value>,
    /// The file of rows that are merged (mode "update") or handed to a function ("foreach"); from the generation's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// Mode "update": the columns that rows are merged by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// By which state of the table's schema and properties the rows were looked at. None in seals of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<String>,
}

/// The files that hold an operator's state after an epoch: merge them in order, then forget closed windows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StateFiles {
    pub base: Option<String>,
    pub increments: Vec<String>,
    pub groups: u64,
    /// Up to where the operator has handed out what was due: its own watermark, which that of a later plan may be ahead of.
    #[serde(default)]
    pub watermark: Option<EventTime>,
}

/// `epoch/N.json`: the seal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    pub format_version: u32,
    pub epoch: i64,
    /// Ours, and nobody else's: tells whether a put that failed has landed.
    pub nonce: String,
    pub definition: String,
    /// The clock when the epoch began (event times later than this plus `max_future` did not count), and at its end, by which
    /// partitions were judged idle.
    pub began: EventTime,
    pub clock: EventTime,
    pub ranges: Vec<Range>,
    /// The ids of topics that were made anew since `query.json`, where the user said to go on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topic_ids: BTreeMap<String, String>,
    /// Per `with_watermark`, before and after the epoch.
    pub watermarks_before: BTreeMap<String, Option<EventTime>>,
    pub watermarks: BTreeMap<String, TrackerState>,
    pub state: BTreeMap<String, StateFiles>,
    /// Versions of joined static tables.
    pub static_versions: BTreeMap<String, u64>,
    pub tables: BTreeMap<String, SealedTable>,
    /// Offsets that were gone, where the user said to go on.
    pub lost: Vec<LostRange>,
    /// An epoch that fills new tables from the earliest offset names them and their ranges here; the others wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
    pub counts: serde_json::Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backfill {
    pub tables: Vec<String>,
    /// New tables that are filled after these.
    pub waiting: Vec<String>,
    pub ranges: Vec<Range>,
    pub watermarks_before: BTreeMap<String, Option<EventTime>>,
    pub watermarks: BTreeMap<String, TrackerState>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LostRange {
    pub topic: String,
    pub partition: i32,
    /// Reading stood here,
    pub from: i64,
    /// and went on here: further on where offsets had been removed, further back where the log had been cut.
    pub until: i64,
    #[serde(default)]
    pub why: Loss,
}

/// Why offsets are lost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// In seals of older versions.
    #[default]
    Unknown,
    /// Removed before they were read.
    Retention,
    /// The log was cut: what was read from `until` on is not in it any more.
    Truncated,
    /// The topic was deleted and made anew.
    Recreated,
    /// The log was cut, and nothing but transaction markers and the like had been read there: no record is lost.
    Markers,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DoneTable {
    pub id: String,
    pub version: u64,
    /// The newest epoch that this table has taken rows from; None before the first.
    pub txn: Option<i64>,
}

/// `done/N.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    pub format_version: u32,
    pub epoch: i64,
    pub nonce: String,
    pub clock: EventTime,
    pub tables: BTreeMap<String, DoneTable>,
    pub counts: serde_json::Value,
}

/// The files of one generation of one query.
#[derive(Clone)]
pub struct EpochLog {
    pub at: Location,
}

fn name(folder: &str, epoch: i64) -> String {
    format!("{folder}/{epoch:020}.json")
}

/// Whose a file is that could only be written once.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    Ours,
    Theirs,
}

impl EpochLog {
    pub fn new(at: Location) -> Self {
        Self { at }
    }

    pub async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.at.get(name).await? else { return Ok(None) };
        let place = || format!("{}{name}", self.at.display());
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            // What was written before there were versions names none.
            #[serde(default)]
            format_version: u64,
        }
        let damaged = |e: serde_json::Error| {
            Error::storage(format!(
                "{} is damaged ({e}). Restore it from a backup, or start over with reset(confirm=True).",
                place()
            ))
        };
        let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version.format_version > u64::from(FORMAT_VERSION) {
            return Err(Error::config(format!(
                "{} was written by a newer bayou (format {}, this one knows {FORMAT_VERSION}). Upgrade bayou.",
                place(),
                version.format_version
            )));
        }
        if version.format_version < u64::from(FORMAT_VERSION) {
            return Err(Error::config(format!(
                "{} was written by an older bayou (format {}, this one reads {FORMAT_VERSION}). Go on with that version; or empty the \
                 tables and read everything anew with reset(confirm=True).",
                place(),
                version.format_version
            )));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Creates a file, or returns what stands there. After an error it is read back before anybody despairs.
    pub async fn create<T: Serialize + DeserializeOwned>(&self, name: &str, value: &T) -> Result<(T, Put)> {
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

    /// Seals an epoch; a put whose outcome is unknown is settled by reading it back.
    pub async fn seal(&self, seal: &Seal) -> Result<Claim> {
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

    /// Ends a generation: takes the place of its next seal, so that a runner that was away finds itself beaten there.
    pub async fn fence(&self, now: EventTime) -> Result<()> {
        loop {
            let start: Option<StartFile> = self.read("start.json").await?;
            let Some(start) = start else { return Ok(()) };
            let next = self.newest_seal().await?.map_or(start.first_epoch, |n| n + 1);
            if let Some(last) = self.read_seal(next - 1).await?
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
                counts: serde_json::Value::Null,
            };
            if self.seal(&seal).await? == Claim::Ours {
                return Ok(());
            }
        }
    }

    pub async fn done(&self, done: &Done) -> Result<()> {
        let name = name("done", done.epoch);
        let bytes = serde_json::to_vec(done).map_err(|e| Error::internal(e.to_string()))?;
        let put = self.at.put_new(&name, bytes).await;
        // Whoever wrote it: it says the same.
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

    pub async fn read_seal(&self, epoch: i64) -> Result<Option<Seal>> {
        self.read(&name("epoch", epoch)).await
    }
    pub async fn read_done(&self, epoch: i64) -> Result<Option<Done>> {
        self.read(&name("done", epoch)).await
    }

    async fn numbers(&self, folder: &str) -> Result<Vec<i64>> {
        let names = self.at.list(folder).await?;
        Ok(names.iter().filter_map(|n| n.strip_suffix(".json")?.parse().ok()).collect())
    }

    pub async fn newest_seal(&self) -> Result<Option<i64>> {
        Ok(self.numbers("epoch").await?.into_iter().max())
    }
    pub async fn newest_done(&self) -> Result<Option<i64>> {
        Ok(self.numbers("done").await?.into_iter().max())
    }

    /// Writes a file of epoch `epoch` below `folder` ("state/<operator>", "staged/<table>"); its name from here.
    pub async fn write_file(&self, folder: String, epoch: i64, kind: &str, bytes: Vec<u8>) -> Result<String> {
        // The nonce: two runners may stage the same epoch at once.
        let name = format!("{folder}/{epoch:020}-{kind}-{}.arrow", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        self.at.put(&name, bytes).await?;
        Ok(name)
    }

    /// Takes away epochs older than the last 100 and than 7 days, and state files older than any that a kept seal names. Reads only seals that
    /// go, and the oldest that stays; `oldest` is what it returned the last time, without which the whole folder is listed.
    pub async fn clean(&self, newest: i64, now: EventTime, oldest: Option<i64>) -> Result<Cleaned> {
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
        for epoch in sealed {
            let Some(seal) = self.read_seal(epoch).await? else { continue };
            let files = seal.state.values().flat_map(|f| f.base.iter().chain(&f.increments)).cloned();
            if epoch < newest - 100 && now.0 - seal.clock.0 > week {
                state.extend(files);
                // The seal last: it is what clean-up goes by, so that one that was cut off in between takes both.
                self.at.delete(&name("done", epoch)).await?;
                self.at.delete(&name("epoch", epoch)).await?;
                out.removed += 1;
                continue;
            }
            out.oldest = Some(epoch);
            oldest_named = Some(files.filter_map(|f| number_of(&f)).min().unwrap_or(epoch));
            break;
        }
        // What was staged to be merged has been, once its epoch is done.
        for file in self.at.list("staged").await? {
            if number_of(&file).is_some_and(|n| n < newest) {
                self.at.delete(&format!("staged/{file}")).await?;
                out.removed += 1;
            }
        }
        let Some(named) = oldest_named.filter(|_| out.removed > 0) else { return Ok(out) };
        for file in self.at.list("repair").await? {
            if number_of(&file).is_some_and(|n| Some(n) < out.oldest) {
                self.at.delete(&format!("repair/{file}")).await?;
            }
        }
        // Those that no seal names are found by a look at the folder, which a run takes once.
        if oldest.is_none() {
            state.extend(self.at.list("state").await?.into_iter().map(|file| format!("state/{file}")));
        }
        for file in state {
            if number_of(&file).is_some_and(|n| n < named) {
                self.at.delete(&file).await?;
                out.removed += 1;
            }
        }
        Ok(out)
    }
}

/// What a clean-up has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleaned {
    pub removed: usize,
    /// The oldest epoch that is kept, if any is known.
    pub oldest: Option<i64>,
}

/// The epoch in a state file's name.
fn number_of(file: &str) -> Option<i64> {
    file.rsplit('/').next()?.get(..20)?.parse().ok()
}

/// Says, in a checkpoint's folder, that the next run is to start over.
pub const RESET: &str = "reset.json";

pub async fn start_over(checkpoint: &Location) -> Result<()> {
    checkpoint.put(RESET, b"{\"formatVersion\": 1}".to_vec()).await
}

/// The newest generation of a query below its checkpoint folder, and whether it is whole: `query.json` is its first file, and others without
/// it are what is left of a checkpoint.
pub async fn newest(checkpoint: &Location) -> Result<Option<(u64, bool)>> {
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

/// The newest generation; an error where its `query.json` is lost.
pub async fn newest_generation(checkpoint: &Location) -> Result<Option<u64>> {
    match newest(checkpoint).await? {
        Some((generation, false)) => Err(Error::storage(format!(
            "{}{generation}/query.json is gone, and other files of the checkpoint are there. Restore it from a copy; or, to empty the tables and \
             read everything anew, run with full_refresh=True.",
            checkpoint.display()
        ))),
        found => Ok(found.map(|(generation, _)| generation)),
    }
}
