//! `skewness` and `kurtosis`: the third and fourth central moments, kept and merged about the mean as Spark does it. (DataFusion has none.)

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moments {
    fourth: bool,
    signature: Signature,
}

/// The third moment as `skewness`, or the fourth as `kurtosis`.
pub(super) fn udaf(fourth: bool) -> Arc<AggregateUDF> {
    let signature = Signature::exact(vec![DataType::Float64], Volatility::Immutable);
    Arc::new(AggregateUDF::from(Moments { fourth, signature }))
}

impl AggregateUDFImpl for Moments {
    fn name(&self) -> &str {
        if self.fourth { "kurtosis" } else { "skewness" }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part| Arc::new(Field::new(format!("{}[{part}]", args.name), DataType::Float64, true));
        Ok(["count", "mean", "m2", "m3", "m4"].map(field).to_vec())
    }
    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(State { fourth: self.fourth, ..State::default() }))
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    fourth: bool,
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl State {
    fn add(&mut self, x: f64) {
        let n = self.n + 1.0;
        let delta = x - self.mean;
        let part = delta / n;
        self.mean += part;
        self.m2 += delta * (delta - part);
        let (delta2, part2) = (delta * delta, part * part);
        self.m3 += delta * (delta2 - part2) - 3.0 * part * self.m2;
        self.m4 += delta * (delta * delta2 - part * part2) - 4.0 * part * self.m3 - 6.0 * part2 * self.m2;
        self.n = n;
    }

    fn merge(&mut self, o: &Self) {
        if o.n == 0.0 {
            return;
        }
        let (n1, n2) = (self.n, o.n);
        let n = n1 + n2;
        let delta = o.mean - self.mean;
        let part = delta / n;
        let m4 = self.m4
            + o.m4
            + part * part * part * delta * n1 * n2 * (n1 * n1 - n1 * n2 + n2 * n2)
            + 6.0 * part * part * (n1 * n1 * o.m2 + n2 * n2 * self.m2)
            + 4.0 * part * (n1 * o.m3 - n2 * self.m3);
        let m3 = self.m3 + o.m3 + part * part * delta * n1 * n2 * (n1 - n2) + 3.0 * part * (n1 * o.m2 - n2 * self.m2);
        *self = Self { n, mean: self.mean + part * n2, m2: self.m2 + o.m2 + delta * part * n1 * n2, m3, m4, ..*self };
    }
}

impl Accumulator for State {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|x| self.add(x));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let part = |k: usize| {
            let array = states.get(k).and_then(|a| a.as_primitive_opt::<Float64Type>());
            array.ok_or_else(|| DataFusionError::Internal("a state of moments".into()))
        };
        let (n, mean, m2, m3, m4) = (part(0)?, part(1)?, part(2)?, part(3)?, part(4)?);
        for i in 0..n.len() {
            if n.is_valid(i) {
                let other = Self {
                    fourth: self.fourth,
                    n: n.value(i),
                    mean: mean.value(i),
                    m2: m2.value(i),
                    m3: m3.value(i),
                    m4: m4.value(i),
                };
                self.merge(&other);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok([self.n, self.mean, self.m2, self.m3, self.m4].map(ScalarValue::from).to_vec())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Self { fourth, n, m2, m3, m4, .. } = *self;
        // As in Spark, where all values are equal it is NULL.
        let value = match (n == 0.0 || m2 == 0.0, fourth) {
            (true, _) => None,
            (false, false) => Some(n.sqrt() * m3 / (m2 * m2 * m2).sqrt()),
            (false, true) => Some(n * m4 / (m2 * m2) - 3.0),
        };
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
