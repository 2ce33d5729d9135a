//! `spark=`: the session that commits to tables which bayou may not commit to itself, and when this session is used.

use super::{catalog, door, functions, guard};
use crate::catalog::{Catalog, Of, Place, SchemaName, TableName};
use crate::flow::static_join::Foreign;
use crate::read::{Rows, Wanted};
use crate::sink::delta::not_by_bayou;
use crate::sink::spark::{Session, SparkTable};
use crate::storage::{Location, StorageOptions};
use crate::{Error, Kind, Result};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const MODULE: &str = "bayou._managed";

struct PySession(Py<PyAny>);

impl Session for PySession {
    fn ask(&self, what: &str, request: &Value) -> Result<Value> {
        let answer = functions::enter(|py| {
            let ask = || -> PyResult<String> {
                let answer = guard::import(py, MODULE)?.getattr("answer")?;
                let given = (self.0.bind(py), what, request.to_string()).into_pyobject(py)?;
                guard::call(&answer, &given)?.extract()
            };
            // An exception that is not an `Exception` ends the call: the interpreter ends.
            ask().map_err(|e| Error::new(Kind::Interrupted, functions::text_of(py, &e)))
        })??;
        let answer: Value =
            serde_json::from_str(&answer).map_err(|e| Error::internal(format!("Spark's answer: {e}")))?;
        match answer.get("error") {
            Some(error) => Err(failed(error)),
            None => Ok(answer),
        }
    }
}

fn failed(error: &Value) -> Error {
    let kind = match error["kind"].as_str().unwrap_or_default() {
        "acl" => Kind::Acl,
        "config" => Kind::Config,
        "schema" => Kind::Schema,
        "data_loss" => Kind::DataLoss,
        "concurrent_query" => Kind::ConcurrentQuery,
        _ => Kind::Storage,
    };
    let made = Error::new(kind, error["text"].as_str().unwrap_or("Spark failed"));
    made.retryable(error["retryable"] == true)
}

/// The session that the user gives.
pub(super) fn given(spark: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Arc<dyn Session>>> {
    let Some(spark) = spark else { return Ok(None) };
    guard::method(&guard::import(spark.py(), MODULE)?, "check", (spark,))?;
    Ok(Some(Arc::new(PySession(spark.clone().unbind()))))
}

/// The session that exists already.
fn found(py: Python<'_>) -> PyResult<Option<Arc<dyn Session>>> {
    let found = guard::method(&guard::import(py, MODULE)?, "find", ())?;
    Ok((!found.is_none()).then(|| Arc::new(PySession(found.unbind())) as Arc<dyn Session>))
}

/// A session, for reading.
pub(super) struct Reader<'py>(Bound<'py, PyAny>);

impl<'py> Reader<'py> {
    /// The session that is given, or the one that exists already.
    pub(super) fn find(py: Python<'py>, given: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Self>> {
        if let Some(spark) = given {
            guard::method(&guard::import(py, MODULE)?, "check", (spark,))?;
            return Ok(Some(Self(spark.clone())));
        }
        let found = guard::method(&guard::import(py, MODULE)?, "find", ())?;
        Ok((!found.is_none()).then_some(Self(found)))
    }

    pub(super) fn table(&self, name: &TableName, version: Option<u64>, wanted: &Wanted) -> PyResult<Rows> {
        let module = guard::import(self.0.py(), MODULE)?;
        let Wanted { columns, filter, limit } = wanted;
        let asked = (&self.0, name.sql(), version, columns.as_deref(), filter.as_deref(), *limit);
        functions::rows_of(&guard::method(&module, "read", asked)?)
    }

    /// The table as the other side of a join, and its columns.
    pub(super) fn joined(&self, name: &TableName) -> PyResult<(Arc<dyn Foreign>, SchemaRef)> {
        let session = PySession(self.0.clone().unbind());
        let table = Arc::new(Joined { name: name.to_string(), sql: name.sql(), session });
        let no_rows = Wanted { limit: Some(0), ..Wanted::default() };
        let columns = self.table(name, None, &no_rows)?.schema;
        let asked = table.clone();
        // A view has no versions, and is refused when the line is typed.
        door::run(self.0.py(), move || asked.version())?;
        Ok((table, columns))
    }

    /// The names of the tables of a schema.
    pub(super) fn tables(&self, schema: &SchemaName) -> PyResult<Vec<String>> {
        let module = guard::import(self.0.py(), MODULE)?;
        guard::method(&module, "tables", (&self.0, schema.sql()))?.extract()
    }
}

/// A joined table that Spark reads.
struct Joined {
    name: String,
    sql: String,
    session: PySession,
}

impl Foreign for Joined {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> Result<u64> {
        let answer = self.session.ask("version", &json!({ "table": self.sql, "shown": self.name }))?;
        answer["version"].as_u64().ok_or_else(|| Error::internal("Spark's answer has no version"))
    }

    fn columns(&self, version: u64) -> Result<SchemaRef> {
        Ok(self.rows(version, None, Some(0))?.schema)
    }

    fn read(&self, version: u64, columns: &[String]) -> Result<Vec<RecordBatch>> {
        Ok(self.rows(version, Some(columns), None)?.batches)
    }
}

impl Joined {
    fn rows(&self, version: u64, columns: Option<&[String]>, limit: Option<usize>) -> Result<Rows> {
        functions::enter(|py| {
            let read = || -> PyResult<Rows> {
                let read = guard::import(py, MODULE)?.getattr("read")?;
                let asked =
                    (self.session.0.bind(py), &self.sql, version, columns, py.None(), limit).into_pyobject(py)?;
                functions::rows_of(&guard::call(&read, &asked)?)
            };
            read().map_err(|e| {
                let text = functions::text_of(py, &e);
                // An exception that is not an `Exception` ends the call: the interpreter ends, or the user stops it.
                let ends = !e.is_instance_of::<PyException>(py);
                if ends { Error::new(Kind::Interrupted, text) } else { Error::storage(text) }
            })
        })?
    }
}

/// How a table of a catalog is written.
#[derive(Clone)]
pub(super) enum Way {
    Bayou(Location),
    Spark(SparkTable),
}

impl Way {
    pub(super) fn location(&self) -> Option<&Location> {
        match self {
            Self::Bayou(at) => Some(at),
            Self::Spark(_) => None,
        }
    }
}

/// How the tables of one query are written: by bayou or by Spark.
pub(super) struct Ways {
    /// `None`: there is no login, or the tables are outside Unity Catalog.
    pub catalog: Option<Arc<Catalog>>,
    given: Option<Arc<dyn Session>>,
}

impl Ways {
    /// `what`: the name that the user gave, for errors.
    pub(super) fn new(
        py: Python<'_>,
        of: &SchemaName,
        what: &str,
        given: Option<Arc<dyn Session>>,
        storage: &StorageOptions,
    ) -> PyResult<Self> {
        let catalog = match (&given, of.is_outside()) {
            (Some(_), true) => None,
            (Some(_), false) => catalog::connect_if(py, storage)?,
            (None, _) => {
                of.check_inside(what)?;
                Some(catalog::connect(py, storage, what)?)
            }
        };
        Ok(Self { catalog, given })
    }

    /// How one table is written. `place`: where a new table goes. `like`: a new table without a place is written in the same way as this table.
    pub(super) fn of(&self, py: Python<'_>, name: &TableName, place: Place, like: Option<&Way>) -> PyResult<Way> {
        let through = |session: Arc<dyn Session>| {
            Way::Spark(SparkTable {
                name: name.table.to_lowercase(),
                shown: name.to_string(),
                sql: name.sql(),
                session,
            })
        };
        let Some(catalog) = self.catalog.clone() else {
            let session = self.given.clone().ok_or_else(|| Error::internal("neither a catalog nor Spark"))?;
            return Ok(through(session));
        };
        let (asked, table) = (catalog.clone(), name.clone());
        let kind = door::run_async(py, async move { asked.kind(&table).await })?;
        let at_hand = || self.at_hand(py);
        let session = match kind {
            Some(Of::Managed) => match &self.given {
                Some(session) => Some(session.clone()),
                None => found(py)?,
            },
            Some(Of::External) => {
                let session = at_hand()?;
                let needed = session.clone().is_some_and(|s| {
                    let Way::Spark(table) = through(s) else { return false };
                    door::run(py, move || Ok(needs_spark(&table))).unwrap_or(false)
                });
                session.filter(|_| needed)
            }
            None if matches!(place, Place::Root) => match like {
                Some(Way::Spark(table)) => Some(table.session.clone()),
                Some(Way::Bayou(_)) => None,
                None => at_hand()?,
            },
            Some(Of::Other) | None => None,
        };
        if let Some(session) = session {
            return Ok(through(session));
        }
        let name = name.clone();
        Ok(Way::Bayou(door::run_async(py, async move { catalog.to_write(&name, place).await })?))
    }

    /// The session that is given, or on Databricks the notebook's own. Elsewhere a session that the user did not give may know other tables.
    fn at_hand(&self, py: Python<'_>) -> PyResult<Option<Arc<dyn Session>>> {
        match &self.given {
            Some(session) => Ok(Some(session.clone())),
            None if std::env::var_os("DATABRICKS_RUNTIME_VERSION").is_some() => found(py),
            None => Ok(None),
        }
    }
}

/// Whether the table has features that bayou cannot commit to. If Spark does not answer, bayou finds out when it opens the table.
fn needs_spark(table: &SparkTable) -> bool {
    let request = json!({ "table": table.sql, "shown": table.shown, "history": false });
    let Ok(found) = table.session.ask("look", &request) else { return false };
    let features: Vec<String> = serde_json::from_value(found["features"].clone()).unwrap_or_default();
    let properties: BTreeMap<String, String> = serde_json::from_value(found["properties"].clone()).unwrap_or_default();
    not_by_bayou(&features, &properties).is_some()
}
