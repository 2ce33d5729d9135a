//! The interface for formats: a new format needs its own code and a line in a list.

use super::format::formats;
use super::json::JsonOptions;
use super::raw::RawOptions;
use super::*;
use crate::batch::{Message, TimestampType};
use crate::expr::parse_ddl;
use crate::position::TopicPartition;
use arrow::array::{ArrayRef, StringArray};
use arrow::util::pretty::pretty_format_batches;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Lines of values with commas between them. In front are a zero byte and the id of the schema that names the values.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct LinesOptions {
    timezone: Option<String>,
}

impl FormatOptions for LinesOptions {
    fn names() -> &'static [&'static str] {
        &["lines", "csv"]
    }
    fn about() -> &'static str {
        "values with commas between them"
    }
    fn read(given: Given) -> Result<Self> {
        if given.timestamp_unit.is_some() {
            return Err(Error::config("format=\"lines\" does not have timestamp_unit"));
        }
        Ok(Self { timezone: given.timezone })
    }
    fn schema(&self, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
        declared.cloned().ok_or_else(|| Error::schema("format=\"lines\" needs schema="))
    }
    fn decoder(&self, setup: Setup<'_>) -> Result<Box<dyn Decode>> {
        Ok(Box::new(Lines {
            schema: self.schema(setup.declared)?,
            null_rows: setup.null_rows,
            resolver: setup.resolver,
        }))
    }
    fn identity(&self) -> String {
        format!("format: Lines, timezone: {:?}", self.timezone)
    }
}

struct Lines {
    schema: SchemaRef,
    null_rows: bool,
    resolver: Arc<dyn SchemaResolver>,
}

impl Lines {
    /// The values of one message in the order of the schema's columns, or the reason why the message is malformed.
    fn line(&self, value: &[u8]) -> Result<std::result::Result<Vec<Option<String>>, String>> {
        let Some((id, line)) = value.strip_prefix(&[0]).and_then(|rest| rest.split_first_chunk::<4>()) else {
            return Ok(Err("no framing".into()));
        };
        let id = u32::from_be_bytes(*id);
        let Some(names) = self.resolver.schema(id)? else { return Ok(Err(format!("there is no schema {id}"))) };
        let Ok(line) = std::str::from_utf8(line) else { return Ok(Err("not UTF-8".into())) };
        let values: HashMap<&str, &str> = names.split(',').zip(line.split(',')).collect();
        let of = |name: &String| values.get(name.as_str()).map(|v| v.to_string());
        Ok(Ok(self.schema.fields().iter().map(|f| of(f.name())).collect()))
    }
}

impl Decode for Lines {
    fn decode(&mut self, messages: &Messages, wanted: &[u32]) -> Result<Rows> {
        let (mut rows, mut from, mut malformed, mut tombstones) = (vec![], vec![], vec![], vec![]);
        for &message in wanted {
            let Some(value) = messages.value(message as usize) else {
                tombstones.push(message);
                if self.null_rows {
                    rows.push(vec![None; self.schema.fields().len()]);
                    from.push(message);
                }
                continue;
            };
            match self.line(value)? {
                Ok(row) => {
                    rows.push(row);
                    from.push(message);
                }
                Err(error) => malformed.push(Malformed { message, error, field: None }),
            }
        }
        let column = |k: usize| Arc::new(rows.iter().map(|r| r[k].clone()).collect::<StringArray>()) as ArrayRef;
        let columns = (0..self.schema.fields().len()).map(column).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Rows { malformed, tombstones, ..Rows::new(batch, from) })
    }

    fn hints(&self) -> Vec<String> {
        vec!["lines have no names".into()]
    }
}

formats! {
    /// The list of `format.rs` with one more line.
    enum WithLines {
        Json(JsonOptions),
        Raw(RawOptions),
        Lines(LinesOptions),
    }
}

/// A registry that knows two schemas and does not answer for the id 500.
struct Registry {
    asked: Mutex<Vec<u32>>,
}

impl SchemaResolver for Registry {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>> {
        self.asked.lock().push(id);
        match id {
            7 => Ok(Some("a,b".into())),
            8 => Ok(Some("b,c,a".into())),
            500 => Err(Error::connection("the registry does not answer")),
            _ => Ok(None),
        }
    }
}

fn messages(values: &[Option<(u32, &str)>]) -> Arc<Messages> {
    let mut out = Messages::new(vec![TopicPartition::new("t", 0)].into());
    for (i, value) in values.iter().enumerate() {
        let framed = value.map(|(id, line)| [&[0], &id.to_be_bytes()[..], line.as_bytes()].concat());
        let (value, timestamp_type) = (framed.as_deref(), TimestampType::CreateTime);
        out.push(Message { offset: i as i64, value, timestamp_type, ..Message::default() }, usize::MAX);
    }
    Arc::new(out)
}

#[test]
fn a_format_is_one_file_and_one_line_in_a_list_and_asks_for_schemas_by_the_resolver() {
    let given = Given { timezone: Some("Europe/Berlin".into()), ..Given::default() };
    let format = WithLines::read("CSV", given.clone()).unwrap();
    assert_eq!(format.name(), "lines");
    assert_eq!(format.options().identity(), "format: Lines, timezone: Some(\"Europe/Berlin\")");
    assert_eq!(WithLines::read("json", given).unwrap().name(), "json");

    let declared: SchemaRef = Arc::new(parse_ddl("a STRING, b STRING").unwrap());
    let registry = Arc::new(Registry { asked: Mutex::default() });
    let common = DecodeOptions {
        on_tombstone: OnTombstone::NullRow,
        include_metadata: true,
        max_message_bytes: 20,
        ..DecodeOptions::default()
    };
    let mut decoder = Decoder::of(format.options(), Some(&declared), &common, registry.clone()).unwrap();
    let long = "x".repeat(40);
    let m = messages(&[Some((7, "1,2")), Some((9, "3,4")), None, Some((8, "5,6,7")), Some((7, &long))]);
    let decoded = decoder.decode(&m, &[0, 1, 2, 3, 4]).unwrap();
    let shown: Vec<(usize, String)> = decoded.malformed.iter().map(|m| (m.message as usize, m.error.clone())).collect();
    let large = "the value has more bytes than max_message_bytes=20 (45 bytes)";
    assert_eq!(shown, [(1, "there is no schema 9".to_string()), (4, large.to_string())]);
    assert_eq!(decoded.tombstones, [2]);
    let rows = decoded.batch.rows.project(&[0, 1, 4]).unwrap();
    let text = pretty_format_batches(&[rows]).unwrap().to_string();
    let cells: Vec<Vec<&str>> =
        text.lines().skip(3).take(3).map(|l| l.split('|').map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
    assert_eq!(cells, [vec!["1", "2", "0"], vec!["2"], vec!["7", "5", "3"]], "{text}");
    assert_eq!(*registry.asked.lock(), [7, 9, 8], "what is too large is not looked at");
    assert_eq!(decoder.hints(), ["lines have no names"]);

    // The registry does not answer: no message is decoded, and none is malformed.
    let error = decoder.decode(&messages(&[Some((7, "1,2")), Some((500, "3,4"))]), &[0, 1]).unwrap_err();
    assert!(error.message.contains("does not answer"), "{error}");
}

#[test]
fn names_and_errors_of_formats_come_from_the_list() {
    for (name, found) in
        [("json", "json"), ("JSON", "json"), ("NDJSON", "jsonl"), ("raw", "raw"), ("binary", "raw"), ("Kafka", "raw")]
    {
        assert_eq!(Format::read(name, Given::default()).unwrap().name(), found);
    }
    let error = |e: Result<&str>| e.unwrap_err().message;
    assert_eq!(
        error(Format::read("Avro", Given::default()).map(|f| f.name())),
        "format='Avro' is not a format that this version reads. Use format=\"json\", format=\"jsonl\" (several JSON \
         documents in a message) or format=\"raw\" (key and value as bytes)."
    );
    let more = error(WithLines::read("avro", Given::default()).map(|f| f.name()));
    assert!(more.ends_with("or format=\"lines\" (values with commas between them)."), "{more}");
    let unit = Given { timestamp_unit: Some(json::TimestampUnit::S), ..Given::default() };
    assert!(error(WithLines::read("lines", unit).map(|f| f.name())).contains("timestamp_unit"));
}

#[test]
fn raw_refuses_what_it_refused_and_ignores_what_it_ignored() {
    let raw = |given: Given| DecodeOptions { format: Format::read("raw", given).unwrap(), ..DecodeOptions::default() };
    let unit = json::TimestampUnit::Ms;
    let berlin = Given { timezone: Some("Europe/Berlin".into()), timestamp_unit: Some(unit), ..Given::default() };
    assert!(Decoder::new(None, &raw(berlin)).is_ok());
    let nowhere = Given { timezone: Some("Europe/Berln".into()), ..Given::default() };
    assert!(Decoder::new(None, &raw(nowhere)).is_err_and(|e| e.message.contains("Europe/Berlin")));
    let fields = Given { timestamp_units: [("a".to_string(), unit)].into(), ..Given::default() };
    assert!(Decoder::new(None, &raw(fields)).is_err_and(|e| e.message.contains("'a'")));
    let declared: SchemaRef = Arc::new(parse_ddl("a STRING").unwrap());
    assert!(
        Decoder::new(Some(&declared), &raw(Given::default())).is_err_and(|e| e.message.contains("its own columns"))
    );
}
