//! Reading tables, and SQL over them. DataFusion reads the files through our own stores.

mod generators;

use crate::epoch::{Done, EpochLog, newest_generation};
use crate::sink::delta;
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{GroupByExpr, Select, Statement as Parsed, TableFactor, Visit, Visitor};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use url::Url;

/// A table that a SQL text can name.
pub enum Source {
    /// A Delta table, at a version or at its newest version.
    Delta(Location, Option<u64>),
    Rows(SchemaRef, Vec<RecordBatch>),
}

/// The rows that a call returns.
#[derive(Debug, Clone)]
pub struct Rows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// The query's newest finished epoch, if any. It also works in a process that did not define any tables.
pub async fn newest_done(checkpoint: &Location) -> Result<Option<Done>> {
    let Some(generation) = newest_generation(checkpoint).await? else { return Ok(None) };
    let log = EpochLog::new(checkpoint.join(&generation.to_string()));
    match log.newest_done().await? {
        Some(n) => log.read_done(n).await,
        None => Ok(None),
    }
}

fn context() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2).with_information_schema(true);
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::Databricks;
    // `AS eventsTotal` keeps its upper and lower case.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    // As in Spark. As a DOUBLE, 1234567890123456.78 would not equal the value of a DECIMAL column. NULL sorts below all
    // values.
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    config.options_mut().sql_parser.default_null_ordering = "nulls_min".into();
    config.options_mut().execution.parquet.schema_force_view_types = false;
    // In nanoseconds, Spark's 96-bit timestamps outside the years 1677 to 2262 would become different times.
    config.options_mut().execution.parquet.coerce_int96 = Some("us".into());
    SessionContext::new_with_config(config)
}

async fn register(ctx: &SessionContext, name: &str, source: Source) -> Result<()> {
    match source {
        Source::Rows(schema, batches) => {
            let table = MemTable::try_new(schema, vec![batches])?;
            ctx.register_table(datafusion::common::TableReference::bare(name), Arc::new(table))?;
        }
        Source::Delta(location, version) => {
            let mut table = delta::open(&location).await?.ok_or_else(|| no_table(&location))?;
            if let Some(v) = version
                && table.version() != Some(v)
            {
                table
                    .load_version(v)
                    .await
                    .map_err(|e| Error::storage(format!("{}: version {v}: {e}", location.display())))?;
            }
            let base =
                Url::parse(&format!("{}://{}", location.url().scheme(), location.url().host_str().unwrap_or_default()))
                    .map_err(|e| Error::internal(e.to_string()))?;
            ctx.runtime_env().register_object_store(&base, location.root());
            let failed = |e: deltalake::DeltaTableError| Error::storage(format!("{}: {e}", location.display()));
            table.update_datafusion_session(&ctx.state()).map_err(failed)?;
            let provider =
                table.table_provider().await.map_err(|e| Error::storage(format!("{}: {e}", location.display())))?;
            ctx.register_table(datafusion::common::TableReference::bare(name), provider)?;
        }
    }
    Ok(())
}

fn no_table(location: &Location) -> Error {
    Error::storage(format!("{}: there is no Delta table here", location.display()))
}

/// Clauses that DataFusion parses and then ignores. The answer would belong to a different question.
struct LeftOut;

impl Visitor for LeftOut {
    type Break = (&'static str, &'static str);

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Self::Break> {
        const VERSION: (&str, &str) = ("VERSION AS OF and TIMESTAMP AS OF are", "The newest version is read.");
        const SAMPLE: (&str, &str) =
            ("TABLESAMPLE is", "To read some of the rows, use LIMIT, or WHERE with a condition on a key.");
        match table {
            TableFactor::Table { version: Some(_), .. } => ControlFlow::Break(VERSION),
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                ControlFlow::Break(SAMPLE)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        let (GroupByExpr::All(with) | GroupByExpr::Expressions(_, with)) = &select.group_by;
        match with.is_empty() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break((
                "GROUP BY … WITH ROLLUP, CUBE or TOTALS is",
                "Say GROUP BY ROLLUP(…) or GROUP BY CUBE(…).",
            )),
        }
    }
}

/// The statement, if the text can be parsed. If not, the engine below reports the error.
fn parsed(ctx: &SessionContext, text: &str) -> Result<Option<Box<Parsed>>> {
    let state = ctx.state();
    let Ok(Statement::Statement(read)) = state.sql_to_statement(text, &state.config().options().sql_parser.dialect)
    else {
        return Ok(None);
    };
    match read.visit(&mut LeftOut) {
        ControlFlow::Break((what, way)) => Err(Error::schema(format!("SQL: {what} not supported. {way}"))),
        ControlFlow::Continue(()) => Ok(Some(read)),
    }
}

/// An error of a query in our words.
fn explained(e: &datafusion::error::DataFusionError) -> Error {
    let root = e.find_root().to_string().replace("datafusion.public.", "");
    // Hints about settings of DataFusion do not help here.
    Error::schema(format!("SQL: {}", root.split(" To implicitly").next().unwrap_or(&root).trim_end()))
}

/// The rows of a statement that only reads.
async fn rows_of(ctx: &SessionContext, statement: Statement) -> Result<Rows> {
    let plan = ctx.state().statement_to_plan(statement).await.map_err(|e| explained(&e))?;
    reading().verify_plan(&plan).map_err(|e| explained(&e))?;
    let frame = ctx.execute_logical_plan(plan).await.map_err(|e| explained(&e))?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(|e| explained(&e))?;
    Ok(Rows { schema, batches })
}

fn reading() -> datafusion::execution::context::SQLOptions {
    datafusion::execution::context::SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
}

/// Runs SQL over named tables. Tables that the text does not use are not opened. Planning is recursive: it needs a
/// thread with a large stack. `python::door` has one, and the threads of the runtime have one, too.
pub async fn sql(text: &str, tables: BTreeMap<String, Source>) -> Result<Rows> {
    crate::expr::check_statement(text)?;
    let ctx = context();
    let read = parsed(&ctx, text)?;
    let names: Vec<String> = tables.keys().cloned().collect();
    let lower = text.to_lowercase();
    for (name, source) in tables {
        if lower.contains(&name.to_lowercase()) {
            register(&ctx, &name, source).await?;
        }
    }
    let explain = |e: Error| {
        let known = match e.message.contains("not found") && e.message.contains("table") {
            true => format!(" Tables: {}.", names.join(", ")),
            false => String::new(),
        };
        Error { message: format!("{}{known}", e.message), ..e }
    };
    if let Some(read) = read
        && let Some(without) = generators::without(&ctx, &read).await.map_err(explain)?
    {
        let Rows { schema, batches } = rows_of(&ctx, Statement::Statement(Box::new(without))).await.map_err(explain)?;
        return plain(&schema, batches);
    }
    let frame = ctx.sql_with_options(text, reading()).await.map_err(|e| explain(explained(&e)))?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(|e| explain(explained(&e)))?;
    plain(&schema, batches)
}

/// Reads a whole Delta table.
pub async fn table(location: Location, version: Option<u64>) -> Result<Rows> {
    let ctx = context();
    register(&ctx, "t", Source::Delta(location.clone(), version)).await?;
    let frame = ctx.table("t").await?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches =
        frame.collect().await.map_err(|e| Error::storage(format!("{}: {}", location.display(), e.find_root())))?;
    plain(&schema, batches)
}

/// The types that bayou returns: no views, no dictionaries, timestamps in microseconds.
pub fn plain_type(t: &DataType) -> DataType {
    let field = |f: &Arc<Field>| Arc::new(f.as_ref().clone().with_data_type(plain_type(f.data_type())));
    match t {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, v) => plain_type(v),
        DataType::RunEndEncoded(_, v) => plain_type(v.data_type()),
        DataType::Timestamp(_, Some(_)) => crate::time::timestamp_type(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _) => DataType::List(field(f)),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

pub fn plain(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Rows> {
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| f.as_ref().clone().with_data_type(plain_type(f.data_type()))).collect();
    let out: SchemaRef = Arc::new(Schema::new(fields));
    let convert = |b: RecordBatch| -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = b
            .columns()
            .iter()
            .zip(out.fields())
            .map(|(c, f)| if c.data_type() == f.data_type() { Ok(c.clone()) } else { Ok(cast(c, f.data_type())?) })
            .collect::<Result<_>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
        Ok(RecordBatch::try_new_with_options(out.clone(), columns, &options)?)
    };
    let batches = batches.into_iter().map(convert).collect::<Result<_>>()?;
    Ok(Rows { schema: out, batches })
}
