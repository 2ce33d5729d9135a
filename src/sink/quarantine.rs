//! The quarantine table: rejected rows and messages, with the original bytes and the reason.

use crate::Result;
use crate::batch::{Headers, Messages, headers_array, headers_type};
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::{Arc, LazyLock};

/// The stage in which a row failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Decode,
    Transform,
    Expectation,
    Late,
    /// A group whose aggregate could not be computed.
    Aggregate,
    /// A row that the table does not accept.
    Table,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Transform => "transform",
            Stage::Expectation => "expectation",
            Stage::Late => "late",
            Stage::Aggregate => "aggregate",
            Stage::Table => "table",
        }
    }
}

/// One row or message that is set aside.
#[derive(Debug, Clone)]
pub(crate) struct Reject {
    pub stage: Stage,
    pub dataset: Arc<str>,
    pub rules: Vec<Arc<str>>,
    pub error: Arc<str>,
    pub from: RejectSource,
}

#[derive(Debug, Clone)]
pub(crate) enum RejectSource {
    /// The message from which it came.
    Message(Arc<Messages>, u32),
    /// The message, without the parts that are larger than this.
    TooLarge(Arc<Messages>, u32, usize),
    /// One of several rows that were made of a message: the message, and the row as JSON with its place in the message.
    Element(Arc<Messages>, u32, String),
    /// The row as JSON, if there is no single message.
    Row(String),
}

impl Reject {
    fn message(&self) -> Option<(&Messages, usize)> {
        match &self.from {
            RejectSource::Message(m, i) | RejectSource::TooLarge(m, i, _) | RejectSource::Element(m, i, _) => {
                Some((m, *i as usize))
            }
            RejectSource::Row(_) => None,
        }
    }
    /// The key or value of the message, unless it is too large.
    fn payload(&self, of: for<'a> fn(&'a Messages, usize) -> Option<&'a [u8]>) -> Option<&[u8]> {
        let (messages, i) = self.message()?;
        of(messages, i).filter(|bytes| bytes.len() <= self.limit())
    }
    /// A key or value larger than this is left out.
    fn limit(&self) -> usize {
        match &self.from {
            RejectSource::TooLarge(_, _, limit) => *limit,
            _ => usize::MAX,
        }
    }
}

fn list_of(name: &str, item: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("element", item, true))), true)
}

/// `topic, partition, offset, timestamp, key, headers, value, stage, dataset, rules, error, epoch, row`
pub(crate) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("timestamp", crate::time::timestamp_type(), true),
        Field::new("key", DataType::Binary, true),
        Field::new("headers", headers_type(), true),
        Field::new("value", DataType::Binary, true),
        Field::new("stage", DataType::Utf8, true),
        Field::new("dataset", DataType::Utf8, true),
        list_of("rules", DataType::Utf8),
        Field::new("error", DataType::Utf8, true),
        Field::new("epoch", DataType::Int64, true),
        Field::new("row", DataType::Utf8, true),
    ]))
});

/// The rows of the table for `rejects`.
pub(crate) fn rows(rejects: &[Reject], epoch: i64) -> Result<RecordBatch> {
    let each = || rejects.iter().map(Reject::message);
    let payload = |of: for<'a> fn(&'a Messages, usize) -> Option<&'a [u8]>| -> ArrayRef {
        Arc::new(rejects.iter().map(|r| r.payload(of)).collect::<BinaryArray>())
    };
    let mut rules = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    for r in rejects {
        for rule in &r.rules {
            rules.values().append_value(rule);
        }
        rules.append(true);
    }
    let no_headers: Headers = vec![];
    let headers = headers_array(rejects.iter().map(|r| {
        let (m, i) = r.message().filter(|(m, i)| m.header_bytes_of(*i) <= r.limit())?;
        Some(m.headers(i).unwrap_or(&no_headers))
    }));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(each().map(|m| m.map(|(m, i)| m.source(i).topic.as_str())).collect::<StringArray>()),
        Arc::new(each().map(|m| m.map(|(m, i)| m.source(i).partition.0)).collect::<Int32Array>()),
        Arc::new(each().map(|m| m.map(|(m, i)| m.offsets[i])).collect::<Int64Array>()),
        Arc::new(
            each()
                .map(|m| m.and_then(|(m, i)| (m.timestamps[i] >= 0).then(|| m.timestamps[i].saturating_mul(1000))))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        payload(Messages::key),
        headers,
        payload(Messages::value),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|r| r.stage.name()))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|r| &*r.dataset))),
        Arc::new(rules.finish()),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|r| &*r.error))),
        Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(epoch, rejects.len()))),
        Arc::new(
            rejects
                .iter()
                .map(|r| match &r.from {
                    RejectSource::Row(json) | RejectSource::Element(_, _, json) => Some(json.as_str()),
                    RejectSource::Message(..) | RejectSource::TooLarge(..) => None,
                })
                .collect::<StringArray>(),
        ),
    ];
    Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
}

/// One row as JSON text, for the column `row`.
pub(crate) fn row_as_json(batch: &RecordBatch, row: usize) -> String {
    let one = batch.slice(row, 1);
    let mut out = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
    if writer.write(&one).and_then(|()| writer.finish()).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&out).trim_end().to_string()
}

/// The name of the place of a row in its message.
const ELEMENT: &str = "_element";

/// As `row_as_json`, with the place of the row in its message: `"_element":[3]`, or `[3,0]` where rows were made twice. `null` is a row that
/// was made of no element.
pub(crate) fn element_as_json(batch: &RecordBatch, row: usize, element: impl Iterator<Item = Option<u32>>) -> String {
    let row = row_as_json(batch, row);
    let fields = row.strip_suffix('}').unwrap_or("{");
    let places: Vec<String> = element.map(|place| place.map_or("null".into(), |p| p.to_string())).collect();
    let comma = if fields == "{" { "" } else { "," };
    format!("{fields}{comma}\"{ELEMENT}\":[{}]}}", places.join(","))
}
