//! Reading one Delta table: some columns, some rows, at once or batch by batch.

use super::errors::explained;
use super::{Rows, Source, context, filters, names, parsed, plain, plan_of, reading, register, rewrite};
use crate::expr::{quoted, resolve_column};
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;

/// The part of a table to read.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Columns, in this order. None: all.
    pub columns: Option<Vec<String>>,
    /// A condition that the rows must meet.
    pub filter: Option<String>,
    pub limit: Option<usize>,
}

/// A table at a version, opened and not read yet.
pub struct Scan {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    /// The columns with the names that the user sees, in the planner's types.
    named: SchemaRef,
    schema: SchemaRef,
    place: String,
}

impl Scan {
    /// Opens the table. The version is the newest one at this time, or the given one, also if the rows are read later.
    pub async fn open(location: Location, version: Option<u64>, wanted: Wanted) -> Result<Self> {
        let place = location.display();
        let ctx = context();
        register(&ctx, "t", Source::Delta(location, version)).await?;
        let frame = ctx.table("t").await?;
        let all: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
        let at = match &wanted.columns {
            None => (0..all.fields().len()).collect(),
            Some(names) => names
                .iter()
                .map(|n| resolve_column(n, &all))
                .collect::<Result<Vec<_>>>()
                .map_err(|e| e.context(format!("{place}: columns=")))?,
        };
        let named: SchemaRef = Arc::new(all.project(&at)?);
        let (plan, context) = match &wanted.filter {
            None => {
                let names: Vec<_> = named.fields().iter().map(|f| datafusion::prelude::ident(f.name())).collect();
                let frame = if wanted.columns.is_some() { frame.select(names)? } else { frame };
                let frame = frame.limit(0, wanted.limit)?;
                let context = Arc::new(frame.task_ctx());
                (frame.create_physical_plan().await?, context)
            }
            Some(filter) => {
                let wrong = |e: Error| e.context(format!("{place}: where="));
                crate::expr::check_statement(filter).map_err(wrong)?;
                let columns: Vec<String> = named.fields().iter().map(|f| quoted(f.name())).collect();
                // The rows of columns=[] are only counted.
                let columns = if columns.is_empty() { "1".to_string() } else { columns.join(", ") };
                let limit = wanted.limit.map_or(String::new(), |n| format!(" LIMIT {n}"));
                // A line end follows the condition, because its last line can be a comment.
                let text = format!("SELECT {columns} FROM t WHERE ({filter}\n){limit}");
                let mut statement = parsed(&text).map_err(wrong)?;
                rewrite::rewrite(&mut statement).map_err(wrong)?;
                let schemas: HashMap<String, Schema> = HashMap::from([("t".into(), all.as_ref().clone())]);
                names::of_columns(&mut statement, &schemas).map_err(wrong)?;
                let (plan, _) = plan_of(&ctx, statement).await.map_err(wrong)?;
                reading().verify_plan(&plan).map_err(|e| wrong(explained(&e)))?;
                let frame = ctx.execute_logical_plan(plan).await.map_err(|e| wrong(explained(&e)))?;
                let context = Arc::new(frame.task_ctx());
                let plan = frame.create_physical_plan().await.and_then(filters::guarded);
                (plan.map_err(|e| wrong(explained(&e)))?, context)
            }
        };
        let schema = plain(&named, vec![])?.schema;
        Ok(Self { plan, context, named, schema, place })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn failed(&self, e: &DataFusionError) -> Error {
        let said = explained(e);
        // If a condition cannot be computed for a value, this is not an error of the store.
        match e.find_root() {
            DataFusionError::External(own) if own.downcast_ref::<Error>().is_some() => {
                said.context(format!("{}: where=", self.place))
            }
            root => Error::storage(format!("{}: {root}", self.place)),
        }
    }

    /// The rows in the types that bayou returns.
    fn shown(&self, batches: Vec<RecordBatch>) -> Result<Rows> {
        let one = |b: RecordBatch| {
            let options = RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
            let columns = b.columns()[..self.named.fields().len()].to_vec();
            let fields = self.named.fields().iter().zip(&columns);
            // The plan can have widened a type.
            let fields: Vec<_> = fields
                .map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone()).with_nullable(true))
                .collect();
            RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        };
        let batches = batches.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        plain(&self.named, batches)
    }

    /// The plan in its state before the first run.
    fn fresh(&self) -> Result<Arc<dyn ExecutionPlan>> {
        reset_plan_states(self.plan.clone()).map_err(|e| self.failed(&e))
    }

    /// All rows.
    pub async fn collect(&self) -> Result<Rows> {
        let batches = collect(self.fresh()?, self.context.clone()).await.map_err(|e| self.failed(&e))?;
        self.shown(batches)
    }

    /// The rows, read as they are asked for.
    pub fn batches(self: &Arc<Self>) -> Result<Batches> {
        let stream = execute_stream(self.fresh()?, self.context.clone()).map_err(|e| self.failed(&e))?;
        Ok(Batches { scan: self.clone(), stream })
    }
}

/// A batch has about this many rows or about `BATCH_BYTES` bytes, whichever comes first.
pub(crate) const BATCH_ROWS: usize = 1 << 16;
/// The limit for a batch in bytes.
const BATCH_BYTES: usize = 16 << 20;

/// The rows of a table, as they are read.
pub struct Batches {
    scan: Arc<Scan>,
    stream: SendableRecordBatchStream,
}

impl Batches {
    /// The next rows. None at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (mut held, mut rows, mut bytes) = (vec![], 0, 0);
        while rows < BATCH_ROWS && bytes < BATCH_BYTES {
            let Some(batch) = self.stream.next().await else { break };
            let batch = batch.map_err(|e| self.scan.failed(&e))?;
            if batch.num_rows() == 0 {
                continue;
            }
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            held.push(batch);
        }
        let Rows { schema, mut batches } = self.scan.shown(held)?;
        match batches.len() {
            0 | 1 => Ok(batches.pop()),
            _ => Ok(Some(concat_batches(&schema, &batches)?)),
        }
    }
}

/// Reads a whole table.
pub(crate) async fn table(location: Location, version: Option<u64>) -> Result<Rows> {
    Scan::open(location, version, Wanted::default()).await?.collect().await
}
