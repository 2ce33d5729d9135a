//! Partial states by key: increment, merge, snapshot, restore.
//!
//! An epoch aggregates into fresh accumulators; what they hold at its end *is* the increment that is written, and it is
//! merged into the live groups. DataFusion's partial states are no stable format: each file names the version and the
//! aggregates that it was made with, and anything else is refused.

use crate::expr::Aggregate;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use std::sync::Arc;

/// The version that partial states are tied to.
pub const STATE_VERSION: &str = concat!("datafusion ", "55");

/// Accumulators for some groups.
pub struct Groups {
    key_schema: SchemaRef,
    /// None when there are no key columns: then there is one group at most.
    values: Option<Box<dyn GroupValues>>,
    count: usize,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    indices: Vec<usize>,
}

impl Groups {
    pub fn new(key_schema: &SchemaRef, aggregates: &[Aggregate]) -> Result<Self> {
        let values = match key_schema.fields().is_empty() {
            true => None,
            false => Some(new_group_values(key_schema.clone(), &GroupOrdering::None)?),
        };
        let accumulators = aggregates.iter().map(Aggregate::accumulator).collect::<Result<_>>()?;
        Ok(Self { key_schema: key_schema.clone(), values, count: 0, accumulators, indices: vec![] })
    }

    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    pub fn memory(&self) -> usize {
        self.values.as_ref().map_or(0, |v| v.size()) + self.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        match &mut self.values {
            Some(values) => {
                values.intern(keys, &mut self.indices)?;
                self.count = values.len();
            }
            None => {
                self.indices.clear();
                self.indices.resize(rows, 0);
                self.count = self.count.max(usize::from(rows > 0));
            }
        }
        Ok(())
    }

    /// Adds rows: `arguments` and `filters` as each aggregate wants them.
    pub fn update(
        &mut self,
        keys: &[ArrayRef],
        arguments: &[Vec<ArrayRef>],
        filters: &[Option<BooleanArray>],
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.intern(keys, rows)?;
        for ((acc, args), filter) in self.accumulators.iter_mut().zip(arguments).zip(filters) {
            acc.update_batch(args, &self.indices, filter.as_ref(), self.count)?;
        }
        Ok(())
    }

    /// Merges partial states: one row a group, the states of all aggregates one after the other.
    pub fn merge(
        &mut self,
        keys: &[ArrayRef],
        states: &[ArrayRef],
        aggregates: &[Aggregate],
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.intern(keys, rows)?;
        let mut at = 0;
        for (acc, aggregate) in self.accumulators.iter_mut().zip(aggregates) {
            let width = aggregate.state_fields()?.len();
            acc.merge_batch(&states[at..at + width], &self.indices, self.count)?;
            at += width;
        }
        Ok(())
    }

    /// The groups' keys and partial states. By value: what DataFusion's tables hold after emitting all is not to be used again.
    pub fn into_states(mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let keys = self.take_keys()?;
        let mut states = vec![];
        for acc in &mut self.accumulators {
            states.extend(acc.state(EmitTo::All)?);
        }
        Ok((keys, states))
    }

    /// The groups' keys and results.
    pub fn into_results(mut self, aggregates: &[Aggregate]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let keys = self.take_keys()?;
        let mut results = vec![];
        for (acc, aggregate) in self.accumulators.iter_mut().zip(aggregates) {
            results.push(aggregate.finish(acc.evaluate(EmitTo::All)?)?);
        }
        Ok((keys, results))
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        let Some(values) = &mut self.values else { return Ok(vec![]) };
        let keys = values.emit(EmitTo::All)?;
        // Some implementations hand out another representation of the same values.
        keys.iter()
            .zip(self.key_schema.fields())
            .map(|(k, f)| if k.data_type() == f.data_type() { Ok(k.clone()) } else { Ok(cast(k, f.data_type())?) })
            .collect()
    }
}

/// NaNs are one value and −0.0 is 0.0 in keys, as in Spark.
pub fn normalize_key(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            let a = array.as_primitive::<Float64Type>();
            Arc::new(a.unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }))
        }
        DataType::Float32 => {
            let a = array.as_primitive::<Float32Type>();
            Arc::new(a.unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }))
        }
        _ => array.clone(),
    }
}

const MAGIC: &[u8; 8] = b"BAYOUST1";

/// A snapshot file: magic, CRC-32 and length of what follows, then one Arrow IPC stream.
pub fn encode(batch: &RecordBatch, description: &str) -> Result<Vec<u8>> {
    let metadata = [
        ("bayou.state".to_string(), description.to_string()),
        ("bayou.version".to_string(), STATE_VERSION.to_string()),
    ];
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata.into()));
    let batch = batch.clone().with_schema(schema.clone())?;
    let mut out = Vec::from(MAGIC);
    out.extend([0; 12]);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(&mut out, &schema, options)?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let body = &out[20..];
    let (crc, len) = (crc32fast::hash(body), body.len() as u64);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out[12..20].copy_from_slice(&len.to_le_bytes());
    Ok(out)
}

/// Reads a snapshot file back; a damaged one, or one of other aggregates, is refused.
pub fn decode(bytes: &[u8], description: &str, schema: &SchemaRef, name: &str) -> Result<RecordBatch> {
    let damaged = |what: &str| {
        Error::storage(format!(
            "the state file {name} is damaged ({what}). Restore it from a backup, or start over with reset(confirm=True)."
        ))
    };
    if bytes.len() < 20 || &bytes[..8] != MAGIC {
        return Err(damaged("not a state file of a known version"));
    }
    let word = |r: std::ops::Range<usize>| bytes[r].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let body = &bytes[20..];
    if word(12..20) != body.len() as u64 {
        return Err(damaged("its length is wrong"));
    }
    if word(8..12) != u64::from(crc32fast::hash(body)) {
        return Err(damaged("its checksum is wrong"));
    }
    let mut reader = StreamReader::try_new(body, None).map_err(|_| damaged("not Arrow IPC"))?;
    let found = reader.schema();
    let metadata = found.metadata();
    let version = metadata.get("bayou.version").map_or("", String::as_str);
    if version != STATE_VERSION {
        return Err(Error::config(format!(
            "the state file {name} was written by '{version}' and this is '{STATE_VERSION}'; partial states cannot be carried over. \
             Finish with the older bayou, or start over with reset(confirm=True)."
        )));
    }
    let other = metadata.get("bayou.state").map_or("", String::as_str);
    if other != description {
        return Err(Error::config(format!(
            "the state file {name} belongs to another aggregation ({other} instead of {description}). Start over with reset(confirm=True)."
        )));
    }
    let batch = match reader.next() {
        Some(batch) => batch.map_err(|_| damaged("not Arrow IPC"))?,
        None => RecordBatch::new_empty(schema.clone()),
    };
    RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|_| damaged("its columns are others"))
}
