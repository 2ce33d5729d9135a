//! `connect`, and the methods of a connection except reading.

use super::arguments::Arguments;
use super::cluster::{self, AclArguments};
use super::convert::{self, Count, refuse_unknown};
use super::door;
use super::source;
use super::source::PyInferredSchema;
use super::stream::PyStream;
use super::table::PyTable;
use super::token::PyTokens;
use super::words;
use crate::Error;
use crate::flow::source::Offsets;
use crate::kafka::{Connection, NewTopic, Target, TokenSource};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use std::sync::Arc;

#[doc = doc!("Connection")]
#[pyclass(frozen, module = "bayou", name = "Connection")]
pub struct PyConnection(pub Connection);

#[pyfunction]
#[pyo3(signature = (target, name, tokens=None))]
fn _connect(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    name: &str,
    tokens: Option<Py<PyAny>>,
) -> PyResult<PyConnection> {
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
    let tokens = tokens.map(|f| Arc::new(PyTokens(f)) as Arc<dyn TokenSource>);
    Ok(PyConnection(door::run(py, move || Connection::open_with(target, tokens))?))
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
    #[pyo3(signature = (*, internal=false))]
    fn topics(&self, py: Python<'_>, internal: bool) -> PyResult<PyTable> {
        self.table(py, move |c| cluster::topics(c, internal))
    }

    #[doc = doc!("Connection.create_partitions")]
    fn create_partitions(&self, py: Python<'_>, topic: String, total: Count) -> PyResult<()> {
        let c = self.0.clone();
        door::run(py, move || c.create_partitions(&topic, total.0))
    }

    #[doc = doc!("Connection.describe_config")]
    #[pyo3(signature = (topic=None, *, broker=None))]
    fn describe_config(&self, py: Python<'_>, topic: Option<String>, broker: Option<i32>) -> PyResult<PyTable> {
        let of = cluster::configured(topic, broker)?;
        self.table(py, move |c| cluster::settings(c, &of))
    }

    #[doc = doc!("Connection.alter_config")]
    fn alter_config(&self, py: Python<'_>, topic: String, config: &Bound<'_, PyAny>) -> PyResult<()> {
        let (c, settings) = (self.0.clone(), cluster::new_settings(config)?);
        door::run(py, move || c.alter_config(&topic, &settings))
    }

    #[doc = doc!("Connection.delete_records")]
    #[pyo3(signature = (topic, before, *, confirm=false))]
    fn delete_records(
        &self,
        py: Python<'_>,
        topic: String,
        before: &Bound<'_, PyAny>,
        confirm: bool,
    ) -> PyResult<PyTable> {
        let before = cluster::before(before, &topic)?;
        self.table(py, move |c| cluster::delete_records(c, &topic, &before, confirm))
    }

    #[doc = doc!("Connection.offsets")]
    #[pyo3(signature = (topic, *, at=None), text_signature = "($self, topic, *, at='latest')")]
    fn offsets(&self, py: Python<'_>, topic: &Bound<'_, PyAny>, at: Option<&Bound<'_, PyAny>>) -> PyResult<PyTable> {
        let topics = cluster::names(topic, "offsets")?;
        let at = at.map_or(Ok(Offsets::Latest), |at| convert::offsets(at, "at="))?;
        self.table(py, move |c| cluster::offsets(c, &topics, &at))
    }

    #[doc = doc!("Connection.cluster")]
    fn cluster(&self, py: Python<'_>) -> PyResult<PyTable> {
        self.table(py, cluster::brokers)
    }

    #[doc = doc!("Connection.consumer_groups")]
    fn consumer_groups(&self, py: Python<'_>) -> PyResult<PyTable> {
        self.table(py, cluster::groups)
    }

    #[doc = doc!("Connection.describe_group")]
    fn describe_group(&self, py: Python<'_>, group: String) -> PyResult<PyTable> {
        self.table(py, move |c| cluster::describe_group(c, &group))
    }

    #[doc = doc!("Connection.group_offsets")]
    fn group_offsets(&self, py: Python<'_>, group: String) -> PyResult<PyTable> {
        self.table(py, move |c| cluster::group_offsets(c, &group))
    }

    #[doc = doc!("Connection.lag")]
    fn lag(&self, py: Python<'_>, of: &Bound<'_, PyAny>) -> PyResult<PyTable> {
        cluster::lag(py, self.0.clone(), of)
    }

    #[doc = doc!("Connection.reset_group")]
    #[pyo3(signature = (group, topics=None, *, to, confirm=false))]
    fn reset_group(
        &self,
        py: Python<'_>,
        group: String,
        topics: Option<&Bound<'_, PyAny>>,
        to: &Bound<'_, PyAny>,
        confirm: bool,
    ) -> PyResult<PyTable> {
        let topics = topics.map(|t| cluster::names(t, "reset_group: topics=")).transpose()?;
        let to = convert::offsets(to, "to=")?;
        self.table(py, move |c| cluster::reset_group(c, &group, topics.as_deref(), &to, confirm))
    }

    #[doc = doc!("Connection.delete_group")]
    #[pyo3(signature = (group, *, confirm=false))]
    fn delete_group(&self, py: Python<'_>, group: String, confirm: bool) -> PyResult<()> {
        let c = self.0.clone();
        door::run(py, move || cluster::delete_group(&c, &group, confirm))
    }

    #[doc = doc!("Connection.acls")]
    #[pyo3(signature = (*, principal=None, topic=None, group=None, transactional_id=None, cluster=false))]
    fn acls(
        &self,
        py: Python<'_>,
        principal: Option<String>,
        topic: Option<String>,
        group: Option<String>,
        transactional_id: Option<String>,
        cluster: bool,
    ) -> PyResult<PyTable> {
        let wanted = AclArguments { principal, topic, group, transactional_id, cluster, ..AclArguments::default() };
        self.table(py, move |c| cluster::acls(c, wanted))
    }

    #[doc = doc!("Connection.add_acl")]
    #[pyo3(signature = (principal, operation, *, topic=None, group=None, transactional_id=None, cluster=false, pattern="literal", host="*",
        permission="allow"))]
    #[allow(clippy::too_many_arguments)]
    fn add_acl(
        &self,
        py: Python<'_>,
        principal: String,
        operation: &Bound<'_, PyAny>,
        topic: Option<String>,
        group: Option<String>,
        transactional_id: Option<String>,
        cluster: bool,
        pattern: &str,
        host: &str,
        permission: &str,
    ) -> PyResult<PyTable> {
        let operations = cluster::names(operation, "add_acl: operation")?;
        let (principal, pattern) = (Some(principal), Some(pattern.to_string()));
        let (host, permission) = (Some(host.to_string()), Some(permission.to_string()));
        let new =
            AclArguments { principal, operations, topic, group, transactional_id, cluster, pattern, host, permission };
        self.table(py, move |c| cluster::add_acl(c, new))
    }

    #[doc = doc!("Connection.remove_acl")]
    #[pyo3(signature = (principal=None, operation=None, *, topic=None, group=None, transactional_id=None, cluster=false, pattern=None, host=None,
        permission=None, confirm=false))]
    #[allow(clippy::too_many_arguments)]
    fn remove_acl(
        &self,
        py: Python<'_>,
        principal: Option<String>,
        operation: Option<&Bound<'_, PyAny>>,
        topic: Option<String>,
        group: Option<String>,
        transactional_id: Option<String>,
        cluster: bool,
        pattern: Option<String>,
        host: Option<String>,
        permission: Option<String>,
        confirm: bool,
    ) -> PyResult<PyTable> {
        let operations = operation.map_or(Ok(vec![]), |o| cluster::names(o, "remove_acl: operation"))?;
        let which =
            AclArguments { principal, operations, topic, group, transactional_id, cluster, pattern, host, permission };
        self.table(py, move |c| cluster::remove_acl(c, which, confirm))
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
        value=None, compression=None, acks=None, linger=None, batch_size=None, partitioner=None, rate=None, include_key_in_value=true,
        transaction=false, transactional_id=None, deliveries=false, encrypt=None, progress=true, **unknown))]
    #[pyo3(
        text_signature = "($self, topic, rows, *, key=None, headers=None, headers_column=None, partition=None, partition_column=None, timestamp=None, value=None, compression=None, acks=None, linger=None, batch_size=None, partitioner=None, rate=None, include_key_in_value=True, transaction=False, transactional_id=None, deliveries=False, encrypt=None, progress=True)"
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
        linger: Option<&Bound<'_, PyAny>>,
        batch_size: Option<&Bound<'_, PyAny>>,
        partitioner: Option<String>,
        rate: Option<f64>,
        include_key_in_value: bool,
        transaction: bool,
        transactional_id: Option<String>,
        deliveries: bool,
        encrypt: Option<&Bound<'_, PyAny>>,
        progress: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<super::produce::PyProduceReport> {
        refuse_unknown(
            unknown,
            "produce",
            &[
                "key",
                "headers",
                "partition",
                "timestamp",
                "compression",
                "acks",
                "linger",
                "batch_size",
                "partitioner",
                "rate",
                "value",
                "transaction",
                "transactional_id",
                "deliveries",
                "encrypt",
            ],
        )?;
        let linger = linger.map(|given| convert::span(given, "linger")).transpose()?;
        let batch_bytes = convert::bytes(batch_size, "batch_size", 1)?;
        if transactional_id.is_some() && !transaction {
            return Err(Error::config("transactional_id= needs transaction=True").into());
        }
        // If the user gives no name, the name is unique, so no other producer is fenced.
        let made = || format!("bayou-{}", uuid::Uuid::new_v4());
        let transactional_id = transaction.then(|| transactional_id.unwrap_or_else(made));
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
            linger,
            batch_bytes,
            partitioner,
            transactional_id,
            deliveries,
            encrypt: encrypt.map(|f| super::value_functions::values_function(f, "encrypt")).transpose()?,
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
        text_signature = "($self, topics=None, *, subscribe_pattern=None, schema=None, format=None, starting_offsets=None, ending_offsets=None, \
max_offsets_per_trigger=None, min_offsets_per_trigger=None, max_trigger_delay=None, fail_on_data_loss=None, on_malformed=None, max_malformed=0.5, on_tombstone=None, timezone=None, timestamp_unit=None, \
allow_quoted_numbers=False, allow_nan=False, missing='null', include_metadata=False, max_message_bytes=None, decrypt=None, options=None)"
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

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyConnection>()?;
    m.add_class::<super::produce::PyProduceReport>()?;
    m.add_function(wrap_pyfunction!(_connect, m)?)?;
    m.add_function(wrap_pyfunction!(_run_broker, m)?)?;
    m.add_function(wrap_pyfunction!(_set_launcher, m)?)?;
    m.add_function(wrap_pyfunction!(super::produce::_simulate_fitness, m)?)
}
