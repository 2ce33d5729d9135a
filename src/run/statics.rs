//! Joined Delta tables. A table is read again when its version has changed. If a table has only grown, only its new
//! files are read. Only the columns that the query uses are read and held. A table that a different engine reads is
//! read as a whole.
//!
//! The version is looked up when an epoch begins. It is used for the whole epoch and is recorded in the epoch's seal.

use super::control::Shared;
use crate::engine::{Engine, Held, Step};
use crate::flow::static_join::{Foreign, StaticJoin, StaticSide};
use crate::sink::delta;
use crate::storage::Location;
use crate::transform::StaticTable;
use crate::{Error, Kind, Result, read};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

fn gone(at: &Location) -> Error {
    Error::storage(format!("{}: the join needs a Delta table here, and there is none", at.display()))
}

/// The columns of a joined Delta table.
pub(crate) async fn delta_schema(at: Location) -> Result<SchemaRef> {
    let (_, schema) = delta::look_up(&at).await?.ok_or_else(|| gone(&at))?;
    Ok(read::plain(&schema, vec![])?.schema)
}

/// Whether a table is joined that is looked up when an epoch begins.
pub(crate) fn any(engine: &Engine) -> bool {
    let is_looked_up = |step: &Step| matches!(step, Step::StaticJoin(join) if join.side.is_looked_up());
    engine.plan.nodes.iter().any(|n| is_looked_up(&n.step))
}

/// How long a stop waits for a different engine, if the stop lets the epoch end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of attempts of a request to a different engine, and the wait after the first failure. Each wait is twice
/// as long as the previous one.
const ATTEMPTS: u32 = 5;
const AGAIN: Duration = Duration::from_secs(1);

/// Asks a different engine. A run asks on a separate thread, so that a stop does not wait for the engine, and asks again
/// after a failure of the engine.
fn asked<T: Send + 'static>(
    shared: Option<&Shared>,
    of: &Arc<dyn Foreign>,
    request: impl Fn(&dyn Foreign) -> Result<T> + Send + Sync + 'static,
) -> Result<T> {
    let Some(shared) = shared else { return request(of.as_ref()) };
    let (request, whom) = (Arc::new(request), format!("the table {}", of.name()));
    let (mut attempt, mut wait) = (1, AGAIN);
    loop {
        let (table, request) = (of.clone(), request.clone());
        match shared.ask_of(&whom, PATIENCE, move || request(table.as_ref())) {
            Err(e) if attempt < ATTEMPTS && matches!(e.kind, Kind::Storage | Kind::Connection) => {
                log::warn!(target: "bayou::run", "{} The table {} is asked for again.", e.message, of.name());
                if shared.wait_for_stop(wait) {
                    return Err(e);
                }
            }
            answer => return answer,
        }
        attempt += 1;
        wait *= 2;
    }
}

/// A joined table, looked up when an epoch begins.
enum Looked<'a> {
    Delta(&'a Location, SchemaRef),
    Foreign(&'a Arc<dyn Foreign>, u64),
}

/// Reads the tables whose version has changed. `limit`: bytes of memory for all joined tables. `shared`: None for an
/// iterator, which the user's thread waits for.
pub(crate) fn refresh(
    engine: &mut Engine,
    runtime: &tokio::runtime::Handle,
    limit: usize,
    shared: Option<&Shared>,
) -> Result<()> {
    if !any(engine) {
        return Ok(());
    }
    let mut used = None;
    for node in 0..engine.plan.nodes.len() {
        let Step::StaticJoin(join) = &engine.plan.nodes[node].step else { continue };
        let join = join.clone();
        let (version, looked) = match &join.side {
            StaticSide::Rows { .. } => continue,
            StaticSide::Delta(at) => {
                let (version, schema) = runtime.block_on(delta::look_up(at))?.ok_or_else(|| gone(at))?;
                (version, Looked::Delta(at, schema))
            }
            StaticSide::Foreign(table) => {
                let version = asked(shared, table, |table| table.version())?;
                (Some(version), Looked::Foreign(table, version))
            }
        };
        if engine.statics[node].as_ref().is_some_and(|h| h.version == version) {
            continue;
        }
        let used = used.get_or_insert_with(|| engine.plan.used_of_joins())[node].clone();
        // The other tables already use a part of the memory.
        let others = engine.statics.iter().enumerate().filter(|(other, _)| *other != node);
        let others: usize = others.filter_map(|(_, held)| held.as_ref()).map(|h| h.table.memory()).sum();
        let reading = Reading { join: &join, wanted: wanted(&join, used.as_ref()), limit, others };
        // The previous table is freed first, so that there are never two tables in memory.
        let before = engine.statics[node].take();
        let table = match looked {
            Looked::Delta(at, schema) => {
                runtime.block_on(reading.delta(at, version, &schema, before, used.as_ref()))?
            }
            Looked::Foreign(from, version) => {
                drop(before);
                reading.foreign(shared, from, version, used.as_ref())?
            }
        };
        engine.statics[node] = Some(Held { table, version });
    }
    Ok(())
}

/// The columns of the table that are read: those of the keys, and those that the query uses.
fn wanted(join: &StaticJoin, used: Option<&BTreeSet<usize>>) -> BTreeSet<usize> {
    let mut out: BTreeSet<usize> = join.spec.on.iter().flat_map(|(_, table)| table.columns().iter().copied()).collect();
    let first = join.spec.schema.fields().len() - join.spec.right_columns.len();
    for (i, column) in join.spec.right_columns.iter().enumerate() {
        if used.is_none_or(|u| u.contains(&(first + i))) || !join.spec.schema.field(first + i).is_nullable() {
            out.insert(*column);
        }
    }
    out
}

struct Reading<'a> {
    join: &'a StaticJoin,
    wanted: BTreeSet<usize>,
    limit: usize,
    others: usize,
}

impl Reading<'_> {
    fn names(&self) -> Vec<String> {
        self.wanted.iter().map(|i| self.join.table.field(*i).name().clone()).collect()
    }

    /// The table as messages name it.
    fn place(&self) -> String {
        match &self.join.side {
            StaticSide::Delta(at) => at.display(),
            other => other.identity().to_string(),
        }
    }

    fn foreign(
        &self,
        shared: Option<&Shared>,
        from: &Arc<dyn Foreign>,
        version: u64,
        used: Option<&BTreeSet<usize>>,
    ) -> Result<StaticTable> {
        let mut table = StaticTable::new(&self.join.spec, used)?;
        // The columns are checked first: the table may have lost one of them.
        let columns = asked(shared, from, move |table| table.columns(version))?;
        self.check(&columns)?;
        let names = self.names();
        let batches = asked(shared, from, move |table| table.read(version, &names))?;
        batches.iter().try_for_each(|batch| self.add(&mut table, batch))?;
        Ok(table)
    }

    /// Of a table that has only grown, the new files are read.
    async fn delta(
        &self,
        at: &Location,
        version: Option<u64>,
        schema: &SchemaRef,
        before: Option<Held>,
        used: Option<&BTreeSet<usize>>,
    ) -> Result<StaticTable> {
        let grown = match (before, version) {
            (Some(Held { table, version: Some(from) }), Some(to)) => {
                delta::added(at, from, to).await?.map(|files| (table, files))
            }
            _ => None,
        };
        match grown {
            Some((table, files)) => self.grow(at, table, &files, schema).await,
            None => self.whole(at, version, schema, used).await,
        }
    }

    async fn whole(
        &self,
        at: &Location,
        version: Option<u64>,
        schema: &SchemaRef,
        used: Option<&BTreeSet<usize>>,
    ) -> Result<StaticTable> {
        // The names are checked first: the table may have lost a column.
        self.check(&read::plain(schema, vec![])?.schema)?;
        let quoted = self.names().iter().map(|n| crate::expr::quoted(n)).collect();
        let only = read::Wanted { columns: Some(quoted), ..read::Wanted::default() };
        let scan = Arc::new(read::Scan::open(at.clone(), version, only).await?);
        let mut table = StaticTable::new(&self.join.spec, used)?;
        let mut batches = scan.batches()?;
        while let Some(batch) = batches.next().await? {
            self.add(&mut table, &batch)?;
        }
        Ok(table)
    }

    /// Adds the rows of new files.
    async fn grow(
        &self,
        at: &Location,
        mut table: StaticTable,
        files: &[delta::Added],
        schema: &SchemaRef,
    ) -> Result<StaticTable> {
        let names = self.names();
        let fields: Vec<_> = names.iter().filter_map(|n| schema.field_with_name(n).ok().cloned()).collect();
        let columns = Schema::new(fields);
        for file in files {
            for batch in delta::read_added(at, file, &columns).await? {
                let batch = batch?;
                let plain = read::plain(&batch.schema(), vec![batch])?;
                plain.batches.iter().try_for_each(|b| self.add(&mut table, b))?;
            }
        }
        Ok(table)
    }

    fn add(&self, table: &mut StaticTable, batch: &RecordBatch) -> Result<()> {
        table.add(&self.conform(batch)?)?;
        let all = table.memory() + self.others;
        match all > self.limit {
            true => Err(Error::storage(format!(
                "{}: the joined table takes more than {} MB, which is what memory_limit allows, and joined tables stay in memory. Raise \
                 memory_limit, or join a table with fewer rows or columns (bayou holds only the columns that the query uses).",
                self.place(),
                self.limit / 1_000_000
            ))
            .in_table(self.place())),
            false => Ok(()),
        }
    }

    fn check(&self, found: &Schema) -> Result<()> {
        for i in &self.wanted {
            let f = self.join.table.field(*i);
            let now = found.field_with_name(f.name()).ok();
            if now.is_none_or(|n| n.data_type() != f.data_type()) {
                return Err(Error::schema(format!(
                    "{}: the joined table's column '{}' was {} when the stream was written, and is {} now. Write the join again for the new column.",
                    self.place(),
                    f.name(),
                    crate::expr::type_to_ddl(f.data_type()),
                    now.map_or("gone".into(), |c| crate::expr::type_to_ddl(c.data_type()))
                )));
            }
        }
        Ok(())
    }

    /// The rows in the columns that the join was written for. Columns that the query does not use are NULL.
    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.check(&batch.schema())?;
        let rows = batch.num_rows();
        let column = |(i, f): (usize, &arrow::datatypes::FieldRef)| -> Result<ArrayRef> {
            match batch.column_by_name(f.name()).filter(|_| self.wanted.contains(&i)) {
                Some(column) => Ok(column.clone()),
                None => Ok(new_null_array(f.data_type(), rows)),
            }
        };
        let columns = self.join.table.fields().iter().enumerate().map(column).collect::<Result<_>>()?;
        let fields: Vec<_> = self.join.table.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}
