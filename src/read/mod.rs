//! Reading tables, and SQL over them. DataFusion reads the files through bayou's own stores.

mod aggregates;
mod call;
mod catalogs;
mod clauses;
mod coercion;
mod describe;
mod errors;
mod filters;
mod floats;
mod generators;
mod language;
mod leaves;
mod names;
mod parsed;
mod pivot;
mod rewrite;
mod scalar;
mod scan;
mod spoken;
mod versions;

use crate::epoch::{Done, EpochLog, newest_generation};
use crate::sink::delta;
use crate::storage::{Location, routed};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::util::display::FormatOptions;
pub(crate) use catalogs::named;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{DescribeAlias, Statement as Parsed};
use errors::explained;
pub(crate) use scan::{BATCH_ROWS, Batches, Scan, Wanted, table};
use spoken::Spoken;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use url::Url;

/// A table that a SQL text can name.
#[derive(Clone)]
pub(crate) enum Source {
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

/// The query's newest finished epoch, if any. This also works in a process that has not defined any tables.
pub(crate) async fn newest_done(checkpoint: &Location) -> Result<Option<Done>> {
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
            let batches = batches.into_iter().map(under_nulls).collect::<Result<_>>()?;
            let table = MemTable::try_new(schema, vec![batches])?;
            ctx.register_table(datafusion::common::TableReference::bare(name), Arc::new(table))?;
        }
        Source::Delta(location, version) => {
            let table = delta::open_at(&location, version).await?;
            let base =
                Url::parse(&format!("{}://{}", location.url().scheme(), location.url().host_str().unwrap_or_default()))
                    .map_err(|e| Error::internal(e.to_string()))?;
            let before = ctx.runtime_env().object_store_registry.get_store(&base).ok();
            // For local files, DataFusion has registered its own store, which is not bayou's.
            let before = before.filter(|_| !location.is_local());
            ctx.runtime_env().register_object_store(&base, routed(&location, before));
            let failed = |e: deltalake::DeltaTableError| Error::storage(format!("{}: {e}", location.display()));
            table.update_datafusion_session(&ctx.state()).map_err(failed)?;
            let provider =
                table.table_provider().await.map_err(|e| Error::storage(format!("{}: {e}", location.display())))?;
            ctx.register_table(datafusion::common::TableReference::bare(name), provider)?;
        }
    }
    Ok(())
}

/// Makes the fields of a NULL struct NULL. Arrow allows any values in them, and the planner's field access would show these values.
fn under_nulls(batch: RecordBatch) -> Result<RecordBatch> {
    fn masked(array: &ArrayRef, outer: Option<&NullBuffer>) -> Result<ArrayRef> {
        let nulls = NullBuffer::union(array.nulls(), outer);
        let Some(all) = array.as_struct_opt() else {
            return match nulls.filter(|_| outer.is_some()) {
                Some(nulls) => Ok(arrow::compute::nullif(array, &BooleanArray::new(!nulls.inner(), None))?),
                None => Ok(array.clone()),
            };
        };
        let children = all.columns().iter().map(|c| masked(c, nulls.as_ref())).collect::<Result<Vec<_>>>()?;
        match children.is_empty() {
            true => Ok(array.clone()),
            false => Ok(Arc::new(StructArray::try_new(all.fields().clone(), children, nulls)?)),
        }
    }
    if !batch.columns().iter().any(|c| c.data_type().is_nested()) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(|c| masked(c, None)).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

/// The statement.
fn parsed(text: &str) -> Result<Parsed> {
    let read = parsed::statement_of(text).map_err(|e| {
        let e = e.to_string();
        Error::schema(format!("SQL: {}", e.strip_prefix("sql parser error: ").unwrap_or(&e)))
    })?;
    match read {
        query @ (Parsed::Query(_) | Parsed::ExplainTable { .. }) => Ok(query),
        query @ Parsed::Explain { describe_alias: DescribeAlias::Describe | DescribeAlias::Desc, .. } => Ok(query),
        // Only a query returns rows.
        other => Err(Error::schema(format!("SQL: only queries are run here, not {other}"))),
    }
}

/// The plan of a statement, with its expressions in Spark's language.
async fn plan_of(ctx: &SessionContext, mut statement: Parsed) -> Result<(LogicalPlan, Spoken)> {
    let spoken = language::speak(ctx, &mut statement)?;
    let statement = Statement::Statement(Box::new(statement));
    let plan = ctx.state().statement_to_plan(statement).await.map_err(|e| explained(&e))?;
    let plan = coercion::agree(plan, &spoken).and_then(floats::equal).map_err(|e| explained(&e))?;
    Ok((plan, spoken))
}

/// The rows of a statement that only reads.
async fn rows_of(ctx: &SessionContext, statement: Parsed) -> Result<Rows> {
    let (plan, spoken) = plan_of(ctx, statement).await?;
    reading().verify_plan(&plan).map_err(|e| explained(&e))?;
    let frame = ctx.execute_logical_plan(plan).await.map_err(|e| explained(&e))?;
    // The logical plan does not have the types after coercion yet, so the types are those of the physical plan.
    let names = frame.schema().as_arrow().clone();
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.and_then(filters::guarded).map_err(|e| explained(&e))?;
    let made = plan.schema();
    let named = |(f, name): (&FieldRef, &FieldRef)| f.as_ref().clone().with_name(spoken.shown(name.name()));
    let fields: Vec<Field> = made.fields().iter().zip(names.fields()).map(named).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let batches = collect(plan, context).await.map_err(|e| explained(&e))?;
    let options = |b: &RecordBatch| arrow::array::RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
    let named = |b: RecordBatch| RecordBatch::try_new_with_options(schema.clone(), b.columns().to_vec(), &options(&b));
    let batches = batches.into_iter().map(named).collect::<Result<_, _>>()?;
    Ok(Rows { schema, batches })
}

fn reading() -> datafusion::execution::context::SQLOptions {
    datafusion::execution::context::SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
}

/// Runs SQL over named tables. Tables that the text does not use are not opened. Planning is recursive: it needs a
/// thread with a large stack. `python::door` and the threads of the runtime have a large stack.
pub(crate) async fn sql(text: &str, tables: BTreeMap<String, Source>) -> Result<Rows> {
    crate::expr::check_statement(text)?;
    if let Some(rows) = describe::answer(text, &tables).await? {
        return Ok(rows);
    }
    let ctx = context();
    let known: Vec<String> = tables.keys().cloned().collect();
    let explain = |e: Error| {
        let known = match e.message.contains("not found") && e.message.contains("table") {
            true => format!(" Tables: {}.", known.join(", ")),
            false => String::new(),
        };
        Error { message: format!("{}{known}", e.message), ..e }
    };
    let mut statement = parsed(text)?;
    let whole = catalogs::shorten(&mut statement, &tables.keys().cloned().collect());
    rewrite::rewrite(&mut statement)?;
    versions::pin(&ctx, &mut statement, &tables).await?;
    names::of_tables(&mut statement, known.iter().map(String::as_str));
    let lower = text.to_lowercase();
    for (name, source) in tables {
        if whole.contains(&name) || lower.contains(&name.to_lowercase()) {
            register(&ctx, &name, source).await?;
        }
    }
    names::of_columns(&mut statement, &schemas(&ctx).await?)?;
    pivot::without(&ctx, &mut statement).await.map_err(explain)?;
    if let Some(without) = generators::without(&ctx, &statement).await.map_err(explain)? {
        statement = without;
    }
    let Rows { schema, batches } = rows_of(&ctx, statement).await.map_err(explain)?;
    plain(&schema, batches)
}

/// The schemas of the tables that are registered.
async fn schemas(ctx: &SessionContext) -> Result<HashMap<String, Schema>> {
    let mut out = HashMap::new();
    for catalog in ctx.catalog_names() {
        let Some(catalog) = ctx.catalog(&catalog) else { continue };
        for schema in catalog.schema_names().iter().filter_map(|name| catalog.schema(name)) {
            for name in schema.table_names() {
                if let Some(table) = schema.table(&name).await? {
                    out.insert(name, table.schema().as_ref().clone());
                }
            }
        }
    }
    Ok(out)
}

/// The types that bayou returns: no views, no dictionaries, timestamps in microseconds.
pub(crate) fn plain_type(t: &DataType) -> DataType {
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

/// A value that does not fit is an error, and never NULL.
const EXACT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

pub(crate) fn plain(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Rows> {
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| f.as_ref().clone().with_data_type(plain_type(f.data_type()))).collect();
    let out: SchemaRef = Arc::new(Schema::new(fields));
    let convert = |b: RecordBatch| -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = b
            .columns()
            .iter()
            .zip(out.fields())
            .map(|(c, f)| {
                if c.data_type() == f.data_type() {
                    Ok(c.clone())
                } else {
                    Ok(cast_with_options(c, f.data_type(), &EXACT)?)
                }
            })
            .collect::<Result<_>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
        Ok(RecordBatch::try_new_with_options(out.clone(), columns, &options)?)
    };
    let batches = batches.into_iter().map(convert).collect::<Result<_>>()?;
    Ok(Rows { schema: out, batches })
}
