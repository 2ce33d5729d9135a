use super::*;
use arrow::{
    array::*,
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::*,
};
use std::sync::Arc;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

fn lines(batch: &RecordBatch) -> Result<Vec<String>> {
    let encoder = JsonEncoder::new(&batch.schema(), &[])?;
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    encoder.encode(batch, 0, &mut out, &mut ends)?;
    let mut start = 0;
    let rows = ends.iter().map(|end| {
        let row = std::str::from_utf8(&out[start..*end]).unwrap().to_string();
        start = *end;
        row
    });
    Ok(rows.collect())
}

/// One column "c": what each row's value looks like.
fn values(column: ArrayRef) -> Vec<String> {
    let rows = lines(&batch(vec![("c", column)])).unwrap();
    rows.iter().map(|r| r.strip_prefix(r#"{"c":"#).unwrap().strip_suffix('}').unwrap().to_string()).collect()
}

fn refused(column: ArrayRef) -> Error {
    lines(&batch(vec![("temperature", column)])).unwrap_err()
}

#[test]
fn a_row_is_an_object_with_its_columns_in_order_and_nulls_written_out() {
    let rows = batch(vec![
        ("a", Arc::new(Int32Array::from(vec![Some(1), None]))),
        ("b \"x\"", Arc::new(StringArray::from(vec![None, Some("y")]))),
    ]);
    assert_eq!(lines(&rows).unwrap(), [r#"{"a":1,"b \"x\"":null}"#, r#"{"a":null,"b \"x\"":"y"}"#]);
    let encoder = JsonEncoder::new(&rows.schema(), &[0]).unwrap();
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    encoder.encode(&rows, 0, &mut out, &mut ends).unwrap();
    assert_eq!(&out[..ends[0]], br#"{"b \"x\"":null}"#);
    let none = JsonEncoder::new(&rows.schema(), &[0, 1]).unwrap();
    out.clear();
    none.encode(&rows, 0, &mut out, &mut Vec::new()).unwrap();
    assert_eq!(out, b"{}{}");
}

#[test]
fn numbers_are_written_so_that_they_read_back_the_same() {
    assert_eq!(
        values(Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX]))),
        ["-9223372036854775808", "9223372036854775807"]
    );
    assert_eq!(values(Arc::new(UInt64Array::from(vec![u64::MAX]))), ["18446744073709551615"]);
    let floats = vec![0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, -1.5, 123_456_789.125, 1e16];
    for (value, text) in floats.iter().zip(values(Arc::new(Float64Array::from(floats.clone())))) {
        let back: f64 = serde_json::from_str(&text).unwrap();
        assert_eq!(back.to_bits(), value.to_bits(), "{text}");
    }
    assert_eq!(values(Arc::new(Float32Array::from(vec![0.1f32]))), ["0.1"]);
    let decimals = Decimal128Array::from(vec![12345, -5, 0, 100]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(values(Arc::new(decimals)), ["123.45", "-0.05", "0.00", "1.00"]);
    let wide = Decimal256Array::from(vec![i256::from_i128(-7)]).with_precision_and_scale(40, 5).unwrap();
    assert_eq!(values(Arc::new(wide)), ["-0.00007"]);
    let rounded = Decimal128Array::from(vec![12, 0]).with_precision_and_scale(10, -3).unwrap();
    assert_eq!(values(Arc::new(rounded)), ["12000", "0"]);
}

#[test]
fn what_json_cannot_say_is_an_error_that_names_the_column() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = refused(Arc::new(Float64Array::from(vec![1.0, value])));
        assert_eq!(error.kind, crate::Kind::Malformed);
        assert!(error.message.contains("'temperature', row 1"), "{error}");
    }
    assert!(refused(Arc::new(Float32Array::from(vec![f32::NAN]))).message.contains("temperature"));
    let error = refused(Arc::new(DurationSecondArray::from(vec![1])));
    assert!(error.kind == crate::Kind::Schema && error.message.contains("'temperature'"), "{error}");
    let finer = refused(Arc::new(TimestampNanosecondArray::from(vec![1_001])));
    assert!(finer.message.contains("microsecond"), "{finer}");
    assert!(refused(Arc::new(TimestampSecondArray::from(vec![i64::MAX]))).message.contains("9999"));
}

#[test]
fn text_is_escaped_and_otherwise_left_as_it_is() {
    let text = "plain \"quoted\" back\\slash \n\t\r\u{8}\u{c}\u{1}\u{1f} ü € 𝄞 \u{7f}/";
    for column in [
        Arc::new(StringArray::from(vec![text])) as ArrayRef,
        Arc::new(LargeStringArray::from(vec![text])),
        Arc::new(StringViewArray::from(vec![text])),
    ] {
        let json = values(column).remove(0);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert!(json.contains(r"\u0001\u001f ü € 𝄞"), "{json}");
    }
}

#[test]
fn times_are_rfc_3339_in_utc_with_microseconds() {
    let micros = TimestampMicrosecondArray::from(vec![1_700_000_000_123_456, -1, 0]).with_timezone("Europe/Berlin");
    let expected =
        [r#""2023-11-14T22:13:20.123456Z""#, r#""1969-12-31T23:59:59.999999Z""#, r#""1970-01-01T00:00:00.000000Z""#];
    assert_eq!(values(Arc::new(micros)), expected);
    assert_eq!(values(Arc::new(TimestampSecondArray::from(vec![951_782_400]))), [r#""2000-02-29T00:00:00.000000Z""#]);
    assert_eq!(values(Arc::new(TimestampMillisecondArray::from(vec![1]))), [r#""1970-01-01T00:00:00.001000Z""#]);
    assert_eq!(values(Arc::new(TimestampNanosecondArray::from(vec![-1_000]))), [r#""1969-12-31T23:59:59.999999Z""#]);
    assert_eq!(
        values(Arc::new(Date32Array::from(vec![0, -719_162, 2_932_896]))),
        [r#""1970-01-01""#, r#""0001-01-01""#, r#""9999-12-31""#]
    );
    assert_eq!(values(Arc::new(Date64Array::from(vec![86_400_000]))), [r#""1970-01-02""#]);
    assert_eq!(values(Arc::new(Time64MicrosecondArray::from(vec![86_399_999_999]))), [r#""23:59:59.999999""#]);
}

#[test]
fn every_day_of_four_centuries_is_the_calendars() {
    for days in (-150_000..150_000).step_by(7) {
        let date = chrono::DateTime::from_timestamp(days * 86_400, 0).unwrap().format("\"%Y-%m-%d\"").to_string();
        let mut out = Vec::new();
        text::date(days, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), date);
    }
}

#[test]
fn bytes_are_base64() {
    for column in [
        Arc::new(BinaryArray::from(vec![&b"\x00\xff{"[..], b""])) as ArrayRef,
        Arc::new(LargeBinaryArray::from(vec![&b"\x00\xff{"[..], b""])),
        Arc::new(BinaryViewArray::from(vec![&b"\x00\xff{"[..], b""])),
    ] {
        assert_eq!(values(column), [r#""AP97""#, r#""""#]);
    }
}

#[test]
fn nested_values_nest_and_their_nulls_are_nulls() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(values(Arc::new(list.clone())), ["[1,null]", "null", "[]"]);
    assert_eq!(values(Arc::new(list.slice(1, 2))), ["null", "[]"]);
    let fields =
        Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("l", list.data_type().clone(), true)]);
    let inner: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![Some(1), Some(2), None])), Arc::new(list)];
    let structs = StructArray::new(fields, inner, Some(NullBuffer::from(vec![true, false, true])));
    assert_eq!(values(Arc::new(structs)), [r#"{"x":1,"l":[1,null]}"#, "null", r#"{"x":null,"l":[]}"#]);
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])],
        2,
    );
    assert_eq!(values(Arc::new(fixed.slice(1, 1))), ["[3,null]"]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.keys().append_value("l");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(true).unwrap();
    assert_eq!(values(Arc::new(map.finish())), [r#"{"k":1,"l":null}"#, "{}"]);
    let mut numbered = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    numbered.keys().append_value(7);
    numbered.values().append_value("x");
    numbered.append(true).unwrap();
    assert_eq!(values(Arc::new(numbered.finish())), [r#"{"7":"x"}"#]);
}

#[test]
fn dictionaries_are_written_as_their_values() {
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]));
    let dictionary = cast(&words, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))).unwrap();
    assert_eq!(values(dictionary), [r#""a""#, "null", r#""b""#, r#""a""#]);
    // A key that points to a null value.
    let null_value: DictionaryArray<Int8Type> =
        DictionaryArray::new(Int8Array::from(vec![0, 1]), Arc::new(StringArray::from(vec![None, Some("x")])));
    assert_eq!(values(Arc::new(null_value)), ["null", r#""x""#]);
    let none: DictionaryArray<Int8Type> =
        DictionaryArray::new(Int8Array::from(vec![None]), Arc::new(StringArray::from(Vec::<&str>::new())));
    assert_eq!(values(Arc::new(none)), ["null"]);
}

#[test]
fn keys_are_their_bytes_and_other_types_their_text() {
    let get = |column: ArrayRef| {
        let field = Field::new("k", column.data_type().clone(), true);
        let bytes = BytesColumn::new(&column, &field, 0).unwrap();
        let mut scratch = Vec::new();
        bytes.get(0, &mut scratch).unwrap().map(<[u8]>::to_vec)
    };
    assert_eq!(get(Arc::new(StringArray::from(vec!["a\"b"]))), Some(b"a\"b".to_vec()));
    assert_eq!(get(Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..]]))), Some(b"\x00\xff".to_vec()));
    assert_eq!(get(Arc::new(Int64Array::from(vec![-42]))), Some(b"-42".to_vec()));
    assert_eq!(get(Arc::new(Date32Array::from(vec![0]))), Some(b"1970-01-01".to_vec()));
    assert_eq!(get(Arc::new(StringArray::from(vec![None::<&str>]))), None);
}

#[test]
fn random_rows_read_back_through_arrows_own_reader() {
    use rand::{RngExt, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let n = 500;
    let mut some = |p: f64| (0..n).map(|_| random.random_bool(p)).collect::<Vec<bool>>();
    let (keep, flags) = (some(0.8), some(0.5));
    let nulls = Some(NullBuffer::from(keep));
    let texts: Vec<String> = (0..n).map(|i| format!("{}\"\n{}", "ü".repeat(i % 5), i)).collect();
    let items = Int32Array::from_iter_values(0..2 * n as i32);
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Int32, true)),
        OffsetBuffer::from_lengths(std::iter::repeat_n(2, n)),
        Arc::new(items),
        nulls.clone(),
    );
    let rows = batch(vec![
        ("flag", Arc::new(BooleanArray::new(flags.into(), nulls.clone()))),
        ("text", Arc::new(StringArray::from(texts))),
        (
            "time",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values((0..n as i64).map(|i| i * 987_654_321_987))
                    .with_timezone("UTC"),
            ),
        ),
        ("number", Arc::new(Float64Array::from_iter_values((0..n).map(|i| (i as f64).sqrt() * 1e10)))),
        ("list", Arc::new(list)),
    ]);
    let json = lines(&rows).unwrap().join("\n");
    let mut reader = arrow::json::ReaderBuilder::new(rows.schema()).with_batch_size(n).build(json.as_bytes()).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), rows);
}
