//! An aggregate of Spark's language as an aggregate of the planner.

use super::call::{Call, failed, rows_of};
use super::language::argument;
use super::spoken::Name;
use crate::Error;
use crate::expr::{AggregateItem, Aggregation, Dialect, Moment, bind_aggregation};
use crate::time::EventTime;
use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{and, cast, concat, filter};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Aggregated(Arc<Inner>);

struct Inner {
    call: Call<Over>,
    signature: Signature,
}

/// An aggregate over arguments of some types.
struct Over {
    aggregation: Aggregation,
    /// The aggregate takes its only argument directly, as string views.
    plain: bool,
}

impl Over {
    fn new(mut aggregation: Aggregation, types: &[DataType]) -> Result<Self> {
        // Texts come as string views. min, max and count work on the views, so only the result is copied.
        let [aggregate] = &mut aggregation.aggregates[..] else { return Ok(Self { aggregation, plain: false }) };
        let function = &aggregate.function;
        let plain = types == [DataType::Utf8View]
            && matches!(function.fun().name(), "min" | "max" | "count")
            && !function.is_distinct()
            && aggregate.filter.is_none()
            && matches!(&aggregate.arguments[..], [a] if a.downcast_ref::<Column>().is_some());
        if plain {
            let field = Field::new(argument(0), DataType::Utf8View, true);
            let over = AggregateExprBuilder::new(
                Arc::new(function.fun().clone()),
                vec![Arc::new(Column::new(field.name(), 0))],
            );
            let over = over.schema(Arc::new(Schema::new(vec![field]))).alias(function.name()).build()?;
            aggregate.function = Arc::new(over);
        }
        Ok(Self { aggregation, plain })
    }
}

impl Aggregated {
    pub(super) fn new(name: String, text: String, columns: Vec<String>, names: &[Name], moment: EventTime) -> Self {
        let signature =
            Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], Volatility::Immutable);
        Self(Arc::new(Inner { call: Call::new(name, text, columns, names, moment), signature }))
    }

    pub(super) fn called(&self) -> &str {
        &self.0.call.name
    }

    pub(super) fn bound_name(&self) -> String {
        self.0.call.bound_name()
    }

    fn bound(&self, types: &[DataType]) -> Result<Arc<Over>> {
        self.0.call.bound(types, |text, schema| {
            let item: AggregateItem = (None, text.to_string()).into();
            let bound = bind_aggregation(&[item], schema, Dialect::Databricks)?;
            let name = bound.outputs().first().map(|f| f.name().clone());
            Ok((Over::new(bound, types)?, name))
        })
    }

    fn running(&self, args: &AccumulatorArgs) -> Result<Running> {
        let types: Vec<DataType> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Running { of: self.clone(), over: self.bound(&types)?, schema: self.0.call.schema(types.iter()) })
    }
}

impl PartialEq for Aggregated {
    fn eq(&self, other: &Self) -> bool {
        self.0.call.name == other.0.call.name
    }
}
impl Eq for Aggregated {}
impl Hash for Aggregated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.call.name.hash(state);
    }
}
impl fmt::Debug for Aggregated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.call.text)
    }
}

impl AggregateUDFImpl for Aggregated {
    fn name(&self) -> &str {
        &self.0.call.name
    }
    fn signature(&self) -> &Signature {
        &self.0.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let bound = self.bound(types)?;
        let output = bound
            .aggregation
            .outputs()
            .into_iter()
            .next()
            .ok_or_else(|| plainly(Error::internal("an aggregate without a result")))?;
        Ok(output.data_type().clone())
    }
    /// The result over no rows, for a subquery that finds no rows. The planner would return NULL, also for a count.
    fn default_value(&self, to: &DataType) -> Result<ScalarValue> {
        let Some((types, over)) = self.0.call.any() else { return ScalarValue::try_from(to) };
        let schema = self.0.call.schema(types.iter());
        let running = Running { of: self.clone(), over, schema };
        let parts = running.accumulators()?;
        let value = One { running, parts }.evaluate()?;
        if value.data_type() == *to { Ok(value) } else { value.cast_to(to) }
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let types: Vec<DataType> = args.input_fields.iter().map(|f| f.data_type().clone()).collect();
        let mut out: Vec<FieldRef> = vec![];
        for aggregate in &self.bound(&types)?.aggregation.aggregates {
            for field in aggregate.state_fields().map_err(plainly)? {
                let name = format!("{}[{}]", args.name, out.len());
                out.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
            }
        }
        Ok(out)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let running = self.running(&args)?;
        let parts = running.accumulators()?;
        Ok(Box::new(One { running, parts }))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sliding { running: self.running(&args)?, rows: vec![] }))
    }
    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let running = self.running(&args)?;
        let parts = running.groups()?;
        Ok(Box::new(Grouped { running, parts }))
    }
}

/// The common parts of all accumulators of an aggregate.
#[derive(Clone)]
struct Running {
    of: Aggregated,
    over: Arc<Over>,
    schema: SchemaRef,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

/// The arguments and the filter of each part.
type Arguments = Vec<(Vec<ArrayRef>, Option<BooleanArray>)>;

impl Running {
    fn failed(&self, e: Error) -> datafusion::error::DataFusionError {
        self.of.0.call.failed(e)
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>> {
        self.over.aggregation.aggregates.iter().map(|a| a.function.create_accumulator()).collect()
    }

    fn groups(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        self.over.aggregation.aggregates.iter().map(|a| a.accumulator_of_values().map_err(|e| self.failed(e))).collect()
    }

    fn arguments(&self, values: &[ArrayRef]) -> Result<Arguments> {
        if self.over.plain {
            let views = values.iter().map(|v| match v.data_type() {
                DataType::Utf8View => Ok(v.clone()),
                _ => cast(v, &DataType::Utf8View),
            });
            return Ok(vec![(views.collect::<std::result::Result<_, _>>()?, None)]);
        }
        let rows = values.first().map_or(0, |v| v.len());
        let batch = rows_of(&self.schema, values.to_vec(), rows)?;
        let _moment = Moment::is(self.of.0.call.moment);
        let aggregates = &self.over.aggregation.aggregates;
        aggregates.iter().map(|a| a.evaluate_values(&batch).map_err(|e| self.failed(e))).collect()
    }

    fn state_counts(&self) -> Result<Vec<usize>> {
        self.over.aggregation.aggregates.iter().map(|a| Ok(a.state_fields().map_err(plainly)?.len())).collect()
    }

    fn finish(&self, parts: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
        let finished = self.over.aggregation.aggregates.iter().zip(parts).map(|(a, part)| a.finish(part));
        let finished = finished.collect::<crate::Result<Vec<_>>>().map_err(|e| self.failed(e))?;
        let mut out = self.over.aggregation.project(&finished, rows).map_err(|e| self.failed(e))?;
        Ok(out.swap_remove(0))
    }
}

fn plainly(e: Error) -> datafusion::error::DataFusionError {
    failed(e, &[])
}

fn both(a: Option<BooleanArray>, b: Option<&BooleanArray>) -> Result<Option<BooleanArray>> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(and(&a, b)?),
        (a, b) => a.or_else(|| b.cloned()),
    })
}

struct Grouped {
    running: Running,
    parts: Vec<Box<dyn GroupsAccumulator>>,
}

impl GroupsAccumulator for Grouped {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        only: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        for (part, (args, own)) in self.parts.iter_mut().zip(self.running.arguments(values)?) {
            part.update_batch(&args, groups, both(own, only)?.as_ref(), total)?;
        }
        Ok(())
    }
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let parts = self.parts.iter_mut().map(|p| p.evaluate(emit)).collect::<Result<Vec<_>>>()?;
        let rows = parts.first().map_or(0, |p| p.len());
        self.running.finish(parts, rows)
    }
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.parts.iter_mut().map(|p| p.state(emit)).collect::<Result<Vec<_>>>()?.concat())
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let mut from = 0;
        for (part, n) in self.parts.iter_mut().zip(self.running.state_counts()?) {
            part.merge_batch(&values[from..from + n], groups, total)?;
            from += n;
        }
        Ok(())
    }
    fn convert_to_state(&self, values: &[ArrayRef], only: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut out = vec![];
        for (part, (args, own)) in self.parts.iter().zip(self.running.arguments(values)?) {
            out.extend(part.convert_to_state(&args, both(own, only)?.as_ref())?);
        }
        Ok(out)
    }
    fn size(&self) -> usize {
        self.parts.iter().map(|p| p.size()).sum()
    }
}

#[derive(Debug)]
struct One {
    running: Running,
    parts: Vec<Box<dyn Accumulator>>,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let aggregates = &self.running.over.aggregation.aggregates;
        let arguments = self.running.arguments(values)?;
        for ((part, aggregate), (args, own)) in self.parts.iter_mut().zip(aggregates).zip(arguments) {
            let args = match own {
                None => args,
                Some(only) => args.iter().map(|a| Ok(filter(a, &only)?)).collect::<Result<Vec<_>>>()?,
            };
            match aggregate.state_of_values(&args).map_err(|e| self.running.failed(e))? {
                Some(state) => part.merge_batch(&[state])?,
                None => part.update_batch(&args)?,
            }
        }
        Ok(())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let parts = self.parts.iter_mut().map(|p| p.evaluate()?.to_array()).collect::<Result<Vec<_>>>()?;
        ScalarValue::try_from_array(&self.running.finish(parts, 1)?, 0)
    }
    fn size(&self) -> usize {
        self.parts.iter().map(|p| p.size()).sum()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.parts.iter_mut().map(|p| p.state()).collect::<Result<Vec<_>>>()?.concat())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let mut from = 0;
        for (part, n) in self.parts.iter_mut().zip(self.running.state_counts()?) {
            part.merge_batch(&states[from..from + n])?;
            from += n;
        }
        Ok(())
    }
}

/// The accumulator for a frame whose beginning moves. It keeps the rows of the frame, and aggregates all of them for each result.
#[derive(Debug)]
struct Sliding {
    running: Running,
    /// The columns of the rows that are in the frame.
    rows: Vec<ArrayRef>,
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.rows.is_empty() {
            self.rows = values.to_vec();
            return Ok(());
        }
        for (old, new) in self.rows.iter_mut().zip(values) {
            *old = concat(&[old.as_ref(), new.as_ref()])?;
        }
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let gone = values.first().map_or(0, |v| v.len());
        for column in &mut self.rows {
            *column = column.slice(gone, column.len() - gone);
        }
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut one = One { running: self.running.clone(), parts: self.running.accumulators()? };
        if !self.rows.is_empty() {
            one.update_batch(&self.rows)?;
        }
        one.evaluate()
    }
    fn size(&self) -> usize {
        self.rows.iter().map(|c| c.get_array_memory_size()).sum()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(plainly(Error::internal("a frame of a window has no state")))
    }
    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(plainly(Error::internal("a frame of a window is not merged")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, context, register, sql};
    use arrow::array::{Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Instant;

    /// `cargo test --release … -- --ignored --nocapture speed_of_aggregates` prints the time of each query, as a multiple of its time with the
    /// planner's own aggregates.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "not a test: prints speeds"]
    async fn speed_of_aggregates() {
        let fields = [
            ("k", DataType::Int64),
            ("b", DataType::Int64),
            ("i", DataType::Int32),
            ("d", DataType::Float64),
            ("s", DataType::Utf8),
        ];
        let schema = Arc::new(Schema::new(fields.map(|(n, t)| Field::new(n, t, true)).to_vec()));
        let batch = |of: i64| {
            let at = |i: i64| (of * 8192 + i).wrapping_mul(2_654_435_761) % 1_000_003;
            RecordBatch::try_new(
                schema.clone(),
                vec![
                    Arc::new(Int64Array::from_iter_values((0..8192).map(|i| at(i) % 1000))),
                    Arc::new(Int64Array::from_iter_values((0..8192).map(at))),
                    Arc::new(Int32Array::from_iter_values((0..8192).map(|i| at(i) as i32))),
                    Arc::new(Float64Array::from_iter_values((0..8192).map(|i| at(i) as f64 / 7.0))),
                    Arc::new(StringArray::from_iter_values((0..8192).map(|i| format!("s{}", at(i) % 1000)))),
                ],
            )
            .unwrap()
        };
        let batches: Vec<RecordBatch> = (0..600).map(batch).collect();
        let rows = || Source::Rows(schema.clone(), batches.clone());
        let own = context();
        register(&own, "t", rows()).await.unwrap();
        for query in [
            "SELECT k, count(*) AS n, sum(b) AS a, avg(d) AS e FROM t GROUP BY k",
            "SELECT k, sum(d) AS a, min(b) AS m, max(d) AS c FROM t GROUP BY k",
            "SELECT s, max(d) AS a, min(d) AS b, sum(d) AS c FROM t GROUP BY s",
            "SELECT k, sum(b) AS a FROM t GROUP BY k",
            "SELECT k, sum(d) AS a FROM t GROUP BY k",
            "SELECT k, sum(i) AS a, avg(i) AS b FROM t GROUP BY k",
            "SELECT k, min(s) AS a, count(s) AS b FROM t GROUP BY k",
            "SELECT b, sum(i) AS a, max(d) AS m FROM t GROUP BY b",
            "SELECT sum(b) AS a, max(d) AS m FROM t WHERE k >= 0",
            "SELECT sum(d) AS a, min(b) AS m FROM t WHERE k >= 0",
        ] {
            let (mut ours, mut theirs) = (f64::MAX, f64::MAX);
            for _ in 0..7 {
                let start = Instant::now();
                sql(query, BTreeMap::from([("t".to_string(), rows())])).await.unwrap();
                ours = ours.min(start.elapsed().as_secs_f64());
                let start = Instant::now();
                own.sql(query).await.unwrap().collect().await.unwrap();
                theirs = theirs.min(start.elapsed().as_secs_f64());
            }
            println!("{:5.2} times {theirs:.3} s: {query}", ours / theirs);
        }
    }
}
