//! `connect`, and the methods of a connection except reading.

use super::convert::{self, Count, refuse_unknown};
use super::door;
use super::source;
use super::stream::PyStream;
use super::table::PyTable;
use crate::batch::{MAX_MESSAGE_BYTES, TimestampType, TooLarge};
use crate::decode::raw;
use crate::kafka::{Connection, Event, NewTopic, OffsetSpec, Reader, ReaderOptions, Target};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::read::Rows;
use crate::{Error, Result};
use arrow::array::*;
use arrow::datatypes::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A Kafka cluster.
#[pyclass(frozen, module = "bayou", name = "Connection")]
pub struct PyConnection(pub Connection);

#[pyfunction]
#[pyo3(signature = (target, name))]
fn _connect(py: Python<'_>, target: &Bound<'_, PyAny>, name: &str) -> PyResult<PyConnection> {
    let target = if target.is_instance_of::<pyo3::types::PyBool>() {
        // Python passes this only for `connect()` without an argument.
        crate::flow::stream::check_name(name, "an embedded broker")?;
        Target::Embedded { name: name.to_string() }
    } else if let Ok(address) = target.extract::<String>() {
        Target::Address(address)
    } else if target.is_none() {
        return Err(Error::config(
            "connect(None): an unset variable must not start an empty broker. Pass an address such as \"host:9092\", or librdkafka's properties. \
             For the embedded broker call connect() without an argument.",
        )
        .into());
    } else {
        Target::Properties(convert::string_map(Some(target), "connect")?)
    };
    Ok(PyConnection(door::run(py, move || Connection::open(target))?))
}

fn topic_rows(found: Vec<crate::kafka::TopicSummary>) -> Result<Rows> {
    let names: StringArray = found.iter().map(|t| Some(t.name.as_str())).collect();
    let partitions: Int64Array = found.iter().map(|t| Some(t.partitions as i64)).collect();
    let batch =
        RecordBatch::try_from_iter([("topic", Arc::new(names) as ArrayRef), ("partitions", Arc::new(partitions))])?;
    Ok(Rows { schema: batch.schema(), batches: vec![batch] })
}

#[pymethods]
impl PyConnection {
    #[getter]
    fn address(&self) -> String {
        self.0.address().to_string()
    }
    #[getter]
    fn is_embedded(&self) -> bool {
        self.0.is_embedded()
    }
    #[getter]
    fn cluster_id(&self, py: Python<'_>) -> PyResult<String> {
        let c = self.0.clone();
        door::run(py, move || c.cluster_id())
    }
    #[getter]
    fn scratch_dir(&self) -> PyResult<PathBuf> {
        Ok(self.0.scratch_dir()?)
    }
    #[getter]
    fn client_properties(&self) -> PyResult<std::collections::BTreeMap<String, String>> {
        Ok(self.0.client_properties()?)
    }

    #[pyo3(signature = (name, partitions=1, replication_factor=None, config=None, exist_ok=false))]
    fn create_topic(
        &self,
        py: Python<'_>,
        name: String,
        partitions: i32,
        replication_factor: Option<i32>,
        config: Option<&Bound<'_, PyAny>>,
        exist_ok: bool,
    ) -> PyResult<()> {
        let config = convert::string_map(config, "config=")?;
        let new = NewTopic { name, partitions, replication_factor: replication_factor.unwrap_or(-1), config, exist_ok };
        let c = self.0.clone();
        door::run(py, move || c.create_topic(&new))
    }

    fn delete_topic(&self, py: Python<'_>, name: String) -> PyResult<()> {
        let c = self.0.clone();
        door::run(py, move || c.delete_topic(&name))
    }

    fn topics(&self, py: Python<'_>) -> PyResult<PyTable> {
        let c = self.0.clone();
        Ok(PyTable::new(door::run(py, move || topic_rows(c.topics()?))?))
    }

    fn describe_topic<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyDict>> {
        let c = self.0.clone();
        let d = door::run(py, move || c.describe_topic(&name))?;
        let out = PyDict::new(py);
        out.set_item("name", d.name)?;
        out.set_item("id", d.id)?;
        let partitions = PyList::empty(py);
        for p in d.partitions {
            let one = PyDict::new(py);
            one.set_item("partition", p.partition.0)?;
            one.set_item("leader", p.leader)?;
            one.set_item("replicas", p.replicas)?;
            one.set_item("isr", p.isr)?;
            one.set_item("earliest", p.earliest.0)?;
            one.set_item("latest", p.latest.0)?;
            partitions.append(one)?;
        }
        out.set_item("partitions", partitions)?;
        out.set_item("config", d.config)?;
        Ok(out)
    }

    #[pyo3(signature = (topic, rows, *, key=None, headers=None, headers_column=None, partition=None, partition_column=None, timestamp=None,
        value=None, compression=None, acks=None, rate=None, include_key_in_value=true, progress=true, **unknown))]
    #[pyo3(
        text_signature = "($self, topic, rows, *, key=None, headers=None, headers_column=None, partition=None, partition_column=None, timestamp=None, value=None, compression=None, acks=None, rate=None, include_key_in_value=True, progress=True)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn produce(
        &self,
        py: Python<'_>,
        topic: String,
        rows: &Bound<'_, PyAny>,
        key: Option<String>,
        headers: Option<&Bound<'_, PyAny>>,
        headers_column: Option<String>,
        partition: Option<i32>,
        partition_column: Option<String>,
        timestamp: Option<String>,
        value: Option<String>,
        compression: Option<String>,
        acks: Option<&Bound<'_, PyAny>>,
        rate: Option<f64>,
        include_key_in_value: bool,
        progress: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<super::produce::PyProduceReport> {
        refuse_unknown(
            unknown,
            "produce",
            &["key", "headers", "partition", "timestamp", "compression", "acks", "rate", "value"],
        )?;
        let acks = acks.filter(|a| !a.is_none()).map(|a| a.str().map(|s| s.to_string())).transpose()?;
        let options = crate::kafka::ProduceOptions {
            key,
            headers: super::produce::headers(headers)?,
            headers_column,
            partition,
            partition_column,
            timestamp,
            value,
            compression,
            acks,
            rate,
            include_key_in_value,
        };
        super::produce::produce(py, &self.0, &topic, rows, options, progress)
    }

    /// The newest messages, not decoded.
    #[pyo3(signature = (topic, n=Count(20)), text_signature = "($self, topic, n=20)")]
    fn peek(&self, py: Python<'_>, topic: String, n: Count) -> PyResult<PyTable> {
        let c = self.0.clone();
        Ok(PyTable::new(door::run(py, move || peek(&c, &topic, n.0))?))
    }

    #[pyo3(signature = (topics=None, *, schema=None, format=None, starting_offsets=None, ending_offsets=None, max_offsets_per_trigger=None,
        fail_on_data_loss=None, on_malformed=None, max_malformed=0.5, on_tombstone=None, timezone=None, timestamp_unit=None,
        include_metadata=false, max_message_bytes=None, options=None, **unknown))]
    #[pyo3(
        text_signature = "($self, topics=None, *, schema=None, format=None, starting_offsets=None, ending_offsets=None, max_offsets_per_trigger=None, fail_on_data_loss=None, on_malformed=None, max_malformed=0.5, on_tombstone=None, timezone=None, timestamp_unit=None, include_metadata=False, max_message_bytes=None, options=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn read_stream(
        &self,
        py: Python<'_>,
        topics: Option<&Bound<'_, PyAny>>,
        schema: Option<&Bound<'_, PyAny>>,
        format: Option<String>,
        starting_offsets: Option<&Bound<'_, PyAny>>,
        ending_offsets: Option<&Bound<'_, PyAny>>,
        max_offsets_per_trigger: Option<u64>,
        fail_on_data_loss: Option<bool>,
        on_malformed: Option<&str>,
        max_malformed: f64,
        on_tombstone: Option<&str>,
        timezone: Option<String>,
        timestamp_unit: Option<&Bound<'_, PyAny>>,
        include_metadata: bool,
        max_message_bytes: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyStream> {
        refuse_unknown(
            unknown,
            "read_stream",
            &[
                "schema",
                "format",
                "starting_offsets",
                "ending_offsets",
                "on_malformed",
                "max_message_bytes",
                "timezone",
                "options",
            ],
        )?;
        let asked = source::Asked {
            topics,
            schema,
            format,
            starting_offsets,
            ending_offsets,
            max_offsets_per_trigger,
            fail_on_data_loss,
            on_malformed,
            max_malformed,
            on_tombstone,
            timezone,
            timestamp_unit,
            include_metadata,
            max_message_bytes,
            options,
        };
        source::read_stream(py, &self.0, asked)
    }

    fn __repr__(&self) -> String {
        self.0.describe()
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._display")?.call_method1("connection_html", (slf,))
    }
}

/// Reads the last `n` messages of a topic. It reads some messages of each partition, and keeps the newest of all.
fn peek(c: &Connection, topic: &str, n: usize) -> Result<Rows> {
    let topic = Topic::new(topic);
    let partitions: Vec<TopicPartition> =
        c.partitions(&topic)?.into_iter().map(|partition| TopicPartition { topic: topic.clone(), partition }).collect();
    let ask = |spec: OffsetSpec| partitions.iter().map(|p| (p.clone(), spec)).collect::<Vec<_>>();
    let (first, last) = (c.list_offsets(&ask(OffsetSpec::Earliest))?, c.list_offsets(&ask(OffsetSpec::Latest))?);
    let from: Positions = partitions
        .iter()
        .map(|p| (p.clone(), Offset(last[p].0.saturating_sub_unsigned(n as u64).max(first[p].0))))
        .collect();
    let mut open: Vec<&TopicPartition> = partitions.iter().filter(|p| from[*p] < last[*p]).collect();
    let mut found: Vec<(i64, crate::batch::Messages, usize)> = vec![];
    let mut chunks = vec![];
    if !open.is_empty() && n > 0 {
        let mut reader = Reader::start(c, &from, &ReaderOptions::default())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !open.is_empty() && Instant::now() < deadline {
            match reader.next(Duration::from_millis(100))? {
                Some(Event::Messages(m)) => chunks.push(m),
                Some(Event::EndOfPartition { partition, .. }) => open.retain(|p| **p != partition),
                _ => {}
            }
        }
        reader.stop();
    }
    found.clear();
    let mut order: Vec<(i64, usize, u32)> = vec![];
    for (k, m) in chunks.iter().enumerate() {
        order.extend((0..m.len()).map(|i| (m.timestamps[i], k, i as u32)));
    }
    order.sort_by(|a, b| b.cmp(a));
    order.truncate(n);
    let mut batches = vec![];
    let mut fields: Vec<Field> = raw::raw_schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("framing", DataType::Utf8, false));
    let schema = Arc::new(Schema::new(fields));
    for (_, k, i) in order {
        let (m, rows) = (&chunks[k], [i]);
        let framing = match m.above(i as usize, MAX_MESSAGE_BYTES) {
            Some(TooLarge { part, bytes }) => format!("too large to show: {bytes} bytes of {part}"),
            None => framing(m.value(i as usize)).to_string(),
        };
        let framing: ArrayRef = Arc::new(StringArray::from(vec![framing]));
        let columns = vec![
            raw::keys(m, &rows),
            raw::values(m, &rows),
            raw::topics(m, &rows),
            raw::partitions(m, &rows),
            raw::offsets(m, &rows),
            raw::timestamps(m, &rows),
            raw::timestamp_types(m, &rows),
            raw::headers(m, &rows),
            framing,
        ];
        batches.push(RecordBatch::try_new(schema.clone(), columns)?);
    }
    let one = arrow::compute::concat_batches(&schema, &batches)?;
    debug_assert!(matches!(TimestampType::default(), TimestampType::NotAvailable));
    Ok(Rows { schema, batches: vec![one] })
}

/// Guesses the format of a value from its bytes.
fn framing(value: Option<&[u8]>) -> &'static str {
    match value {
        None => "tombstone",
        Some([]) => "empty",
        Some([0, _, _, _, _, rest @ ..]) if !rest.is_empty() => "schema registry (Avro, Protobuf or JSON Schema)",
        Some(v) => match (v.iter().find(|b| !b.is_ascii_whitespace()), std::str::from_utf8(v)) {
            (Some(b'{' | b'['), Ok(text)) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => "json",
            (_, Ok(_)) => "text",
            _ => "binary",
        },
    }
}

#[pyfunction]
fn _run_broker(py: Python<'_>, dir: PathBuf) -> PyResult<()> {
    Ok(py.detach(|| crate::kafka::run_broker(&dir))?)
}

#[pyfunction]
fn _set_launcher(command: Vec<String>) {
    crate::kafka::set_launcher(crate::kafka::BrokerLauncher { command });
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyConnection>()?;
    m.add_class::<super::produce::PyProduceReport>()?;
    m.add_function(wrap_pyfunction!(_connect, m)?)?;
    m.add_function(wrap_pyfunction!(_run_broker, m)?)?;
    m.add_function(wrap_pyfunction!(_set_launcher, m)?)?;
    m.add_function(wrap_pyfunction!(super::produce::_simulate_fitness, m)?)
}
