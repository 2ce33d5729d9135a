//! Reading tables and SQL over them.

use super::catalog;
use super::convert::Count;
use super::door;
use super::errors::{AclError, AuthError, ConfigError, StorageError};
use super::spark::Reader;
use super::table::PyTable;
use crate::catalog::{Catalog, SchemaName, TableName};
use crate::expr::{Listed, Role};
use crate::flow::QUARANTINE;
use crate::flow::places::is_quarantine;
use crate::progress::RuleCount;
use crate::read::{self, Rows, Scan, Source, Wanted};
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The names of columns.
#[derive(FromPyObject)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[doc = doc!("read_delta")]
#[pyfunction]
#[pyo3(signature = (target, *, columns=None, r#where=None, limit=None, version=None, storage_options=None, spark=None))]
fn read_delta(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    columns: Option<Names>,
    r#where: Option<String>,
    limit: Option<Count>,
    version: Option<u64>,
    storage_options: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let storage = super::storage::reading(storage_options)?;
    let columns = columns.map(|names| match names {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    });
    let wanted = Wanted { columns, filter: r#where, limit: limit.map(|n| n.0) };
    let read = |target| {
        let at = catalog::to_read(py, target, &storage)?;
        Ok(PyTable::scanning(door::run_async(py, Scan::open(at, version, wanted.clone()))?))
    };
    let Some(name) = catalog::named_anywhere(target)? else { return read(target) };
    let only = catalog::only_by_spark(py, &name.schema, spark.is_some(), &storage)?;
    let through = |spark: &Reader<'_>| Ok(PyTable::new(spark.table(&name, version, &wanted)?));
    by_spark_if_need_be(py, spark, only, || read(target), through)
}

/// Reads tables through Spark that bayou cannot read itself: tables outside Unity Catalog, and those for which the catalog gives no credentials.
pub(super) fn by_spark_if_need_be<'py, T>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
    only: bool,
    own: impl FnOnce() -> PyResult<T>,
    through: impl FnOnce(&Reader<'py>) -> PyResult<T>,
) -> PyResult<T> {
    let denied = match if only { None } else { Some(own()) } {
        Some(Err(e)) if e.is_instance_of::<AclError>(py) => Some(e),
        // The table may have features that only Spark reads, or be a view. If the user gives a session, Spark is tried too.
        Some(Err(e))
            if given.is_some()
                && (e.is_instance_of::<StorageError>(py)
                    || e.is_instance_of::<AuthError>(py)
                    || e.is_instance_of::<ConfigError>(py)) =>
        {
            Some(e)
        }
        Some(done) => return done,
        None => None,
    };
    match (Reader::find(py, given)?, denied) {
        (Some(spark), None) => through(&spark),
        // A session that the user did not give may not know the table.
        (Some(spark), Some(denied)) => through(&spark).map_err(|e| {
            // What Spark knows about the use of the table says more than that bayou may not read it.
            let says_less = e.is_instance_of::<PyException>(py) && !e.is_instance_of::<ConfigError>(py);
            if says_less { denied } else { e }
        }),
        (None, Some(denied)) => Err(denied),
        (None, None) => Err(Error::config(
            "only Spark knows tables outside Unity Catalog (hive_metastore, spark_catalog), and there is no Spark session. Give spark=spark, or read \
             the path of the table.",
        )
        .into()),
    }
}

#[doc = doc!("sql")]
#[pyfunction]
#[pyo3(signature = (query, *, storage_options=None, spark=None, **tables))]
fn sql(
    py: Python<'_>,
    query: String,
    storage_options: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
    tables: Option<&Bound<'_, PyDict>>,
) -> PyResult<PyTable> {
    let storage = super::storage::reading(storage_options)?;
    let mut sources = BTreeMap::new();
    for (name, value) in tables.into_iter().flat_map(|t| t.iter()) {
        let name: String = name.extract()?;
        let source = if value.extract::<String>().is_ok() || value.hasattr("__fspath__")? {
            Source::Delta(catalog::to_read(py, &value, &storage)?, None)
        } else {
            let rows = super::functions::rows_of(&value)?;
            Source::Rows(rows.schema, rows.batches)
        };
        sources.insert(name, source);
    }
    // Tables that the SQL text names by catalog and schema.
    let text = query.clone();
    let named = door::run(py, move || read::named(&text))?.into_iter().filter(|name| !sources.contains_key(name));
    let named: Vec<TableName> = named.filter_map(|name| TableName::parse(&name).transpose()).collect::<Result<_>>()?;
    let Some(first) = named.first() else {
        return Ok(PyTable::new(door::run_async(py, async move { read::sql(&query, sources).await })?));
    };
    let mut only = false;
    for name in &named {
        only |= catalog::only_by_spark(py, &name.schema, spark.is_some(), &storage)?;
    }
    let own = || {
        let catalog = catalog::connect(py, &storage, &first.to_string())?;
        let (query, mut sources, named) = (query.clone(), sources.clone(), named.clone());
        let run = async move {
            sources.extend(to_read(&catalog, named).await?);
            read::sql(&query, sources).await
        };
        door::run_async(py, run)
    };
    let through = |spark: &Reader<'_>| {
        let mut sources = sources.clone();
        for name in &named {
            let rows = spark.table(name, None, &Wanted::default())?;
            sources.insert(name.dotted(), Source::Rows(rows.schema, rows.batches));
        }
        let query = query.clone();
        door::run_async(py, async move { read::sql(&query, sources).await })
    };
    Ok(PyTable::new(by_spark_if_need_be(py, spark, only, own, through)?))
}

/// Tables of a catalog, by their names in the SQL text.
async fn to_read(catalog: &Arc<Catalog>, names: Vec<TableName>) -> Result<Vec<(String, Source)>> {
    let one = |name: TableName| async move {
        Ok::<_, Error>((name.dotted(), Source::Delta(catalog.to_read(&name).await?, None)))
    };
    futures::future::try_join_all(names.into_iter().map(one)).await
}

/// Where a pipeline's tables are.
enum Tables {
    Below(Location),
    In(SchemaName, Arc<Catalog>),
}

impl Tables {
    fn describe(&self) -> String {
        match self {
            Self::Below(root) => root.display(),
            Self::In(schema, _) => schema.to_string(),
        }
    }

    /// The names of the tables.
    async fn names(&self) -> Result<Vec<String>> {
        match self {
            Self::In(schema, catalog) => catalog.tables(schema).await,
            Self::Below(root) => {
                let mut out = vec![];
                for name in root.folders("").await? {
                    if !name.starts_with(['_', '.'])
                        && root.join(&name).folders("").await?.iter().any(|f| f == "_delta_log")
                    {
                        out.push(name);
                    }
                }
                Ok(out)
            }
        }
    }

    /// The tables that are `wanted`, each at the version of the newest finished epoch.
    async fn open(
        &self,
        checkpoint: &Location,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, (Location, Option<u64>)>> {
        let done = read::newest_done(checkpoint).await?;
        let mut out = BTreeMap::new();
        for name in self.names().await?.into_iter().filter(|name| wanted(name)) {
            let at = match self {
                Self::Below(root) => root.join(&name),
                Self::In(schema, catalog) => catalog.to_read(&schema.table(&name)?).await?,
            };
            let version = done.as_ref().and_then(|d| {
                // Quarantine tables of other pipelines may be in the same place. They are read at their newest version.
                let key = if is_quarantine(&name, &checkpoint.name()) { QUARANTINE } else { &name };
                d.tables.get(key).map(|t| t.version)
            });
            out.insert(name, (at, version));
        }
        Ok(out)
    }
}

/// The tables and the checkpoint of a pipeline.
fn places(
    py: Python<'_>,
    root: Option<&str>,
    schema: Option<&str>,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Tables, Location)> {
    let storage = super::storage::reading(storage)?;
    if let Some(schema) = schema {
        let (schema, catalog) = catalog::schema(py, schema, &storage)?;
        let checkpoint = catalog.folder(checkpoint, &[])?;
        return Ok((Tables::In(schema, catalog), checkpoint));
    }
    let root = root.ok_or_else(|| Error::config("a pipeline needs root= or schema="))?;
    Ok((Tables::Below(Location::parse(root, &storage)?), Location::parse(checkpoint, &storage)?))
}

/// The schema of a pipeline, and whether only Spark can be asked for it.
fn schema_of(
    py: Python<'_>,
    schema: Option<&str>,
    storage: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Option<SchemaName>, bool)> {
    let Some(name) = schema.map(SchemaName::parse).transpose()? else { return Ok((None, false)) };
    let only = catalog::only_by_spark(py, &name, spark.is_some(), &super::storage::reading(storage)?)?;
    Ok((Some(name), only))
}

#[pyfunction]
fn _pipeline_tables(
    py: Python<'_>,
    root: Option<&str>,
    schema: Option<&str>,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<String>> {
    let (name, only) = schema_of(py, schema, storage, spark)?;
    let own = || {
        let (tables, _) = places(py, root, schema, checkpoint, storage)?;
        door::run_async(py, async move { tables.names().await })
    };
    let mut names = match name {
        Some(name) => by_spark_if_need_be(py, spark, only, own, |spark| spark.tables(&name))?,
        None => own()?,
    };
    names.sort();
    Ok(names)
}

/// Tables of a pipeline that Spark reads, each at the version of the newest finished epoch.
fn through_spark<'py>(
    py: Python<'py>,
    spark: &Reader<'py>,
    schema: &SchemaName,
    checkpoint: &Location,
    wanted: impl Fn(&str) -> bool,
) -> PyResult<BTreeMap<String, Rows>> {
    let at = checkpoint.clone();
    let done = door::run_async(py, async move { read::newest_done(&at).await })?;
    let mut out = BTreeMap::new();
    for name in spark.tables(schema)?.into_iter().filter(|name| wanted(name)) {
        let key = if is_quarantine(&name, &checkpoint.name()) { QUARANTINE } else { &name };
        let version = done.as_ref().and_then(|d| d.tables.get(key).map(|t| t.version));
        out.insert(name.clone(), spark.table(&schema.table(&name)?, version, &Wanted::default())?);
    }
    Ok(out)
}

#[pyfunction]
fn _pipeline_sql(
    py: Python<'_>,
    query: String,
    root: Option<&str>,
    schema: Option<&str>,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let (name, only) = schema_of(py, schema, storage, spark)?;
    let text = query.clone();
    let own = || {
        let (tables, checkpoint) = places(py, root, schema, checkpoint, storage)?;
        door::run_async(py, async move { sql_over(&tables, &checkpoint, &text).await })
    };
    let rows = match name {
        None => own()?,
        Some(name) => by_spark_if_need_be(py, spark, only, own, |spark| {
            let at = checkpoint_of(py, schema, checkpoint, storage)?;
            let found = through_spark(py, spark, &name, &at, |table| is_named(&query, table))?;
            let sources = found.into_iter().map(|(n, rows)| (n, Source::Rows(rows.schema, rows.batches))).collect();
            door::run_async(py, async move { read::sql(&query, sources).await })
        })?,
    };
    Ok(PyTable::new(rows))
}

/// Whether a query may name the table. Other tables are not opened, because a schema can have thousands. SHOW TABLES needs all of them.
fn is_named(query: &str, table: &str) -> bool {
    let text = query.to_lowercase();
    text.trim_start().starts_with("show") || text.contains(&table.to_lowercase())
}

async fn sql_over(tables: &Tables, checkpoint: &Location, query: &str) -> Result<Rows> {
    let found = tables.open(checkpoint, |name| matches!(tables, Tables::Below(_)) || is_named(query, name)).await?;
    if found.is_empty() && tables.names().await?.is_empty() {
        return Err(Error::storage(format!("{}: there are no tables here yet", tables.describe())));
    }
    let mut sources: BTreeMap<String, Source> =
        found.into_iter().map(|(n, (at, v))| (n, Source::Delta(at, v))).collect();
    if let Tables::In(_, catalog) = tables {
        let named = read::named(query)?.into_iter().filter_map(|name| TableName::parse(&name).transpose());
        sources.extend(to_read(catalog, named.collect::<Result<_>>()?).await?);
    }
    read::sql(query, sources).await
}

#[pyfunction]
fn _pipeline_read(
    py: Python<'_>,
    name: String,
    root: Option<&str>,
    schema: Option<&str>,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let (of, only) = schema_of(py, schema, storage, spark)?;
    let table = name.clone();
    let own = || {
        let (tables, checkpoint) = places(py, root, schema, checkpoint, storage)?;
        door::run_async(py, async move {
            let found = tables.open(&checkpoint, |n| n == table).await?;
            match found.get(&table).cloned() {
                Some((at, version)) => read::table(at, version).await,
                None => Err(no_table(&tables.describe(), &table, &tables.names().await?)),
            }
        })
    };
    let rows = match of {
        None => own()?,
        Some(of) => by_spark_if_need_be(py, spark, only, own, |spark| {
            let at = checkpoint_of(py, schema, checkpoint, storage)?;
            match through_spark(py, spark, &of, &at, |n| n.eq_ignore_ascii_case(&name))?.into_values().next() {
                Some(rows) => Ok(rows),
                None => Err(no_table(&of.to_string(), &name, &spark.tables(&of)?).into()),
            }
        })?,
    };
    Ok(PyTable::new(rows))
}

fn no_table(place: &str, name: &str, known: &[String]) -> Error {
    let hint = crate::error::did_you_mean(name, known.iter().map(String::as_str));
    Error::storage(format!("{place}: there is no table '{name}'.{hint} The tables are: {}.", known.join(", ")))
}

/// The folder of a pipeline's checkpoint.
pub(super) fn checkpoint_of(
    py: Python<'_>,
    schema: Option<&str>,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<Location> {
    let storage = super::storage::reading(storage)?;
    Ok(match schema {
        // Tables that only Spark knows have a checkpoint without a catalog.
        Some(schema) if SchemaName::parse(schema)?.is_outside() => Location::parse(checkpoint, &storage)?,
        Some(_) if !checkpoint.contains("://") => Location::parse(checkpoint, &storage)?,
        Some(schema) => catalog::schema(py, schema, &storage)?.1.folder(checkpoint, &[])?,
        None => Location::parse(checkpoint, &storage)?,
    })
}

/// The counts of all runs, from the newest finished epoch.
#[pyfunction]
fn _pipeline_expectations(
    py: Python<'_>,
    schema: Option<&str>,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let at = checkpoint_of(py, schema, checkpoint, storage)?;
    let done = door::run_async(py, async move { read::newest_done(&at).await })?;
    let rules: Vec<RuleCount> = done
        .and_then(|d| d.counts.get("rules").cloned())
        .and_then(|r| serde_json::from_value(r).ok())
        .unwrap_or_default();
    Ok(PyTable::new(super::iterate::expectations(&rules)?))
}

#[doc = doc!("functions")]
#[pyfunction]
#[pyo3(signature = (like=None))]
fn functions(like: Option<&str>) -> PyResult<PyTable> {
    let part = like.unwrap_or_default().to_lowercase();
    let listed: Vec<_> = crate::expr::listed().into_iter().filter(|l| l.usage.to_lowercase().contains(&part)).collect();
    let text = |of: fn(&Listed) -> &'static str| {
        Arc::new(listed.iter().map(|l| Some(of(l))).collect::<StringArray>()) as ArrayRef
    };
    let kind = |l: &Listed| match l.role {
        Role::Scalar => "function",
        Role::Aggregate => "aggregate",
        Role::Generator => "generator",
        Role::Window => "window function",
        Role::Operator => "operator",
    };
    let columns = [("name", text(|l| l.name)), ("kind", text(kind)), ("usage", text(|l| l.usage))];
    let batch = RecordBatch::try_from_iter(columns).map_err(Error::from)?;
    Ok(PyTable::new(Rows { schema: batch.schema(), batches: vec![batch] }))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(read_delta, m)?)?;
    m.add_function(wrap_pyfunction!(sql, m)?)?;
    m.add_function(wrap_pyfunction!(functions, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_tables, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_sql, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_read, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_expectations, m)?)
}
