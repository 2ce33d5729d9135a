//! A writer for each Arrow type, and one factory for them.

use super::text;
use crate::error::{Error, Result};
use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray,
        FixedSizeListArray, GenericListArray, GenericListViewArray, LargeBinaryArray, LargeStringArray, MapArray,
        OffsetSizeTrait, PrimitiveArray, StringArray, StringViewArray,
    },
    buffer::NullBuffer,
    datatypes::*,
};

/// The error of a time that is finer than microseconds.
pub(crate) const FINER: &str = "the time is finer than a microsecond. Round it first, so that nothing is lost unseen.";

/// Writes a value that is not null.
pub(super) trait Cell {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String>;
    /// The value without quotes or escapes, for types that are text or bytes.
    fn bytes(&self, _row: usize) -> Option<&[u8]> {
        None
    }
}

/// Checks that the type has a JSON form; `path` names a nested field, such as "a.b".
pub(super) fn supported(field: &Field, path: &str) -> Result<()> {
    let below = |inner: &Field| supported(inner, &format!("{path}.{}", inner.name()));
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().try_for_each(|f| below(f)),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::ListView(f)
        | DataType::LargeListView(f) => below(f),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 && is_map_key(kv[0].data_type()) => below(&kv[1]),
            _ => Err(no_form(path, field.data_type(), "Make the keys of the map text or integers")),
        },
        DataType::Dictionary(_, value) => supported(&Field::new(field.name(), value.as_ref().clone(), true), path),
        DataType::Interval(_) | DataType::Duration(_) => {
            Err(no_form(path, field.data_type(), "Convert it to a number of seconds or to text"))
        }
        DataType::Union(..) | DataType::RunEndEncoded(..) => {
            Err(no_form(path, field.data_type(), "Convert it to a plain type"))
        }
        _ => Ok(()),
    }
}

fn is_map_key(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) || t.is_integer()
}

fn no_form(path: &str, t: &DataType, advice: &str) -> Error {
    Error::schema(format!("column '{path}' of type {t} has no JSON form. {advice}, or leave the column out."))
}

pub(super) fn cell<'a>(array: &'a ArrayRef) -> Result<Box<dyn Cell + 'a>> {
    use DataType as T;
    use TimeUnit as U;
    macro_rules! int {
        ($t:ty) => {
            Box::new(Int(array.as_primitive::<$t>()))
        };
    }
    Ok(match array.data_type() {
        T::Null => Box::new(Null),
        T::Boolean => Box::new(Bool(array.as_boolean())),
        T::Int8 => int!(Int8Type),
        T::Int16 => int!(Int16Type),
        T::Int32 => int!(Int32Type),
        T::Int64 => int!(Int64Type),
        T::UInt8 => int!(UInt8Type),
        T::UInt16 => int!(UInt16Type),
        T::UInt32 => int!(UInt32Type),
        T::UInt64 => int!(UInt64Type),
        T::Float16 => Box::new(F16(array.as_primitive())),
        T::Float32 => Box::new(F32(array.as_primitive())),
        T::Float64 => Box::new(F64(array.as_primitive())),
        T::Decimal32(_, s) => Box::new(Decimal { array: array.as_primitive::<Decimal32Type>(), scale: *s }),
        T::Decimal64(_, s) => Box::new(Decimal { array: array.as_primitive::<Decimal64Type>(), scale: *s }),
        T::Decimal128(_, s) => Box::new(Decimal { array: array.as_primitive::<Decimal128Type>(), scale: *s }),
        T::Decimal256(_, s) => Box::new(WideDecimal { array: array.as_primitive(), scale: *s }),
        T::Utf8 => Box::new(Text(array.as_string::<i32>())),
        T::LargeUtf8 => Box::new(Text(array.as_string::<i64>())),
        T::Utf8View => Box::new(Text(array.as_string_view())),
        T::Binary => Box::new(Bytes(array.as_binary::<i32>())),
        T::LargeBinary => Box::new(Bytes(array.as_binary::<i64>())),
        T::BinaryView => Box::new(Bytes(array.as_binary_view())),
        T::FixedSizeBinary(_) => Box::new(Bytes(array.as_fixed_size_binary())),
        T::Timestamp(U::Second, _) => {
            Box::new(Moment { array: array.as_primitive::<TimestampSecondType>(), times: 1_000_000 })
        }
        T::Timestamp(U::Millisecond, _) => {
            Box::new(Moment { array: array.as_primitive::<TimestampMillisecondType>(), times: 1_000 })
        }
        T::Timestamp(U::Microsecond, _) => {
            Box::new(Moment { array: array.as_primitive::<TimestampMicrosecondType>(), times: 1 })
        }
        T::Timestamp(U::Nanosecond, _) => Box::new(NanoMoment(array.as_primitive())),
        T::Date32 => Box::new(Date32(array.as_primitive())),
        T::Date64 => Box::new(Date64(array.as_primitive())),
        T::Time32(U::Second) => Box::new(Time32 { array: array.as_primitive::<Time32SecondType>(), times: 1_000_000 }),
        T::Time32(_) => Box::new(Time32 { array: array.as_primitive::<Time32MillisecondType>(), times: 1_000 }),
        T::Time64(U::Microsecond) => {
            Box::new(Time64 { array: array.as_primitive::<Time64MicrosecondType>(), divide: 1 })
        }
        T::Time64(_) => Box::new(Time64 { array: array.as_primitive::<Time64NanosecondType>(), divide: 1_000 }),
        T::Struct(_) => structure(array)?,
        T::List(_) => Box::new(List::of(array.as_list::<i32>())?),
        T::LargeList(_) => Box::new(List::of(array.as_list::<i64>())?),
        T::ListView(_) => Box::new(List::of(array.as_list_view::<i32>())?),
        T::LargeListView(_) => Box::new(List::of(array.as_list_view::<i64>())?),
        T::FixedSizeList(..) => Box::new(List::of(array.as_fixed_size_list())?),
        T::Map(..) => Box::new(Map::of(array.as_map())?),
        T::Dictionary(..) => dictionary(array)?,
        other => return Err(no_form("?", other, "Convert it to a plain type")),
    })
}

struct Null;
impl Cell for Null {
    fn write(&self, _: usize, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(b"null");
        Ok(())
    }
}

struct Bool<'a>(&'a BooleanArray);
impl Cell for Bool<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(if self.0.value(row) { b"true" } else { b"false" });
        Ok(())
    }
}

struct Int<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);
impl<T: ArrowPrimitiveType<Native: itoa::Integer>> Cell for Int<'_, T> {
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(itoa::Buffer::new().format(self.0.value(row)).as_bytes());
        Ok(())
    }
}

struct F16<'a>(&'a PrimitiveArray<Float16Type>);
impl Cell for F16<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let value = self.0.value(row).to_f32();
        text::float(value.into(), lexical_core::write(value, &mut [0; lexical_core::BUFFER_SIZE]), out)
    }
}

struct F32<'a>(&'a PrimitiveArray<Float32Type>);
impl Cell for F32<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let value = self.0.value(row);
        text::float(value.into(), lexical_core::write(value, &mut [0; lexical_core::BUFFER_SIZE]), out)
    }
}

struct F64<'a>(&'a PrimitiveArray<Float64Type>);
impl Cell for F64<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let value = self.0.value(row);
        text::float(value, lexical_core::write(value, &mut [0; lexical_core::BUFFER_SIZE]), out)
    }
}

struct Decimal<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    scale: i8,
}
impl<T: ArrowPrimitiveType<Native: itoa::Integer>> Cell for Decimal<'_, T> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::decimal(itoa::Buffer::new().format(self.array.value(row)), self.scale, out);
        Ok(())
    }
}

struct WideDecimal<'a> {
    array: &'a PrimitiveArray<Decimal256Type>,
    scale: i8,
}
impl Cell for WideDecimal<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::decimal(&self.array.value(row).to_string(), self.scale, out);
        Ok(())
    }
}

/// The three layouts of text.
trait TextArray {
    fn text(&self, row: usize) -> &str;
}
macro_rules! text_arrays {
    ($($t:ty),*) => { $(impl TextArray for $t { #[inline] fn text(&self, row: usize) -> &str { self.value(row) } })* };
}
text_arrays!(StringArray, LargeStringArray, StringViewArray);

struct Text<'a, A>(&'a A);
impl<A: TextArray> Cell for Text<'_, A> {
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::string(self.0.text(row), out);
        Ok(())
    }
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        Some(self.0.text(row).as_bytes())
    }
}

/// The four layouts of bytes.
trait BytesArray {
    fn get(&self, row: usize) -> &[u8];
}
macro_rules! bytes_arrays {
    ($($t:ty),*) => { $(impl BytesArray for $t { fn get(&self, row: usize) -> &[u8] { self.value(row) } })* };
}
bytes_arrays!(BinaryArray, LargeBinaryArray, BinaryViewArray, FixedSizeBinaryArray);

struct Bytes<'a, A>(&'a A);
impl<A: BytesArray> Cell for Bytes<'_, A> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::base64(self.0.get(row), out);
        Ok(())
    }
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        Some(self.0.get(row))
    }
}

struct Moment<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    times: i64,
}
impl<T: ArrowPrimitiveType<Native = i64>> Cell for Moment<'_, T> {
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::timestamp(self.array.value(row).saturating_mul(self.times), out)
    }
}

struct NanoMoment<'a>(&'a PrimitiveArray<TimestampNanosecondType>);
impl Cell for NanoMoment<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let nanos = self.0.value(row);
        if nanos % 1_000 != 0 {
            return Err(FINER.into());
        }
        text::timestamp(nanos.div_euclid(1_000), out)
    }
}

struct Date32<'a>(&'a PrimitiveArray<Date32Type>);
impl Cell for Date32<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::date(self.0.value(row).into(), out)
    }
}

struct Date64<'a>(&'a PrimitiveArray<Date64Type>);
impl Cell for Date64<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::date(self.0.value(row).div_euclid(86_400_000), out)
    }
}

struct Time32<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    times: i64,
}
impl<T: ArrowPrimitiveType<Native = i32>> Cell for Time32<'_, T> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        text::time_of_day(i64::from(self.array.value(row)) * self.times, out)
    }
}

struct Time64<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    divide: i64,
}
impl<T: ArrowPrimitiveType<Native = i64>> Cell for Time64<'_, T> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let value = self.array.value(row);
        if value % self.divide != 0 {
            return Err(FINER.into());
        }
        text::time_of_day(value / self.divide, out)
    }
}

/// An inner column with its nulls.
struct Inner<'a> {
    nulls: Option<&'a NullBuffer>,
    cell: Box<dyn Cell + 'a>,
}

impl<'a> Inner<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self> {
        Ok(Self { nulls: array.nulls(), cell: cell(array)? })
    }
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.nulls.is_some_and(|n| n.is_null(row)) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        self.cell.write(row, out)
    }
}

struct Struct<'a>(Vec<(Vec<u8>, Inner<'a>)>);

fn structure<'a>(array: &'a ArrayRef) -> Result<Box<dyn Cell + 'a>> {
    let array = array.as_struct();
    let mut members = Vec::new();
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let mut before = vec![if members.is_empty() { b'{' } else { b',' }];
        text::string(field.name(), &mut before);
        before.push(b':');
        members.push((before, Inner::of(column)?));
    }
    Ok(Box::new(Struct(members)))
}

impl Cell for Struct<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        for (before, member) in &self.0 {
            out.extend_from_slice(before);
            member.write(row, out)?;
        }
        out.extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
        Ok(())
    }
}

/// Where the items of a row are among the values: the five layouts of lists.
trait ListArray {
    fn items(&self) -> &ArrayRef;
    fn range(&self, row: usize) -> std::ops::Range<usize>;
}
impl<O: OffsetSizeTrait> ListArray for GenericListArray<O> {
    fn items(&self) -> &ArrayRef {
        self.values()
    }
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.value_offsets();
        offsets[row].as_usize()..offsets[row + 1].as_usize()
    }
}
impl<O: OffsetSizeTrait> ListArray for GenericListViewArray<O> {
    fn items(&self) -> &ArrayRef {
        self.values()
    }
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let start = self.value_offset(row).as_usize();
        start..start + self.value_size(row).as_usize()
    }
}
impl ListArray for FixedSizeListArray {
    fn items(&self) -> &ArrayRef {
        self.values()
    }
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let size = self.value_length() as usize;
        row * size..(row + 1) * size
    }
}

struct List<'a, A> {
    array: &'a A,
    items: Inner<'a>,
}
impl<'a, A: ListArray> List<'a, A> {
    fn of(array: &'a A) -> Result<Self> {
        Ok(Self { array, items: Inner::of(array.items())? })
    }
}
impl<A: ListArray> Cell for List<'_, A> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        out.push(b'[');
        for (i, item) in self.array.range(row).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            self.items.write(item, out)?;
        }
        out.push(b']');
        Ok(())
    }
}

struct Map<'a> {
    array: &'a MapArray,
    keys: Inner<'a>,
    /// JSON's names are text: integer keys get quotes.
    quote: bool,
    values: Inner<'a>,
}
impl<'a> Map<'a> {
    fn of(array: &'a MapArray) -> Result<Self> {
        let quote = array.keys().data_type().is_integer();
        Ok(Self { array, keys: Inner::of(array.keys())?, quote, values: Inner::of(array.values())? })
    }
}
impl Cell for Map<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let offsets = self.array.value_offsets();
        out.push(b'{');
        for entry in offsets[row] as usize..offsets[row + 1] as usize {
            if entry > offsets[row] as usize {
                out.push(b',');
            }
            if self.quote {
                out.push(b'"');
            }
            self.keys.write(entry, out)?;
            if self.quote {
                out.push(b'"');
            }
            out.push(b':');
            self.values.write(entry, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// Values by key; a key may point to a null.
struct Dictionary<'a> {
    keys: Vec<usize>,
    values: Inner<'a>,
}

fn dictionary<'a>(array: &'a ArrayRef) -> Result<Box<dyn Cell + 'a>> {
    let array = array.as_any_dictionary();
    // An empty dictionary has no key to normalise. Then every row is null, and no value is written.
    let keys = if array.values().is_empty() { Vec::new() } else { array.normalized_keys() };
    Ok(Box::new(Dictionary { keys, values: Inner::of(array.values())? }))
}

impl Cell for Dictionary<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        self.values.write(self.keys[row], out)
    }
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        self.values.cell.bytes(self.keys[row])
    }
}
