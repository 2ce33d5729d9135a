//! The state files of a join of two streams: rows of both sides in one schema, and marks.
//!
//! `_side` is 0 for a left row, 1 for a right row, and 2 for a mark. A mark says that the earlier written row with that
//! `_id` has matched.

use super::side::Side;
use super::{IntervalJoinSpec, LEFT};
use crate::expr::Bound;
use crate::state::KeyCodec;
use crate::time::EventTime;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::filter_record_batch;
use arrow::datatypes::*;
use std::sync::Arc;

const MARK: i8 = 2;
/// `_side`, `_id`, `_matched`, `_time`.
const OWN: usize = 4;

/// The places of values in a state row.
pub(super) struct Layout {
    schema: SchemaRef,
    left: SchemaRef,
    right_columns: usize,
    /// The column of each right key: a kept column, or an added one after the kept columns.
    right_keys: Vec<usize>,
}

/// The written rows of one side.
pub(super) struct ReadRows {
    pub ids: Vec<i64>,
    pub times: Vec<i64>,
    pub matched: BooleanArray,
    pub columns: Vec<ArrayRef>,
    pub keys: Vec<ArrayRef>,
}

fn damaged(what: &str) -> Error {
    Error::storage(format!(
        "a state file of a join of two streams is damaged ({what}). Start over with full_refresh=True."
    ))
}

impl Layout {
    pub(super) fn new(spec: &IntervalJoinSpec, right_keys: &[Bound]) -> Self {
        let time = crate::time::timestamp_type();
        let mut fields = vec![
            Field::new("_side", DataType::Int8, true),
            Field::new("_id", DataType::Int64, true),
            Field::new("_matched", DataType::Boolean, true),
            Field::new("_time", time, true),
        ];
        let renamed =
            |prefix: &str, f: &Field| Field::new(format!("{prefix}_{}", f.name()), f.data_type().clone(), true);
        fields.extend(spec.left_schema.fields().iter().map(|f| renamed("l", f)));
        let first_right = fields.len();
        fields.extend(spec.right_columns.iter().map(|i| renamed("r", spec.right_schema.field(*i))));
        let mut places = vec![];
        for key in right_keys {
            let kept = key.as_column().and_then(|c| spec.right_columns.iter().position(|i| *i == c));
            places.push(kept.map_or(fields.len(), |at| first_right + at));
            if kept.is_none() {
                let mut name = format!("r_{}", key.name);
                while fields.iter().any(|f| *f.name() == name) {
                    name.push_str("_key");
                }
                fields.push(Field::new(name, key.data_type.clone(), true));
            }
        }
        Self {
            schema: Arc::new(Schema::new(fields)),
            left: spec.left_schema.clone(),
            right_columns: spec.right_columns.len(),
            right_keys: places,
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn first_right(&self) -> usize {
        OWN + self.left.fields().len()
    }

    /// The state rows for some rows of a side.
    pub(super) fn rows(&self, input: usize, side: &Side, rows: &[u32], codec: &KeyCodec) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let ids: Int64Array = rows.iter().map(|n| Some(side.id(*n))).collect();
        let matched: BooleanArray = rows.iter().map(|n| Some(side.is_matched(*n))).collect();
        let times: TimestampMicrosecondArray = rows.iter().map(|n| Some(side.time(*n).0)).collect();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        columns[0] = Some(Arc::new(Int8Array::from_value(input as i8, rows.len())));
        columns[1] = Some(Arc::new(ids));
        columns[2] = Some(Arc::new(matched));
        columns[3] = Some(Arc::new(times.with_timezone("UTC")));
        let first = if input == LEFT { OWN } else { self.first_right() };
        for (i, column) in side.gather(rows)?.into_iter().enumerate() {
            columns[first + i] = Some(column);
        }
        // Left keys can be computed from the left columns, which are all kept.
        if input != LEFT && self.right_keys.iter().any(|place| columns[*place].is_none()) {
            let keys = codec.decode(rows.iter().filter_map(|n| side.key(*n)))?;
            for (place, key) in self.right_keys.iter().zip(keys) {
                columns[*place].get_or_insert(key);
            }
        }
        self.fill(columns, rows.len())
    }

    /// State rows that say which rows have matched. They contain the times of these rows, which show how long each mark
    /// is needed.
    pub(super) fn marks(&self, marks: &[(i64, EventTime)]) -> Result<RecordBatch> {
        let times: TimestampMicrosecondArray = marks.iter().map(|(_, time)| Some(time.0)).collect();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        columns[0] = Some(Arc::new(Int8Array::from_value(MARK, marks.len())));
        columns[1] = Some(Arc::new(marks.iter().map(|(id, _)| Some(*id)).collect::<Int64Array>()));
        columns[2] = Some(Arc::new(BooleanArray::from(vec![true; marks.len()])));
        columns[3] = Some(Arc::new(times.with_timezone("UTC")));
        self.fill(columns, marks.len())
    }

    /// The latest time of a left row, of a right row and of a mark. Nothing if the batch is not such a state.
    pub(super) fn latest(&self, state: &RecordBatch) -> Option<[Option<EventTime>; 3]> {
        let sides = state.column(0).as_primitive_opt::<Int8Type>()?;
        let times = state.column(3).as_primitive_opt::<TimestampMicrosecondType>()?;
        let mut latest = [None; 3];
        for (side, time) in sides.iter().zip(times) {
            let latest = latest.get_mut(usize::try_from(side?).ok()?)?;
            *latest = (*latest).max(Some(EventTime(time?)));
        }
        Some(latest)
    }

    fn fill(&self, columns: Vec<Option<ArrayRef>>, rows: usize) -> Result<RecordBatch> {
        let fields = self.schema.fields().iter();
        let columns =
            columns.into_iter().zip(fields).map(|(c, f)| c.unwrap_or_else(|| new_null_array(f.data_type(), rows)));
        Ok(RecordBatch::try_new(self.schema.clone(), columns.collect())?)
    }

    /// The rows of a side in an increment or a snapshot.
    pub(super) fn read(&self, input: usize, state: &RecordBatch, left_keys: &[Bound]) -> Result<ReadRows> {
        let state = self.part(state, input as i8)?;
        let column = |i: usize| state.column(i).clone();
        let ids = state.column(1).as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("no ids"))?;
        let matched = state.column(2).as_boolean_opt().ok_or_else(|| damaged("no flags"))?;
        let times =
            state.column(3).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| damaged("no times"))?;
        if ids.null_count() + matched.null_count() + times.null_count() > 0 {
            return Err(damaged("a row without id, flag or time"));
        }
        let (columns, keys): (Vec<ArrayRef>, Vec<ArrayRef>) = match input {
            _ if state.num_rows() == 0 => (vec![], vec![]),
            LEFT => {
                let columns: Vec<ArrayRef> = (OWN..self.first_right()).map(column).collect();
                let rows = RecordBatch::try_new(self.left.clone(), columns.clone())
                    .map_err(|e| damaged("left columns that have changed").with_source(e))?;
                let keys = left_keys.iter().map(|k| k.evaluate(&rows)).collect::<Result<_>>();
                (columns, keys.map_err(|e| damaged("left keys that cannot be computed").with_source(e))?)
            }
            _ => {
                let right = self.first_right()..self.first_right() + self.right_columns;
                (right.map(column).collect(), self.right_keys.iter().copied().map(column).collect())
            }
        };
        Ok(ReadRows {
            ids: ids.values().to_vec(),
            times: times.values().to_vec(),
            matched: matched.clone(),
            columns,
            keys,
        })
    }

    /// The ids of rows that have matched since they were written.
    pub(super) fn read_marks(&self, state: &RecordBatch) -> Result<Vec<i64>> {
        let state = self.part(state, MARK)?;
        let ids = state.column(1).as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("no ids"))?;
        Ok(ids.values().to_vec())
    }

    fn part(&self, state: &RecordBatch, side: i8) -> Result<RecordBatch> {
        if state.num_columns() != self.schema.fields().len() {
            return Err(damaged("its columns differ"));
        }
        let sides = state.column(0).as_primitive_opt::<Int8Type>().ok_or_else(|| damaged("no sides"))?;
        let mask: BooleanArray = sides.iter().map(|s| Some(s == Some(side))).collect();
        Ok(filter_record_batch(state, &mask)?)
    }
}
