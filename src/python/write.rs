//! Calls that write: the arguments of each call become a flow.

use super::arguments::Arguments;
use super::catalog;
use super::convert::{self, PathText};
use super::functions::Function;
use super::query::{self, PyQuery};
use super::spark::{self, Way, Ways};
use super::stream::PyStream;
use crate::catalog::{Place, SchemaName, TableName};
use crate::flow::mode::parse_mode;
use crate::flow::places::{self, Chosen, Places};
use crate::flow::{Aside, Flow, Output, QUARANTINE, Stream, Trigger};
use crate::sink::To;
use crate::sink::delta::DeltaOptions;
use crate::sink::function::{ForEach, FunctionOptions};
use crate::sink::spark::{Session, SparkOptions, SparkTable};
use crate::sink::topic::TopicOptions;
use crate::storage::{Location, Mounts, StorageOptions};
use crate::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::Arc;

/// The options of a run.
struct RunOptions {
    query_name: Option<String>,
    trigger: Trigger,
    checkpoint_location: Option<String>,
    storage: StorageOptions,
    full_refresh: bool,
    accept_changes: bool,
    close_windows: bool,
    memory_limit: Option<usize>,
    optimize_every: Option<usize>,
    clean_log: Option<bool>,
    start: Option<String>,
    commit_to_group: Option<String>,
    /// The session that writes tables which bayou may not commit to.
    spark: Option<Arc<dyn Session>>,
    shown: query::Shown,
}

impl RunOptions {
    /// The options that every call that writes has.
    fn read(a: &mut Arguments<'_, '_>) -> PyResult<Self> {
        Ok(Self {
            query_name: a.text("query_name")?,
            trigger: super::iterate::trigger(a.any("trigger")?.as_ref())?,
            checkpoint_location: a.typed::<PathText>("checkpoint_location", "a str or a path")?.map(|at| at.0),
            storage: {
                let storage = super::storage::options(a.any("storage_options")?.as_ref())?;
                let alone = a.flag("single_writer")?.unwrap_or(false);
                storage.on_mounts(if alone { Mounts::SingleWriter } else { Mounts::Refused })
            },
            full_refresh: a.flag("full_refresh")?.unwrap_or(false),
            accept_changes: false,
            close_windows: a.flag("close_windows")?.unwrap_or(false),
            memory_limit: convert::bytes(a.any("memory_limit")?.as_ref(), "memory_limit", 1 << 20)?,
            optimize_every: None,
            clean_log: None,
            start: a.text("start")?,
            commit_to_group: a.text("commit_to_group")?,
            spark: None,
            shown: query::Shown {
                block: a.flag("block")?.unwrap_or(true),
                progress: a.flag("progress")?.unwrap_or(true),
                timeout: match a.any("timeout")? {
                    None => None,
                    Some(given) => {
                        let text = convert::duration(&given, "timeout")?;
                        Some((crate::time::parse_duration(&text).map_err(Error::config)?, text))
                    }
                },
            },
        })
    }

    /// The options of calls whose targets other writers may change.
    fn of_targets(a: &mut Arguments<'_, '_>) -> PyResult<Self> {
        let accept_changes = a.flag("accept_changes")?.unwrap_or(false);
        Ok(Self { accept_changes, ..Self::read(a)? })
    }

    /// The options of calls that write tables.
    fn of_tables(a: &mut Arguments<'_, '_>) -> PyResult<Self> {
        let optimize_every = a.typed("optimize_every", "an int")?;
        let clean_log = a.flag("clean_log")?;
        let spark = spark::given(a.any("spark")?.as_ref())?;
        Ok(Self { optimize_every, clean_log, spark, ..Self::of_targets(a)? })
    }

    fn chosen(&self) -> Chosen<'_> {
        Chosen {
            query_name: self.query_name.as_deref(),
            checkpoint_location: self.checkpoint_location.as_deref(),
            storage: &self.storage,
        }
    }

    fn start(self, py: Python<'_>, places: Places, outputs: Vec<Output>) -> PyResult<Py<PyQuery>> {
        let Places { name, checkpoint, quarantine } = places;
        let flow = Flow {
            name,
            outputs,
            quarantine,
            checkpoint,
            trigger: self.trigger,
            full_refresh: self.full_refresh,
            accept_changes: self.accept_changes,
            close_windows: self.close_windows,
            memory_limit: self.memory_limit,
            optimize_every: self.optimize_every,
            clean_log: self.clean_log,
            start: self.start,
            commit_to_group: self.commit_to_group,
        };
        query::start(py, flow, self.shown)
    }
}

/// The options of one output.
#[derive(Default)]
struct OutputArgs {
    output_mode: Option<String>,
    partition_by: Vec<String>,
    table_name: Option<String>,
    comment: Option<String>,
    schema_mode: Option<String>,
    start: Option<String>,
    /// The location of a new table of a catalog.
    location: Option<String>,
    foreach: Option<Arc<dyn ForEach>>,
    topic: Option<TopicOptions>,
}

impl OutputArgs {
    /// The options of a table.
    fn of_table(a: &mut Arguments<'_, '_>) -> PyResult<Self> {
        Ok(Self {
            output_mode: a.text("output_mode")?,
            partition_by: a.any("partition_by")?.map_or(Ok(vec![]), |v| convert::columns(&v, "partition_by"))?,
            table_name: a.text("table_name")?,
            comment: a.text("comment")?,
            schema_mode: a.text("schema_mode")?,
            start: a.text("start")?,
            location: a.typed::<PathText>("location", "a str or a path")?.map(|at| at.0),
            foreach: None,
            topic: None,
        })
    }
}

/// Refuses options for names, for a target that is a path.
fn only_for_names(location: Option<&str>, options: &RunOptions, target: &str) -> Result<()> {
    match location {
        None if options.spark.is_some() => Err(Error::config(format!(
            "spark= is for tables of Unity Catalog that only Spark may write, and the target '{target}' is a path, which bayou writes by itself. \
             Leave spark= out, or write a name \"catalog.schema.table\"."
        ))),
        None => Ok(()),
        Some(location) => Err(Error::config(format!(
            "location='{location}' is the location of a table of Unity Catalog, and the target '{target}' is a path. Write the path as the target, \
             or a name \"catalog.schema.table\"."
        ))),
    }
}

/// Where the rows of a table go.
enum At {
    Location(Location),
    /// The second value is the folder where rows wait for their commit.
    Spark(SparkTable, Location),
}

impl At {
    fn new(way: Way, places: &Places, output: &str) -> Self {
        match way {
            Way::Bayou(at) => Self::Location(at),
            Way::Spark(table) => Self::Spark(table, places.staged(output)),
        }
    }
}

fn output(name: &str, stream: &Stream, at: Option<At>, args: OutputArgs) -> Result<Output> {
    let merge_schema = match args.schema_mode.as_deref() {
        None => false,
        Some("merge") => true,
        Some(other) => {
            return Err(Error::config(format!(
                "schema_mode='{other}': the only mode is \"merge\" (new columns are added)"
            )));
        }
    };
    let mode = parse_mode(args.output_mode.as_deref(), stream).map_err(|e| e.context(format!("table '{name}'")))?;
    if stream.kafka_sources().is_empty() {
        return Err(Error::config(format!(
            "table '{name}': rows in memory have no position to continue from. Write them with deltalake, or use collect() and validate()."
        )));
    }
    let partition_by = args
        .partition_by
        .iter()
        .map(|c| crate::expr::resolve_column(c, stream.schema()).map(|i| stream.schema().field(i).name().clone()))
        .collect::<Result<_>>()
        .map_err(|e| e.context("partition_by"))?;
    let to = match (args.topic, args.foreach, at) {
        (Some(topic), ..) => To::Topic(topic),
        (None, Some(function), _) => To::Function(FunctionOptions { function }),
        (None, None, Some(At::Spark(table, staged))) => {
            To::Spark(SparkOptions { table, staged, partition_by, comment: args.comment, merge_schema })
        }
        (None, None, Some(At::Location(location))) => To::Delta(DeltaOptions {
            location,
            partition_by,
            table_name: args.table_name,
            comment: args.comment,
            merge_schema,
        }),
        (None, None, None) => return Err(Error::internal(format!("the output '{name}' has no location"))),
    };
    Ok(Output { name: name.into(), stream: stream.clone(), mode, start: args.start, to })
}

pub(super) fn write_delta(
    py: Python<'_>,
    stream: &Stream,
    target: &Bound<'_, PyAny>,
    mut a: Arguments<'_, '_>,
) -> PyResult<Py<PyQuery>> {
    let (args, options) = (OutputArgs::of_table(&mut a)?, RunOptions::of_tables(&mut a)?);
    a.end()?;
    if let Some(name) = catalog::named_anywhere(target)? {
        return write_catalog(py, stream, name, args, options);
    }
    let target = convert::path(target)?;
    only_for_names(args.location.as_deref(), &options, &target)?;
    let at = Location::parse(&target, &options.storage)?;
    let places = Places::of_table(&at, &options.chosen())?;
    let table = output(&at.name(), stream, Some(At::Location(at)), args)?;
    options.start(py, places, vec![table])
}

/// Writes a table of Unity Catalog. Its quarantine is a table of the same schema.
fn write_catalog(
    py: Python<'_>,
    stream: &Stream,
    table: TableName,
    args: OutputArgs,
    options: RunOptions,
) -> PyResult<Py<PyQuery>> {
    // In Unity Catalog, upper and lower case are the same, and a query continues in whichever case its table is spelled.
    let title = table.table.to_lowercase();
    let name = places::query_name(options.query_name.as_deref(), title.clone())?;
    let ways = Ways::new(py, &table.schema, &table.to_string(), options.spark.clone(), &options.storage)?;
    let place = args.location.clone().map_or(Place::Root, Place::At);
    let aside = table.beside(places::QUARANTINE_SUFFIX);
    // This request comes first, because its error may say what is wrong with the target.
    let at = ways.of(py, &table, place, None)?;
    let beside = at.location().map_or(Place::Root, |at| Place::Beside(at.clone()));
    let quarantine = ways.of(py, &aside, beside, Some(&at))?;
    let places = places_of(&ways, &name, quarantine, &[&at], &options)?;
    let at = At::new(at, &places, &title);
    let output = output(&title, stream, Some(at), args)?;
    options.start(py, places, vec![output])
}

/// The checkpoint and the quarantine of a query whose tables have names.
fn places_of(ways: &Ways, name: &str, quarantine: Way, tables: &[&Way], options: &RunOptions) -> Result<Places> {
    let given = options.checkpoint_location.as_deref();
    let tables: Vec<&Location> = tables.iter().filter_map(|way| way.location()).collect();
    let checkpoint = catalog::checkpoint(ways.catalog.as_ref(), given, &tables, &options.storage)?;
    let at = checkpoint.join(name);
    let quarantine = match quarantine {
        Way::Bayou(at) => Aside::At(at),
        Way::Spark(table) => Aside::Spark(SparkOptions {
            table,
            staged: places::staged_in(&at, QUARANTINE),
            partition_by: vec![],
            comment: None,
            merge_schema: true,
        }),
    };
    Ok(Places::of_catalog(name, &checkpoint, quarantine))
}

pub(super) fn foreach_batch(
    py: Python<'_>,
    stream: &Stream,
    function: &Bound<'_, PyAny>,
    mut a: Arguments<'_, '_>,
) -> PyResult<Py<PyQuery>> {
    let input = a.text("input")?.unwrap_or_else(|| "arrow".into());
    let (output_mode, options) = (a.text("output_mode")?, RunOptions::read(&mut a)?);
    a.end()?;
    let function = Arc::new(Function::new(function, &input, "foreach_batch")?);
    let args = OutputArgs { output_mode, foreach: Some(function), ..OutputArgs::default() };
    elsewhere(py, stream, "foreach_batch", args, options)
}

pub(super) fn write_kafka(
    py: Python<'_>,
    stream: &Stream,
    topic: &str,
    mut a: Arguments<'_, '_>,
) -> PyResult<Py<PyQuery>> {
    let topic = super::topic::options(topic, &mut a, stream)?;
    let (output_mode, options) = (a.text("output_mode")?, RunOptions::of_targets(&mut a)?);
    a.end()?;
    let args = OutputArgs { output_mode, topic: Some(topic), ..OutputArgs::default() };
    elsewhere(py, stream, "write_kafka", args, options)
}

/// Writes to a target that has no folder: each epoch's rows go to a function or to a topic.
fn elsewhere(
    py: Python<'_>,
    stream: &Stream,
    call: &str,
    args: OutputArgs,
    options: RunOptions,
) -> PyResult<Py<PyQuery>> {
    let missing = || {
        Error::config(format!(
            "{call} needs query_name= and checkpoint_location=. The checkpoint keeps the position, and the rows of an epoch until they are delivered."
        ))
    };
    let name = options.query_name.clone().ok_or_else(missing)?;
    let at = Location::parse(options.checkpoint_location.as_deref().ok_or_else(missing)?, &options.storage)?;
    let output = output(&name, stream, None, args)?;
    options.start(py, Places::of_target_without_folder(&at, &name), vec![output])
}

/// Runs a pipeline, whose tables are folders below `root` or tables of `schema`.
#[pyfunction]
#[pyo3(signature = (name, root, schema, outputs, **options))]
fn _run_pipeline(
    py: Python<'_>,
    name: &str,
    root: Option<&str>,
    schema: Option<&str>,
    outputs: &Bound<'_, PyList>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyQuery>> {
    let mut a = Arguments::new("run", &[], options);
    let options = RunOptions::of_tables(&mut a)?;
    a.end()?;
    let given = pipeline_outputs(outputs)?;
    let (ways, places) = match (schema, root) {
        (Some(schema), root) => in_schema(py, name, schema, root, &given, &options)?,
        (None, Some(root)) => {
            let at = Location::parse(root, &options.storage)?;
            for (_, _, args) in &given {
                only_for_names(args.location.as_deref(), &options, root)?;
            }
            let places = Places::of_pipeline(&at, name, &options.chosen())?;
            (given.iter().map(|(name, ..)| Some(Way::Bayou(at.join(name)))).collect(), places)
        }
        (None, None) => return Err(Error::config("a pipeline needs root= or schema=").into()),
    };
    let mut all = vec![];
    for ((name, stream, args), way) in given.into_iter().zip(ways) {
        let at = way.map(|way| At::new(way, &places, &name));
        all.push(output(&name, &stream, at, args)?);
    }
    options.start(py, places, all)
}

/// The places of a pipeline whose tables are in a schema of Unity Catalog. `root`: where new tables go.
fn in_schema(
    py: Python<'_>,
    name: &str,
    schema: &str,
    root: Option<&str>,
    outputs: &[(String, Stream, OutputArgs)],
    options: &RunOptions,
) -> PyResult<(Vec<Option<Way>>, Places)> {
    let of = SchemaName::parse(schema)?;
    let ways = Ways::new(py, &of, &format!("schema=\"{of}\""), options.spark.clone(), &options.storage)?;
    let below = || root.map_or(Place::Root, |root| Place::Below(root.into()));
    let mut tables = vec![];
    for (name, _, args) in outputs {
        let is_table = args.foreach.is_none() && args.topic.is_none();
        let place = args.location.clone().map_or_else(below, Place::At);
        tables.push(if is_table { Some(ways.of(py, &of.table(name)?, place, None)?) } else { None });
    }
    // A new quarantine table is written in the same way as the tables.
    let first = tables.iter().flatten().find_map(Way::location);
    let by_spark = tables.iter().flatten().find(|way| way.location().is_none());
    let place = match (below(), first) {
        (Place::Root, Some(first)) if by_spark.is_none() => Place::Beside(first.clone()),
        (place, _) => place,
    };
    let quarantine = ways.of(py, &of.table(&places::quarantine_name(name))?, place, by_spark)?;
    let all: Vec<&Way> = tables.iter().flatten().collect();
    let places = places_of(&ways, name, quarantine, &all, options)?;
    Ok((tables, places))
}

/// The outputs of a pipeline as Python gives them: dicts with name, stream and options.
fn pipeline_outputs(outputs: &Bound<'_, PyList>) -> PyResult<Vec<(String, Stream, OutputArgs)>> {
    let mut all = vec![];
    for given in outputs.iter() {
        let given = given.cast::<PyDict>()?;
        let mut a = Arguments::new("table", &[], Some(given));
        let name = a.text("name")?.ok_or_else(|| Error::internal("a table without a name"))?;
        let stream = a.any("stream")?.ok_or_else(|| Error::internal("a table without a stream"))?;
        let stream = stream.extract::<PyRef<'_, PyStream>>()?.0.clone();
        let mut args = OutputArgs::of_table(&mut a)?;
        args.table_name.get_or_insert_with(|| name.clone());
        let input = a.text("input")?;
        if let Some(function) = a.any("foreach")? {
            let input = input.as_deref().unwrap_or("arrow");
            args.foreach = Some(Arc::new(Function::new(&function, input, "foreach_batch")?));
        }
        if let Some(topic) = a.any("topic")? {
            let mut of_topic = Arguments::new("topic", &[], Some(topic.cast::<PyDict>()?));
            let topic = of_topic.text("topic")?.unwrap_or_default();
            args.topic = Some(super::topic::options(&topic, &mut of_topic, &stream)?);
        }
        a.end()?;
        crate::flow::stream::check_name(&name, "a table")?;
        all.push((name, stream, args));
    }
    Ok(all)
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_run_pipeline, m)?)
}
