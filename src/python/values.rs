//! Converts values from one type to another. A conversion is exact, or it is an error that names the row and the reason. The same rule holds for
//! everything that comes from Python: results of functions, frames in memory, published rows.
//!
//! Conversions that the types alone do not define (text to a timestamp, a fraction to a DECIMAL) go through JSON text, as if the value were
//! published and read. So only the rules of the encoder and the reader apply. A FLOAT or DOUBLE takes the nearest number, as in JSON. A whole
//! number that FLOAT or DOUBLE cannot hold is an error.

use crate::decode::json;
use crate::kafka::encode;
use crate::read::{Rows, plain_type};
use crate::{Error, Result};
use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::*;
use std::sync::Arc;

/// The first value that does not fit.
#[derive(Debug)]
pub(super) struct Misfit {
    pub row: usize,
    /// The path of a nested value, as "a.b". Empty for the column's own value.
    pub path: String,
    pub why: String,
}

type Fits<T> = std::result::Result<T, Misfit>;

impl Misfit {
    pub(super) fn at(row: usize, why: impl Into<String>) -> Self {
        Self { row, path: String::new(), why: why.into() }
    }

    fn below(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() { name.to_string() } else { format!("{name}.{}", self.path) };
        self
    }

    /// The error of this column. `first` is added to the row's number.
    pub(super) fn into_error(self, column: &str, first: usize) -> Error {
        let name = if self.path.is_empty() { column.to_string() } else { format!("{column}.{}", self.path) };
        encode::named(&name, (first + self.row) as u64, &self.why)
    }
}

pub(super) const DAY: i64 = 86_400_000_000;
pub(super) const TIME_IN_DATE: &str = "a time of day does not fit DATE";
pub(super) const BYTES_IN_TEXT: &str = "bytes do not fit STRING: decode them";
pub(super) const NUMBER_IN_TIME: &str = "a number does not fit TIMESTAMP: return a time";

/// Converts the column to the type of `to`. The error is the first value that does not fit.
pub(super) fn exact(array: &ArrayRef, to: &Field) -> Fits<ArrayRef> {
    let made = convert(array, to.data_type())?;
    not_null(&made, to)?;
    Ok(made)
}

fn not_null(array: &ArrayRef, field: &Field) -> Fits<()> {
    if field.is_nullable() {
        return Ok(());
    }
    match array.logical_nulls().and_then(|nulls| (0..nulls.len()).find(|i| nulls.is_null(*i))) {
        Some(row) => Err(Misfit::at(row, "NULL in a NOT NULL column")),
        None => Ok(()),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Fits<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &strict).map_err(|e| Misfit::at(0, e.to_string()))
}

fn convert(array: &ArrayRef, to: &DataType) -> Fits<ArrayRef> {
    use DataType as T;
    let from = array.data_type();
    if from == to {
        return Ok(array.clone());
    }
    // A NULL fits every type, so a column without values fits every type.
    if array.logical_null_count() == array.len() {
        return Ok(new_null_array(to, array.len()));
    }
    match (from, to) {
        (T::Dictionary(_, value), _) => convert(&cast(array, value)?, to),
        (T::RunEndEncoded(_, value), _) => convert(&cast(array, value.data_type())?, to),
        (T::Utf8View | T::LargeUtf8, T::Utf8) => cast(array, to),
        (T::BinaryView | T::LargeBinary | T::FixedSizeBinary(_), T::Binary) => cast(array, to),
        (T::Utf8View | T::LargeUtf8, _) => convert(&cast(array, &T::Utf8)?, to),
        (T::BinaryView | T::LargeBinary | T::FixedSizeBinary(_) | T::Binary, T::Utf8) => {
            Err(first(array, BYTES_IN_TEXT))
        }
        (T::Utf8, _) if !to.is_nested() => by_text(array, to),
        (from, T::Timestamp(..)) if from.is_numeric() => Err(first(array, NUMBER_IN_TIME)),
        (from, to) if is_number(from) && is_number(to) => number(array, to),
        (T::Boolean, T::Utf8) => by_text(array, to),
        (from, T::Utf8) if is_number(from) || from.is_temporal() || from.is_nested() => by_text(array, to),
        (T::Timestamp(..) | T::Date32 | T::Date64, T::Timestamp(TimeUnit::Microsecond, zone)) => {
            Ok(Arc::new(micros(array)?.with_timezone_opt(zone.clone())))
        }
        (T::Timestamp(..) | T::Date64, T::Date32) => days(&micros(array)?),
        (T::List(_) | T::LargeList(_) | T::FixedSizeList(..) | T::ListView(_) | T::LargeListView(_), T::List(item)) => {
            list(array, item)
        }
        (T::Struct(_), T::Struct(fields)) => structure(array, fields),
        (T::Map(..), T::Map(entries, sorted)) => map(array, entries, *sorted),
        (T::Struct(_), T::Map(..)) => Err(first(
            array,
            "a struct does not fit MAP. Return the rows as a list of dicts, or return the column as a pyarrow map.",
        )),
        _ => Err(first(array, &misfit(from, to))),
    }
}

fn misfit(from: &DataType, to: &DataType) -> String {
    format!("{} does not fit {}", crate::expr::type_to_ddl(from), crate::expr::type_to_ddl(to))
}

/// The error for types that do not fit. It is reported for the first value that is not NULL.
fn first(array: &ArrayRef, why: &str) -> Misfit {
    Misfit::at((0..array.len()).find(|i| array.is_valid(*i)).unwrap_or(0), why)
}

fn is_number(t: &DataType) -> bool {
    t.is_integer() || t.is_floating() || t.is_decimal()
}

/// Converts through JSON text, as if the value were published and read.
fn by_text(array: &ArrayRef, to: &DataType) -> Fits<ArrayRef> {
    let field = Field::new("value", array.data_type().clone(), true);
    let (mut text, mut ends) = (vec![], vec![]);
    encode::values(array, &field, &mut text, &mut ends).map_err(|(row, why)| Misfit::at(row, why))?;
    read(to, &text, &ends)
}

/// Reads JSON text into a column of this type.
pub(super) fn read(to: &DataType, text: &[u8], ends: &[usize]) -> Fits<ArrayRef> {
    match json::column(&Field::new("value", to.clone(), true), text, ends) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err((row, why))) => Err(Misfit::at(row, why.replace("read it as STRING and CAST it", "return a number"))),
        Err(e) => Err(Misfit::at(0, e.message)),
    }
}

/// Numbers in the form in which they are compared. Whole numbers and decimals are digits and a scale. Other numbers are DOUBLE.
enum Numbers {
    Exact(Decimal128Array, i8),
    Floats(Float64Array),
}

fn numbers(array: &ArrayRef) -> Fits<Numbers> {
    use DataType as T;
    let exact =
        |to: T, scale: i8| Ok(Numbers::Exact(cast(array, &to)?.as_primitive::<Decimal128Type>().clone(), scale));
    match array.data_type() {
        t if t.is_integer() => exact(T::Decimal128(20, 0), 0),
        T::Decimal128(_, s) => Ok(Numbers::Exact(array.as_primitive::<Decimal128Type>().clone(), *s)),
        T::Decimal32(_, s) | T::Decimal64(_, s) | T::Decimal256(_, s) => exact(T::Decimal128(38, *s), *s),
        _ => Ok(Numbers::Floats(cast(array, &T::Float64)?.as_primitive::<Float64Type>().clone())),
    }
}

/// `digits * 10^-scale` in a different scale, if the result is exact.
fn rescale(digits: i128, from: i8, to: i8) -> Option<i128> {
    let up = i32::from(to) - i32::from(from);
    let power = 10i128.checked_pow(up.unsigned_abs());
    match up >= 0 {
        true if digits == 0 => Some(0),
        true => digits.checked_mul(power?),
        false => power.map_or((digits == 0).then_some(0), |p| (digits % p == 0).then(|| digits / p)),
    }
}

fn number(array: &ArrayRef, to: &DataType) -> Fits<ArrayRef> {
    use DataType as T;
    let given = numbers(array)?;
    macro_rules! whole {
        ($t:ty) => {
            whole::<$t>(&given, to)
        };
    }
    match to {
        T::Int8 => whole!(Int8Type),
        T::Int16 => whole!(Int16Type),
        T::Int32 => whole!(Int32Type),
        T::Int64 => whole!(Int64Type),
        T::UInt8 => whole!(UInt8Type),
        T::UInt16 => whole!(UInt16Type),
        T::UInt32 => whole!(UInt32Type),
        T::UInt64 => whole!(UInt64Type),
        T::Decimal128(precision, scale) => match given {
            Numbers::Floats(_) => by_text(array, to),
            Numbers::Exact(digits, from) => {
                let name = crate::expr::type_to_ddl(to);
                let most = 10u128.pow(u32::from(*precision));
                let fit = |v: i128| match rescale(v, from, *scale) {
                    None if v != 0 && i32::from(*scale) < i32::from(from) => {
                        Err(format!("a number with more than {scale} decimals does not fit {name}"))
                    }
                    Some(v) if v.unsigned_abs() < most => Ok(v),
                    _ => Err(format!("a number out of range for {name}")),
                };
                let made: Decimal128Array = each(&digits, fit)?;
                let made = made.with_precision_and_scale(*precision, *scale);
                Ok(Arc::new(made.map_err(|e| Misfit::at(0, e.to_string()))?))
            }
        },
        T::Float64 => match given {
            Numbers::Floats(v) => Ok(Arc::new(v)),
            Numbers::Exact(v, s) if s <= 0 => Ok(Arc::new(each::<Decimal128Type, Float64Type>(&v, |v| double(v, s))?)),
            Numbers::Exact(..) => by_text(array, to),
        },
        T::Float32 => match given {
            Numbers::Floats(v) => Ok(Arc::new(each::<Float64Type, Float32Type>(&v, |v| match v as f32 {
                f if f.is_infinite() && v.is_finite() => Err("a number out of range for FLOAT".into()),
                f => Ok(f),
            })?)),
            Numbers::Exact(v, s) if s <= 0 => Ok(Arc::new(each::<Decimal128Type, Float32Type>(&v, |v| {
                let d = double(v, s)?;
                match f64::from(d as f32) == d {
                    true => Ok(d as f32),
                    false => Err("a whole number that FLOAT cannot hold exactly".into()),
                }
            })?)),
            Numbers::Exact(..) => by_text(array, to),
        },
        _ => Err(first(array, &misfit(array.data_type(), to))),
    }
}

/// A whole number as a DOUBLE, if DOUBLE holds the number exactly.
fn double(digits: i128, scale: i8) -> std::result::Result<f64, String> {
    let whole = rescale(digits, scale, 0);
    match whole.map(|w| (w, w as f64)) {
        // At 2^127 the conversion back to an integer would saturate.
        Some((w, d)) if d.abs() < 1.7e38 && d as i128 == w => Ok(d),
        _ => Err("a whole number that DOUBLE cannot hold exactly".into()),
    }
}

fn whole<T: ArrowPrimitiveType<Native: TryFrom<i128>>>(given: &Numbers, to: &DataType) -> Fits<ArrayRef> {
    let name = crate::expr::type_to_ddl(to);
    let ranged = |v: i128| T::Native::try_from(v).map_err(|_| format!("a number out of range for {name}"));
    let fraction = || format!("a number with a fraction does not fit {name}");
    Ok(match given {
        Numbers::Exact(v, s) => Arc::new(each::<Decimal128Type, T>(v, |v| match rescale(v, *s, 0) {
            Some(v) => ranged(v),
            None if *s > 0 => Err(fraction()),
            None => Err(format!("a number out of range for {name}")),
        })?),
        Numbers::Floats(v) => Arc::new(each::<Float64Type, T>(v, |v| match v {
            v if !v.is_finite() => Err(format!("NaN or Infinity does not fit {name}")),
            v if v.fract() != 0.0 => Err(fraction()),
            v if v.abs() < 1.7e38 => ranged(v as i128),
            _ => Err(format!("a number out of range for {name}")),
        })?),
    })
}

/// Converts value by value. NULL stays NULL.
fn each<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    array: &PrimitiveArray<A>,
    fit: impl Fn(A::Native) -> std::result::Result<B::Native, String>,
) -> Fits<PrimitiveArray<B>> {
    let mut out = PrimitiveBuilder::<B>::with_capacity(array.len());
    for row in 0..array.len() {
        match array.is_null(row) {
            true => out.append_null(),
            false => out.append_value(fit(array.value(row)).map_err(|why| Misfit::at(row, why))?),
        }
    }
    Ok(out.finish())
}

/// Converts dates, and times of any unit, to microseconds.
fn micros(array: &ArrayRef) -> Fits<TimestampMicrosecondArray> {
    use TimeUnit as U;
    let times =
        |factor: i64| move |v: i64| v.checked_mul(factor).ok_or_else(|| "out of range for TIMESTAMP".to_string());
    let to = |v: &dyn Fn(i64) -> std::result::Result<i64, String>| -> Fits<TimestampMicrosecondArray> {
        let whole = cast(array, &DataType::Int64)?;
        each::<Int64Type, TimestampMicrosecondType>(whole.as_primitive(), v)
    };
    match array.data_type() {
        DataType::Timestamp(U::Second, _) => to(&times(1_000_000)),
        DataType::Timestamp(U::Millisecond, _) | DataType::Date64 => to(&times(1_000)),
        DataType::Timestamp(U::Nanosecond, _) => to(&|v| match v % 1_000 {
            0 => Ok(v / 1_000),
            _ => Err(encode::FINER.into()),
        }),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            each(days, |v| i64::from(v).checked_mul(DAY).ok_or_else(|| "out of range for TIMESTAMP".to_string()))
        }
        _ => to(&|v| Ok(v)),
    }
}

fn days(micros: &TimestampMicrosecondArray) -> Fits<ArrayRef> {
    let day = |v: i64| match v % DAY {
        0 => i32::try_from(v / DAY).map_err(|_| "out of range for DATE".to_string()),
        _ => Err(TIME_IN_DATE.to_string()),
    };
    Ok(Arc::new(each::<TimestampMicrosecondType, Date32Type>(micros, day)?))
}

fn list(array: &ArrayRef, item: &FieldRef) -> Fits<ArrayRef> {
    use DataType as T;
    let (T::List(f) | T::LargeList(f) | T::FixedSizeList(f, _) | T::ListView(f) | T::LargeListView(f)) =
        array.data_type()
    else {
        return Err(first(array, &misfit(array.data_type(), &T::List(item.clone()))));
    };
    let plain = cast(array, &T::List(f.clone()))?;
    let lists = plain.as_list::<i32>();
    // Only the values of these rows are converted. The values array of a slice may begin before the slice.
    let offsets = lists.value_offsets();
    let (from, to) = (offsets[0], offsets[lists.len()]);
    let values = lists.values().slice(from as usize, (to - from) as usize);
    let row_of = |m: Misfit| {
        let at = from + m.row as i32;
        let row = offsets.partition_point(|o| *o <= at).saturating_sub(1);
        let index = at - offsets[row];
        Misfit { row, ..m }.below(&index.to_string())
    };
    let values = exact(&values, item).map_err(row_of)?;
    let offsets: Vec<i32> = offsets.iter().map(|o| o - from).collect();
    let made = ListArray::try_new(
        item.clone(),
        arrow::buffer::OffsetBuffer::new(offsets.into()),
        values,
        lists.nulls().cloned(),
    );
    Ok(Arc::new(made.map_err(|e| Misfit::at(0, e.to_string()))?))
}

/// Converts a struct. Fields are matched by name, never by position.
fn structure(array: &ArrayRef, fields: &Fields) -> Fits<ArrayRef> {
    let given = array.as_struct();
    let mut columns = vec![];
    for field in fields {
        if given.column_names().iter().filter(|n| *n == field.name()).count() > 1 {
            return Err(first(array, &format!("the struct has the field '{}' twice", field.name())));
        }
        let Some(column) = given.column_by_name(field.name()) else {
            let has: Vec<&str> = given.column_names();
            let why = format!("the struct has no field '{}' (its fields are {has:?})", field.name());
            return Err(first(array, &why));
        };
        // Fields below a NULL struct are NULL.
        let column = masked(column, given.nulls())?;
        let made = convert(&column, field.data_type()).map_err(|m| m.below(field.name()))?;
        if !field.is_nullable()
            && let Some(row) = (0..made.len()).find(|i| made.is_null(*i) && given.is_valid(*i))
        {
            return Err(Misfit::at(row, "NULL in a NOT NULL column").below(field.name()));
        }
        columns.push(made);
    }
    let made = StructArray::try_new_with_length(fields.clone(), columns, given.nulls().cloned(), given.len());
    Ok(Arc::new(made.map_err(|e| Misfit::at(0, e.to_string()))?))
}

fn masked(array: &ArrayRef, nulls: Option<&NullBuffer>) -> Fits<ArrayRef> {
    let (Some(nulls), false) = (nulls, array.data_type().is_null()) else { return Ok(array.clone()) };
    if nulls.null_count() == 0 || matches!(array.data_type(), DataType::Union(..) | DataType::RunEndEncoded(..)) {
        return Ok(array.clone());
    }
    let both = NullBuffer::union(array.nulls(), Some(nulls));
    let data = array.to_data().into_builder().nulls(both).build();
    Ok(make_array(data.map_err(|e| Misfit::at(0, e.to_string()))?))
}

fn map(array: &ArrayRef, entries: &FieldRef, sorted: bool) -> Fits<ArrayRef> {
    let given = array.as_map();
    let offsets = given.value_offsets();
    let (from, to) = (offsets[0], offsets[given.len()]);
    let pairs = given.entries().slice(from as usize, (to - from) as usize);
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(first(array, &misfit(array.data_type(), entries.data_type())));
    };
    let row_of = |m: Misfit| {
        let at = from + m.row as i32;
        Misfit { row: offsets.partition_point(|o| *o <= at).saturating_sub(1), ..m }
    };
    let part = |i: usize| exact(pairs.column(i), &fields[i]).map_err(row_of);
    let (keys, values) = (part(0)?, part(1)?);
    let offsets: Vec<i32> = offsets.iter().map(|o| o - from).collect();
    let made = StructArray::try_new(fields.clone(), vec![keys, values], None).and_then(|pairs| {
        let offsets = arrow::buffer::OffsetBuffer::new(offsets.into());
        MapArray::try_new(entries.clone(), offsets, pairs, given.nulls().cloned(), sorted)
    });
    Ok(Arc::new(made.map_err(|e| Misfit::at(0, e.to_string()))?))
}

/// Copies the data, because Python code may write to the original memory later.
fn owned(array: &ArrayRef) -> Result<ArrayRef> {
    let data = array.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.try_extend(0, 0, data.len())?;
    Ok(make_array(copy.freeze()))
}

/// A copy of rows from Python, in the types that bayou returns: no views, no dictionaries, times in microseconds.
pub(super) fn plain(rows: Rows) -> Result<Rows> {
    let fields = rows.schema.fields().iter();
    let fields: Vec<Field> = fields.map(|f| f.as_ref().clone().with_data_type(plain_type(f.data_type()))).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut first = 0;
    let mut batches = vec![];
    for batch in rows.batches {
        let mut columns = vec![];
        for (column, field) in batch.columns().iter().zip(schema.fields()) {
            let made = convert(column, field.data_type()).map_err(|m| m.into_error(field.name(), first))?;
            columns.push(owned(&made)?);
        }
        first += batch.num_rows();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        batches.push(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?);
    }
    Ok(Rows { schema, batches })
}

/// The columns of an Arrow result, each in the announced type.
pub(super) fn announced(rows: &Rows, field: &Field) -> Option<Result<ArrayRef>> {
    let index = rows.schema.index_of(field.name()).ok()?;
    if rows.schema.fields().iter().filter(|f| f.name() == field.name()).count() > 1 {
        let name = field.name();
        return Some(Err(Error::schema(format!("the result has the column '{name}' twice. Rename one of the two."))));
    }
    let (mut first, mut made) = (0, vec![]);
    for batch in &rows.batches {
        match exact(batch.column(index), field) {
            Ok(column) => made.push(column),
            Err(m) => return Some(Err(m.into_error(field.name(), first))),
        }
        first += batch.num_rows();
    }
    let parts: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
    Some(match parts.len() {
        0 => Ok(new_empty_array(field.data_type())),
        1 => owned(&made[0]),
        _ => arrow::compute::concat(&parts).map_err(Error::from),
    })
}
