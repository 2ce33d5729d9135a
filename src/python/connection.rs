//! `connect`, and the methods of a connection except reading.

use super::arguments::Arguments;
use super::convert::{self, Count, refuse_unknown};
use super::door;
use super::source;
use super::source::PyInferredSchema;
use super::stream::PyStream;
use super::table::PyTable;
use super::words;
use crate::kafka::{Connection, NewTopic, Target};
use crate::read::Rows;
use crate::{Error, Result};
use arrow::array::*;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use std::sync::Arc;

#[doc = doc!("Connection")]
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
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "Connection", name))
    }
    #[doc = doc!("Connection.address")]
    #[getter]
    fn address(&self) -> String {
        self.0.address().to_string()
    }
    #[doc = doc!("Connection.is_embedded")]
    #[getter]
    fn is_embedded(&self) -> bool {
        self.0.is_embedded()
    }
    #[doc = doc!("Connection.cluster_id")]
    #[getter]
    fn cluster_id(&self, py: Python<'_>) -> PyResult<String> {
        let c = self.0.clone();
        door::run(py, move || c.cluster_id())
    }
    #[doc = doc!("Connection.scratch_dir")]
    #[getter]
    fn scratch_dir(&self) -> PyResult<PathBuf> {
        Ok(self.0.scratch_dir()?)
    }
    #[doc = doc!("Connection.client_properties")]
    #[getter]
    fn client_properties(&self) -> PyResult<std::collections::BTreeMap<String, String>> {
        Ok(self.0.client_properties()?)
    }

    #[doc = doc!("Connection.create_topic")]
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

    #[doc = doc!("Connection.delete_topic")]
    fn delete_topic(&self, py: Python<'_>, name: String) -> PyResult<()> {
        let c = self.0.clone();
        door::run(py, move || c.delete_topic(&name))
    }

    #[doc = doc!("Connection.topics")]
    fn topics(&self, py: Python<'_>) -> PyResult<PyTable> {
        let c = self.0.clone();
        Ok(PyTable::new(door::run(py, move || topic_rows(c.topics()?))?))
    }

    #[doc = doc!("Connection.describe_topic")]
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
    #[doc = doc!("Connection.produce")]
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

    #[doc = doc!("Connection.peek")]
    #[pyo3(signature = (topic, n=Count(20)), text_signature = "($self, topic, n=20)")]
    fn peek(&self, py: Python<'_>, topic: String, n: Count) -> PyResult<PyTable> {
        let c = self.0.clone();
        Ok(PyTable::new(door::run(py, move || crate::run::sample::peek(&c, &topic, n.0))?))
    }

    #[pyo3(signature = (topics=None, **options))]
    #[pyo3(
        text_signature = "($self, topics=None, *, schema=None, format=None, starting_offsets=None, ending_offsets=None, \
max_offsets_per_trigger=None, fail_on_data_loss=None, on_malformed=None, max_malformed=0.5, on_tombstone=None, timezone=None, timestamp_unit=None, \
allow_quoted_numbers=False, allow_nan=False, missing='null', include_metadata=False, max_message_bytes=None, options=None)"
    )]
    #[doc = doc!("Connection.read_stream")]
    fn read_stream(
        &self,
        py: Python<'_>,
        topics: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyStream> {
        source::read_stream(py, &self.0, topics, Arguments::new("read_stream", &["topics"], options))
    }

    #[doc = doc!("Connection.infer_schema")]
    #[pyo3(signature = (topic, *, sample=Count(source::INFER_SAMPLE), format=None), text_signature = "($self, topic, *, sample=1000, format=None)")]
    fn infer_schema(
        &self,
        py: Python<'_>,
        topic: String,
        sample: Count,
        format: Option<&str>,
    ) -> PyResult<PyInferredSchema> {
        if format.is_some_and(|f| !f.eq_ignore_ascii_case("json")) {
            return Err(Error::config("infer_schema looks at JSON messages: leave format= out").into());
        }
        let c = self.0.clone();
        let found = door::run(py, move || crate::run::sample::infer(&c, &[topic], sample.0))?;
        Ok(PyInferredSchema(found))
    }

    fn __repr__(&self) -> String {
        self.0.describe()
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._display")?.call_method1("connection_html", (slf,))
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
