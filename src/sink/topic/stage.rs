//! Staging: the rows of an epoch become messages, and those of groups that are gone become tombstones.

use super::keys::{LiveKeys, digest};
use super::{Cluster, Encoder, Facts, GoOn, Shape, TOPIC, on_leash, sender};
use crate::sink::{Changes, HeldRows, OutputMode, Owner, Part, Refused, Rows, Staged, StagedRows, Staging};
use crate::{Error, Result};
use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema};
use async_trait::async_trait;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::sync::Arc;

/// A batch that was judged, and its messages.
type Judged = (RecordBatch, Vec<RecordBatch>);

pub(super) struct TopicStaging {
    pub cluster: Arc<dyn Cluster>,
    pub facts: Facts,
    pub shape: Shape,
    pub rows: Rows,
    pub encoder: Arc<dyn Encoder>,
    /// The rows that were judged last: the same rows are pushed next, and need not be encoded twice.
    pub judged: Mutex<Option<Judged>>,
    pub live: Arc<Mutex<LiveKeys>>,
    pub owner: Arc<Mutex<Option<Owner>>>,
}

fn same(a: &RecordBatch, b: &RecordBatch) -> bool {
    a.num_rows() == b.num_rows()
        && a.num_columns() == b.num_columns()
        && a.columns().iter().zip(b.columns()).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl TopicStaging {
    fn now(&self) -> i64 {
        self.rows.clock.now().0 / 1000
    }

    fn messages(&self, rows: &RecordBatch) -> Result<Vec<RecordBatch>> {
        match self.judged.lock().take() {
            Some((of, messages)) if same(&of, rows) => Ok(messages),
            _ => self.encoder.encode(rows, self.now()).map_err(|e| e.context(&self.rows.name)),
        }
    }

    /// The keys of groups, in the columns that the aggregate gives them.
    fn keys_of(&self, groups: &RecordBatch) -> Result<BinaryArray> {
        let names: Vec<&str> = self.rows.keys.iter().map(|k| self.rows.schema.field(*k).name().as_str()).collect();
        let (mut fields, mut columns) = (vec![], vec![]);
        for key in &self.shape.keys {
            let at = names.iter().position(|n| n == key).filter(|at| *at < groups.num_columns());
            let at = at.ok_or_else(|| Error::internal(format!("a group has no key '{key}'")))?;
            fields.push(Field::new(key, groups.column(at).data_type().clone(), true));
            columns.push(groups.column(at).clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(groups.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        self.encoder.keys(&rows).or_else(|_| {
            // A key without a JSON form (NaN) is in no message: its row is in quarantine.
            let one = |row| self.encoder.keys(&rows.slice(row, 1)).ok();
            let all: Vec<Option<BinaryArray>> = (0..rows.num_rows()).map(one).collect();
            Ok(all.iter().map(|key| key.as_ref().and_then(|k| k.iter().next().flatten())).collect())
        })
    }
}

/// The staging of a topic, shared with the parts that it begins.
pub(super) struct Shared(pub Arc<TopicStaging>);

impl Staging for Shared {
    fn judge(&self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        let now = self.0.now();
        match self.0.encoder.encode(rows, now) {
            Ok(messages) => {
                *self.0.judged.lock() = Some((rows.clone(), messages));
                Ok(vec![])
            }
            Err(first) => {
                let refused = self.0.encoder.refused(rows, now);
                if refused.is_empty() {
                    return Err(first.context(&self.0.rows.name));
                }
                let one = |(row, why): (u32, String)| Refused { row, rules: vec![], error: why.as_str().into() };
                Ok(refused.into_iter().map(one).collect())
            }
        }
    }

    fn begin(&self, _runtime: &tokio::runtime::Handle) -> Box<dyn Part> {
        Box::new(Messages { staging: self.0.clone(), held: HeldRows::default() })
    }
}

/// The messages of an epoch, held until its end.
struct Messages {
    staging: Arc<TopicStaging>,
    held: HeldRows,
}

#[async_trait]
impl Part for Messages {
    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        for batch in self.staging.messages(&rows)? {
            self.held.push(batch);
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.held.bytes
    }

    async fn finish(self: Box<Self>, changes: Changes<'_>) -> Result<Staged> {
        let Self { staging, held } = *self;
        let batches = match staging.rows.mode {
            OutputMode::Append => held.batches,
            OutputMode::Update => {
                let keys = changes.keys.iter().map(|groups| staging.keys_of(groups)).collect::<Result<Vec<_>>>()?;
                update(&staging, held.batches, &keys)?
            }
            OutputMode::Complete if changes.any || !held.batches.is_empty() => {
                // The first epoch of a run reads the topic.
                let staging = staging.clone();
                on_leash(move |go_on| complete(&staging, held.batches, go_on)).await?
            }
            OutputMode::Complete => vec![],
        };
        let batches: Vec<RecordBatch> = batches.into_iter().filter(|b| b.num_rows() > 0).collect();
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let schema = batches.first().map(RecordBatch::schema);
        let whole = schema.map(|schema| StagedRows { schema, batches });
        // The epoch is for this topic, whatever the output's topic is when it is sent.
        let files = if rows > 0 { vec![serde_json::json!({ TOPIC: staging.facts.identity() })] } else { vec![] };
        Ok(Staged { rows, files, whole, ..Staged::default() })
    }
}

fn keys(messages: &RecordBatch) -> Result<&BinaryArray> {
    messages.column(0).as_binary_opt().ok_or_else(|| Error::internal("messages without a column of keys"))
}

/// The rows of changed groups, of several with one key the last one, and a tombstone for each changed group without a row.
fn update(staging: &TopicStaging, rows: Vec<RecordBatch>, changed: &[BinaryArray]) -> Result<Vec<RecordBatch>> {
    let mut out = last_of_each(&rows)?;
    let mut present: HashSet<&[u8]> = HashSet::new();
    for batch in &rows {
        present.extend(keys(batch)?.iter().flatten());
    }
    let mut live = staging.live.lock();
    present.iter().for_each(|key| live.is_there(key));
    let mut gone: Vec<&[u8]> = vec![];
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for key in changed.iter().flat_map(|keys| keys.iter().flatten()) {
        // A group that is not in the result and was not in it before gets only one tombstone in a run, and not one in
        // each epoch.
        if !present.contains(key) && seen.insert(key) && live.take_away(key) {
            gone.push(key);
        }
    }
    if !gone.is_empty() {
        out.push(staging.cluster.tombstones(&BinaryArray::from_iter_values(gone))?);
    }
    Ok(out)
}

/// The changes in the whole result since the previous epoch.
fn complete(staging: &TopicStaging, rows: Vec<RecordBatch>, go_on: GoOn<'_>) -> Result<Vec<RecordBatch>> {
    let rows = last_of_each(&rows)?;
    let mut live = staging.live.lock();
    let owner = staging.owner.lock().clone();
    let owner = owner.ok_or_else(|| Error::internal("a topic does not know its query"))?;
    let before = live.load(&*staging.cluster, &staging.facts.name, &sender(&owner, &staging.rows.name), go_on)?;
    let mut now: HashMap<Box<[u8]>, u128> = HashMap::with_capacity(before.len());
    let mut out = vec![];
    for batch in &rows {
        let changed: BooleanArray = (0..batch.num_rows())
            .map(|row| {
                let key = keys(batch)?.value(row);
                let digest = digest(batch, row)?;
                now.insert(key.into(), digest);
                Ok(Some(before.get(key) != Some(&digest)))
            })
            .collect::<Result<_>>()?;
        out.push(filter_record_batch(batch, &changed)?);
    }
    let mut gone: Vec<&[u8]> = before.keys().filter(|k| !now.contains_key(*k)).map(|k| &**k).collect();
    gone.sort_unstable();
    if !gone.is_empty() {
        out.push(staging.cluster.tombstones(&BinaryArray::from_iter_values(gone))?);
    }
    live.replace(now);
    Ok(out)
}

/// Of several messages with one key only the last one. Mostly there is one message for each key, and the batches are unchanged.
fn last_of_each(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut last: HashMap<&[u8], (usize, usize)> = HashMap::new();
    let mut several = false;
    for (b, batch) in batches.iter().enumerate() {
        for (row, key) in keys(batch)?.iter().enumerate() {
            several |= last.insert(key.unwrap_or_default(), (b, row)).is_some();
        }
    }
    if !several {
        return Ok(batches.to_vec());
    }
    let mut out = vec![];
    for (b, batch) in batches.iter().enumerate() {
        let of = keys(batch)?.iter().enumerate();
        let keep: BooleanArray =
            of.map(|(row, key)| Some(last.get(key.unwrap_or_default()) == Some(&(b, row)))).collect();
        out.push(filter_record_batch(batch, &keep)?);
    }
    Ok(out)
}
