use super::JsonOptions;
use crate::batch::{Message, Messages, TimestampType};
use crate::decode::{DecodeOptions, Decoded, Decoder, Format};
use crate::position::TopicPartition;
use arrow::array::*;
use arrow::datatypes::*;
use rand::{Rng, RngExt, SeedableRng};
use std::sync::Arc;

fn messages<T: AsRef<[u8]>>(values: &[T]) -> Arc<Messages> {
    let mut m = Messages::new(vec![TopicPartition::new("t", 0)].into());
    for (i, v) in values.iter().enumerate() {
        let timestamp_type = TimestampType::CreateTime;
        let value = Some(v.as_ref());
        m.push(Message { offset: i as i64, value, timestamp_type, ..Message::default() }, usize::MAX);
    }
    Arc::new(m)
}

fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(fields.into_iter().map(|(n, t)| Field::new(n, t, true)).collect::<Vec<_>>()))
}

fn decode<T: AsRef<[u8]>>(schema: &SchemaRef, values: &[T]) -> Decoded {
    let m = messages(values);
    let mut d = Decoder::new(Some(schema), &DecodeOptions::default()).unwrap();
    d.decode(&m, &(0..m.len() as u32).collect::<Vec<_>>()).unwrap()
}

fn options(json: JsonOptions) -> DecodeOptions {
    DecodeOptions { format: Format::Json(json), ..DecodeOptions::default() }
}

/// One column, one message: the value as text, or the error.
fn one(data_type: DataType, json: &str) -> Result<String, String> {
    let d = decode(&schema(vec![("a", data_type)]), &[json]);
    if let Some(m) = d.malformed.first() {
        return Err(m.error.clone());
    }
    let column = d.batch.rows.column(0);
    if column.is_null(0) {
        return Ok("NULL".into());
    }
    Ok(arrow::util::display::array_value_to_string(column, 0).unwrap())
}

fn timestamp() -> DataType {
    crate::time::timestamp_type()
}

#[test]
fn values_that_fit_are_read_exactly() {
    use DataType::*;
    for (t, json, want) in [
        (Int32, r#"{"a":1}"#, "1"),
        (Int32, r#" { "a" : 1.0 } "#, "1"),
        (Int32, r#"{"a":1e3}"#, "1000"),
        (Int32, r#"{"a":-2147483648}"#, "-2147483648"),
        (Int64, r#"{"a":9007199254740993}"#, "9007199254740993"),
        (Int64, r#"{"a":9223372036854775807}"#, "9223372036854775807"),
        (Float64, r#"{"a":9007199254740993}"#, "9007199254740992.0"),
        (Float64, r#"{"a":1e-400}"#, "0.0"),
        (Utf8, r#"{"a":1.50}"#, "1.50"),
        (Utf8, r#"{"a":{"b" : [1, 2]}}"#, r#"{"b" : [1, 2]}"#),
        (Utf8, r#"{"a":true}"#, "true"),
        (Utf8, r#"{"a":"x\"\u00e9\ud83d\ude00\n"}"#, "x\"é😀\n"),
        (Utf8, r#"{"a":null}"#, "NULL"),
        (Utf8, r#"{}"#, "NULL"),
        (Utf8, r#"{"a":"first","b":0,"a":"last"}"#, "last"),
        (Int32, r#"{"a":1,"a":null}"#, "NULL"),
        (Int32, r#"{"a":"no","b":1,"a":[],"a":5}"#, "5"),
        (Int32, r#"{"A":1}"#, "NULL"),
        (Int32, r#"{"\u0061":7}"#, "7"),
        (Boolean, r#"{"a":false}"#, "false"),
        (Decimal128(5, 2), r#"{"a":123.4}"#, "123.40"),
        (Decimal128(5, 2), r#"{"a":1.100}"#, "1.10"),
        (Date32, r#"{"a":"2024-02-29"}"#, "2024-02-29"),
        (timestamp(), r#"{"a":"2024-01-01T00:00:00.5+01:00"}"#, "2023-12-31T23:00:00.500Z"),
        (timestamp(), r#"{"a":"2024-01-01T00:00:00.123456999Z"}"#, "2024-01-01T00:00:00.123456Z"),
        (timestamp(), r#"{"a":"2024-01-01 12:00:00 UTC"}"#, "2024-01-01T12:00:00Z"),
        (timestamp(), r#"{"a":"2024\u002d01-01"}"#, "2024-01-01T00:00:00Z"),
        (timestamp(), r#"{"a":"9999-12-31T23:59:59.999999Z"}"#, "9999-12-31T23:59:59.999999Z"),
        (Date32, r#"{"a":"2024\u002d02-29"}"#, "2024-02-29"),
        (Date32, r#"{"a":"2026-11-26T23:00:00Z"}"#, "2026-11-26"),
        (Date32, r#"{"a":"2026-1-6"}"#, "2026-01-06"),
        (Binary, r#"{"a":"aGk="}"#, "6869"),
    ] {
        assert_eq!(one(t.clone(), json), Ok(want.to_string()), "{t} {json}");
    }
}

#[test]
fn values_that_do_not_fit_are_malformed_and_named() {
    use DataType::*;
    for (t, json, why) in [
        (Int32, r#"{"a":1.9}"#, "fraction"),
        (Int8, r#"{"a":300}"#, "out of range for TINYINT"),
        (Int32, r#"{"a":"1"}"#, "quoted"),
        (Int32, r#"{"a":true}"#, "boolean"),
        (Int64, r#"{"a":9223372036854775808}"#, "out of range"),
        (Float64, r#"{"a":1e400}"#, "out of range for DOUBLE"),
        (Float32, r#"{"a":1e39}"#, "out of range for FLOAT"),
        (Float64, r#"{"a":"1.5"}"#, "quoted"),
        (Decimal128(5, 2), r#"{"a":1.234}"#, "more than 2 decimals"),
        (Decimal128(5, 2), r#"{"a":1234.5}"#, "out of range"),
        (Decimal128(5, 2), r#"{"a":"1.2"}"#, "quoted"),
        (Boolean, r#"{"a":1}"#, "does not fit BOOLEAN"),
        (Date32, r#"{"a":"2023-02-29"}"#, "not a date"),
        (timestamp(), r#"{"a":1700000000}"#, "timestamp_unit"),
        (timestamp(), r#"{"a":"yesterday"}"#, "not a timestamp such as"),
        (timestamp(), r#"{"a":"0001-01-01T00:00:00+14:00"}"#, "0001 to 9999"),
        (timestamp(), r#"{"a":"+56053-03-31T00:00:00Z"}"#, "0001 to 9999"),
        (Date32, r#"{"a":"+10000-01-01"}"#, "0001 to 9999"),
        (Date32, r#"{"a":20783}"#, "a number does not fit DATE"),
        (Int32, r#"{"a":"1"}"#, "STRING and CAST"),
        (Float64, r#"{"a":NaN}"#, "NaN"),
        (Float64, r#"{"a":-Infinity}"#, "Infinity"),
        (Binary, r#"{"a":"a"}"#, "base64"),
    ] {
        let error = one(t.clone(), json).expect_err(json);
        assert!(error.contains(why) && error.contains("field 'a'"), "{t} {json}: {error}");
    }
}

#[test]
fn a_message_is_one_json_object_or_malformed() {
    for (json, why) in [
        (&b""[..], "empty"),
        (b"   ", "ends too early"),
        (b"null", "null instead of an object"),
        (b"1", "a number instead"),
        (b"[{\"a\":1}]", "an array instead"),
        (b"{\"a\":1}{\"a\":2}", "more than one"),
        (b"{\"a\":1} x", "more than one"),
        (b"{\"a\":1", "ends within"),
        (b"{\"a\":1,}", "field name"),
        (b"{\"a\" 1}", "colon"),
        (b"{a:1}", "field name"),
        (b"{\"a\":01}", "comma"),
        (b"{\"a\":1.}", "broken number"),
        (b"{\"a\":+1}", "not JSON"),
        (b"{\"a\":.5}", "not JSON"),
        (b"{\"a\":NaN}", "NaN"),
        (b"{\"u\":[1,NaN]}", "NaN"),
        (b"{'a':1}", "single quotes"),
        (b"{\"b\":\"\x01\"}", "control"),
        (b"{\"b\":\"\\x\"}", "escape"),
        (b"{\"b\":\"\\ud800\"}", "lone surrogate"),
        (b"{\"b\":\"\\ud800\\u0041\"}", "lone surrogate"),
        (b"{\"b\":\"\\udc00\"}", "lone surrogate"),
        (b"{\"\\ud800\":1}", "lone surrogate"),
        (b"{\"b\":\"\xff\"}", "UTF-8"),
        (b"{\"b\":tru}", "not JSON"),
        (b"{\"b\":[1 2]}", "comma"),
        (b"\xef\xbb\xbf{\"a\":1}", "byte order mark"),
        (b"\x1f\x8b\x08\x00\xff{", "gzip"),
        (b"\x00\x00\x00\x00\x07{\"a\":1}", "schema registry"),
    ] {
        let d = decode(&schema(vec![("a", DataType::Int32)]), &[json]);
        let text = String::from_utf8_lossy(json);
        assert_eq!(d.batch.len(), 0, "{text}");
        assert!(d.malformed[0].error.contains(why), "{text}: {}", d.malformed[0].error);
    }
}

#[test]
fn depth_is_limited_and_never_ends_the_process() {
    let nested = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let s = schema(vec![("a", DataType::Int32), ("s", DataType::Utf8)]);
    assert_eq!(decode(&s, &[nested(127)]).batch.len(), 1);
    assert_eq!(decode(&s, &[nested(128)]).batch.len(), 0);
    for bomb in [format!("{{\"a\":{}", "[".repeat(60_000)), format!("{{\"s\":{}", "{\"s\":".repeat(60_000))] {
        assert_eq!(decode(&s, &[bomb]).malformed.len(), 1);
    }
}

fn with_unit(unit: super::TimestampUnit, json: &str) -> Result<String, String> {
    let s = schema(vec![("a", timestamp())]);
    let options = options(JsonOptions { timestamp_unit: Some(unit), ..JsonOptions::default() });
    let m = messages(&[json]);
    let d = Decoder::new(Some(&s), &options).unwrap().decode(&m, &[0]).unwrap();
    match d.malformed.first() {
        Some(m) => Err(m.error.clone()),
        None => Ok(arrow::util::display::array_value_to_string(d.batch.rows.column(0), 0).unwrap()),
    }
}

#[test]
fn numbers_with_a_unit_are_cut_to_microseconds_and_stay_within_the_calendar() {
    use super::TimestampUnit::*;
    for (unit, json, want) in [
        (S, r#"{"a":1706702400.123456789}"#, "2024-01-31T12:00:00.123456Z"),
        (S, r#"{"a":"1706702400"}"#, "2024-01-31T12:00:00Z"),
        (Ms, r#"{"a":"1706702400123.9999"}"#, "2024-01-31T12:00:00.123999Z"),
        (Ns, r#"{"a":1706702400123456789}"#, "2024-01-31T12:00:00.123456Z"),
        (Ns, r#"{"a":"1706702400123456789"}"#, "2024-01-31T12:00:00.123456Z"),
        (S, r#"{"a":"2024-01-31T12:00:00Z"}"#, "2024-01-31T12:00:00Z"),
        (S, r#"{"a":-62135596800}"#, "0001-01-01T00:00:00Z"),
        (Us, r#"{"a":253402300799999999}"#, "9999-12-31T23:59:59.999999Z"),
    ] {
        assert_eq!(with_unit(unit, json), Ok(want.to_string()), "{json}");
    }
    for (unit, json) in [
        (S, r#"{"a":1706702400000}"#),
        (S, r#"{"a":-62135596801}"#),
        (Us, r#"{"a":253402300800000000}"#),
        (S, r#"{"a":1e300}"#),
        (Ms, r#"{"a":9223372036854775807}"#),
        (S, r#"{"a":"1706702400000"}"#),
    ] {
        let error = with_unit(unit, json).unwrap_err();
        assert!(error.contains("is timestamp_unit right?"), "{json}: {error}");
    }
}

#[test]
fn units_are_told_by_path_and_the_nearest_counts() {
    let inner = DataType::Struct(vec![Field::new("us", timestamp(), true), Field::new("s", timestamp(), true)].into());
    let list = DataType::List(Arc::new(Field::new("element", inner.clone(), true)));
    let s = schema(vec![("a", inner), ("l", list)]);
    let units =
        [("a.us", super::TimestampUnit::Us), ("a", super::TimestampUnit::S), ("l.us", super::TimestampUnit::Us)];
    let by_field = |units: &[(&str, super::TimestampUnit)]| {
        options(JsonOptions {
            timestamp_units: units.iter().map(|(p, u)| (p.to_string(), *u)).collect(),
            timestamp_unit: Some(super::TimestampUnit::Ms),
            ..JsonOptions::default()
        })
    };
    let m = messages(&[r#"{"a":{"us":5000000,"s":5},"l":[{"us":5000000,"s":5000}]}"#]);
    let d = Decoder::new(Some(&s), &by_field(&units)).unwrap().decode(&m, &[0]).unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&[d.batch.rows]).unwrap().to_string();
    assert_eq!(text.matches("1970-01-01T00:00:05Z").count(), 4, "{text}");
    let error = Decoder::new(Some(&s), &by_field(&[("a.x", super::TimestampUnit::S)])).err().unwrap();
    assert!(error.kind == crate::Kind::Config && error.message.contains("'a.x'"), "{error}");
}

#[test]
fn tombstones_as_rows_of_nulls_need_columns_that_take_null() {
    let s: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
    let options = DecodeOptions { on_tombstone: crate::decode::OnTombstone::NullRow, ..DecodeOptions::default() };
    let error = Decoder::new(Some(&s), &options).err().unwrap();
    assert!(error.kind == crate::Kind::Config && error.message.contains("'a' is NOT NULL"), "{error}");
}

#[test]
fn a_field_in_another_case_is_told_as_long_as_the_column_has_no_value() {
    let inner = DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into());
    let s = schema(vec![("userid", DataType::Utf8), ("n", DataType::Int32), ("s", inner)]);
    let mut d = Decoder::new(Some(&s), &DecodeOptions::default()).unwrap();
    let m = messages(&[r#"{"userId":"secret","N":null,"other":1,"s":{"X":1}}"#, r#"{"n":1}"#]);
    d.decode(&m, &[0]).unwrap();
    let hints = d.hints();
    assert_eq!(hints.len(), 3, "{hints:?}");
    assert!(
        hints[0].contains("'userid'") && hints[0].contains("'userId'") && !hints[0].contains("secret"),
        "{hints:?}"
    );
    assert!(hints[2].contains("'s.x'") && hints[2].contains("'s.X'"), "{hints:?}");
    d.decode(&m, &[1]).unwrap();
    assert_eq!(d.hints().len(), 2, "'n' has come by now");
}

fn map_of(value: DataType) -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
}

#[test]
fn a_map_has_each_key_once_in_its_first_place_with_its_last_value() {
    let s = schema(vec![("m", map_of(DataType::Int32))]);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    for keys in [1usize, 3, 15, 16, 17, 40, 300] {
        let pairs: Vec<(usize, i32)> = (0..keys * 2).map(|i| (rng.random_range(0..keys), i as i32)).collect();
        // An escaped key is the same key.
        let text = |(i, (k, v)): (usize, &(usize, i32))| match i % 3 {
            0 => format!("\"\\u006b{k}\":{v}"),
            _ => format!("\"k{k}\":{v}"),
        };
        let json = format!("{{\"m\":{{{}}}}}", pairs.iter().enumerate().map(text).collect::<Vec<_>>().join(","));
        let mut want: Vec<(String, i32)> = vec![];
        for (k, v) in &pairs {
            let key = format!("k{k}");
            match want.iter_mut().find(|(k, _)| *k == key) {
                Some((_, last)) => *last = *v,
                None => want.push((key, *v)),
            }
        }
        // Twice, so that nothing remains of the previous message.
        let d = decode(&s, &[&json, r#"{"m":{"k0":-1}}"#, &json]);
        let maps = d.batch.rows.column(0).as_map();
        for row in [0, 2] {
            let entries = maps.value(row);
            let (k, v) = (entries.column(0).as_string::<i32>(), entries.column(1).as_primitive::<Int32Type>());
            let got: Vec<(String, i32)> = (0..k.len()).map(|i| (k.value(i).to_string(), v.value(i))).collect();
            assert_eq!(got, want);
        }
        assert_eq!(maps.value(1).len(), 1);
    }
}

#[test]
fn a_map_of_many_keys_is_read_in_time_that_grows_with_it_alone() {
    let s = schema(vec![("m", map_of(DataType::Int32))]);
    let pairs: Vec<String> = (0..60_000).map(|i| format!("\"key{i:07}\":1")).collect();
    let json = format!("{{\"m\":{{{}}}}}", pairs.join(","));
    let start = std::time::Instant::now();
    assert_eq!(decode(&s, &[&json]).batch.len(), 1);
    // This takes some milliseconds. A linear search for each key takes ten seconds.
    assert!(start.elapsed().as_secs_f64() < 2.0, "{:?}", start.elapsed());
}

#[test]
fn a_malformed_message_never_changes_its_neighbours() {
    let s = schema(vec![("a", DataType::Int32), ("b", DataType::Utf8)]);
    let d = decode(
        &s,
        &["{\"a\":1,\"b\":\"x\"}", "{\"a\":1", "2}", "{\"a\":5,\"b\":\"y\",\"a\":\"no\"}", "{\"b\":\"z\",\"u\":1}"],
    );
    assert_eq!(d.malformed.iter().map(|m| m.message).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(d.batch.origin.as_ref().unwrap().rows.values(), &[0, 4]);
    assert_eq!(d.unknown_fields, 1);
    let b = d.batch.rows.column(1).as_string::<i32>();
    assert_eq!((b.value(0), b.value(1)), ("x", "z"));
}

#[test]
fn pieces_of_a_malformed_value_do_not_leak_into_the_next_row() {
    let list = DataType::List(Arc::new(Field::new("element", DataType::Int32, true)));
    let s = schema(vec![("l", list), ("b", DataType::Binary), ("t", DataType::Utf8)]);
    let d = decode(
        &s,
        &[
            r#"{"l":[1,2,"x"],"b":"aGk=","t":"one"}"#,
            r#"{"l":[3],"b":"aGkhaGkhaGkh!","t":"two"}"#,
            r#"{"t":"thr\u0065e","l":[4],"b":"aGk="}"#,
            r#"{"t":"fo"#,
            r#"{"l":[5,6],"b":"aGk=","t":"five"}"#,
        ],
    );
    assert_eq!(d.malformed.iter().map(|m| m.message).collect::<Vec<_>>(), [0, 1, 3]);
    let text = arrow::util::pretty::pretty_format_batches(&[d.batch.rows]).unwrap().to_string();
    let rows: Vec<&str> = text.lines().skip(3).take(2).collect();
    assert_eq!(rows, ["| [4]    | 6869 | three |", "| [5, 6] | 6869 | five  |"], "{text}");
}

#[test]
fn errors_never_print_the_payload() {
    let secret = "hunter2";
    let s = schema(vec![("a", DataType::Int32), ("t", timestamp()), ("d", DataType::Date32), ("x", DataType::Binary)]);
    for json in [
        r#"{"a":"hunter2"}"#,
        r#"{"t":"hunter2"}"#,
        r#"{"d":"hunter2"}"#,
        r#"{"x":"hunter2"}"#,
        r#"hunter2"#,
        r#"{"hunter2"#,
    ] {
        for m in decode(&s, &[json]).malformed {
            assert!(!m.error.contains(secret), "{}", m.error);
        }
    }
}

#[test]
fn nested_values_follow_the_same_rules() {
    let inner: Fields = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into();
    let list = DataType::List(Arc::new(Field::new("element", DataType::Int32, true)));
    let entries = DataType::Struct(
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)].into(),
    );
    let map = DataType::Map(Arc::new(Field::new("key_value", entries, false)), false);
    let s = schema(vec![("s", DataType::Struct(inner)), ("l", list), ("m", map)]);
    let d = decode(
        &s,
        &[
            r#"{"s":{"x":1,"y":"a","z":[]},"l":[1,null,3],"m":{"k":1,"j":2,"k":3}}"#,
            r#"{"s":{"x":1.5},"l":[1]}"#,
            r#"{"s":null,"l":[],"m":{}}"#,
            r#"{"l":[1,"2"]}"#,
            r#"{"s":{},"l":null}"#,
        ],
    );
    assert_eq!(d.malformed[0].error.split(':').next(), Some("field 's.x'"));
    assert_eq!(d.malformed[1].error.split(':').next(), Some("field 'l.1'"));
    let text = arrow::util::pretty::pretty_format_batches(&[d.batch.rows]).unwrap().to_string();
    assert!(text.contains("{x: 1, y: a}") && text.contains("[1, , 3]") && text.contains("{k: 3, j: 2}"), "{text}");
}

/// The oracle: serde_json reads the message into its own tree, and simple rules make each column.
#[test]
fn random_messages_decode_as_an_independent_reader_says() {
    let s =
        schema(vec![("a", DataType::Int32), ("b", DataType::Float64), ("c", DataType::Utf8), ("d", DataType::Boolean)]);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let pieces = [
        "1",
        "-5",
        "3.5",
        "1e2",
        "\"x\"",
        "\"a\\u0020b\"",
        "null",
        "true",
        "false",
        "[1,2]",
        "{\"a\":1}",
        "4294967296",
        "tru",
        "\"",
        "1.",
        "{",
        "\"é\"",
    ];
    let names = ["a", "b", "c", "d", "e", "aa"];
    let mut values: Vec<Vec<u8>> = vec![];
    for _ in 0..20_000 {
        let fields: Vec<String> = (0..rng.random_range(0..5))
            .map(|_| {
                format!("\"{}\":{}", names[rng.random_range(0..names.len())], pieces[rng.random_range(0..pieces.len())])
            })
            .collect();
        let mut text = format!("{{{}}}", fields.join(",")).into_bytes();
        if rng.random_range(0..20) == 0 && !text.is_empty() {
            let at = rng.random_range(0..text.len());
            text[at] = (rng.next_u32() & 0xff) as u8;
        }
        values.push(text);
    }
    let mut want: Vec<(u32, String)> = vec![];
    for (i, v) in values.iter().enumerate() {
        let Ok(serde_json::Value::Object(o)) = serde_json::from_slice::<serde_json::Value>(v) else { continue };
        let mut row = String::new();
        let mut good = true;
        for (name, kind) in [("a", 'i'), ("b", 'f'), ("c", 's'), ("d", 'b')] {
            use serde_json::Value::*;
            match (kind, o.get(name).unwrap_or(&Null)) {
                (_, Null) => row += "NULL|",
                ('i', Number(n)) => match n.as_f64() {
                    Some(f) if f.fract() == 0.0 && (-2147483648.0..=2147483647.0).contains(&f) => {
                        row += &format!("{f}|")
                    }
                    _ => good = false,
                },
                ('f', Number(n)) => row += &format!("{}|", n.as_f64().unwrap()),
                ('b', Bool(b)) => row += &format!("{b}|"),
                ('s', String(t)) => row += &format!("{t}|"),
                // The exact text is compared by the corner cases above.
                ('s', _) => row += "text|",
                _ => good = false,
            }
        }
        if good {
            want.push((i as u32, row));
        }
    }
    let d = decode(&s, &values);
    let origin = d.batch.origin.clone().unwrap();
    let rows = &d.batch.rows;
    let got: Vec<(u32, String)> = (0..rows.num_rows())
        .map(|r| {
            let (a, b) = (rows.column(0).as_primitive::<Int32Type>(), rows.column(1).as_primitive::<Float64Type>());
            let (c, d) = (rows.column(2).as_string::<i32>(), rows.column(3).as_boolean());
            let i = origin.rows.value(r);
            let is_text = matches!(
                serde_json::from_slice::<serde_json::Value>(&values[i as usize]).unwrap()["c"],
                serde_json::Value::String(_)
            );
            let null = |n: bool, t: String| if n { "NULL|".to_string() } else { format!("{t}|") };
            let c = if !c.is_null(r) && !is_text { "text|".into() } else { null(c.is_null(r), c.value(r).to_string()) };
            let row = null(a.is_null(r), a.value(r).to_string())
                + &null(b.is_null(r), b.value(r).to_string())
                + &c
                + &null(d.is_null(r), d.value(r).to_string());
            (i, row)
        })
        .collect();
    assert_eq!(got, want);
    assert_eq!(got.len() + d.malformed.len(), values.len());
}

/// One message of a TIMESTAMP in a zone: the time, or None where the message is malformed.
fn instant_in(zone: Option<&str>, text: &str) -> Option<String> {
    let options = options(JsonOptions { timezone: zone.map(str::to_string), ..JsonOptions::default() });
    let m = messages(&[format!(r#"{{"t":"{text}"}}"#)]);
    let mut decoder = Decoder::new(Some(&schema(vec![("t", timestamp())])), &options).unwrap();
    let decoded = decoder.decode(&m, &[0]).unwrap();
    match decoded.malformed.first() {
        Some(m) => assert!(m.error.contains("not a timestamp such as"), "{text}: {}", m.error),
        None => return Some(arrow::util::display::array_value_to_string(decoded.batch.rows.column(0), 0).unwrap()),
    }
    None
}

#[test]
fn timestamps_take_every_spelling_of_iso_and_of_casts_and_refuse_the_rest() {
    for good in
        ["2024-01-01T12:00:00Z", "2024-01-01T13:00+01:00", "2024-1-1 12:0:0", "2024-01-01 13:00:00 Europe/Berlin"]
    {
        assert_eq!(instant_in(None, good).as_deref(), Some("2024-01-01T12:00:00Z"), "{good}");
    }
    assert_eq!(instant_in(None, "2024-01-02T06:00:00+18:00").as_deref(), Some("2024-01-01T12:00:00Z"));
    assert_eq!(instant_in(None, "1969-12-31T23:59:59.9999999Z").as_deref(), Some("1969-12-31T23:59:59.999999Z"));
    let bad = [
        "",
        "2024-02-30",
        "2024-01-01T24:00:00Z",
        "2024-01-01T12:00:00+18:30",
        "2024-01-01T12:00:00-18:01",
        "26.11.2026",
    ];
    for bad in bad {
        assert_eq!(instant_in(None, bad), None, "{bad}");
    }
}

#[test]
fn local_times_follow_the_zone_as_in_sql_also_where_the_clock_skips_them_or_shows_them_twice() {
    for (text, want) in [
        ("2024-07-01T12:00:00", "2024-07-01T10:00:00Z"),
        ("2024-07-01 12:00:0", "2024-07-01T10:00:00Z"),
        ("2024-01-01T12:00:00", "2024-01-01T11:00:00Z"),
        ("2024-03-31T01:59:59", "2024-03-31T00:59:59Z"),
        ("2024-03-31T02:30:00", "2024-03-31T01:30:00Z"),
        ("2024-03-31T03:00:00", "2024-03-31T01:00:00Z"),
        ("2024-10-27T02:30:00", "2024-10-27T00:30:00Z"),
        ("2024-07-01T12:00:00Z", "2024-07-01T12:00:00Z"),
    ] {
        assert_eq!(instant_in(Some("Europe/Berlin"), text).as_deref(), Some(want), "{text}");
        let sql = crate::calendar::cast_timestamp(text, Some(chrono_tz::Europe::Berlin));
        assert_eq!(sql, crate::calendar::cast_timestamp(want, None), "{text}");
    }
}

/// Run by hand: `cargo test --release --lib decode::json::test::timing -- --ignored --nocapture`.
#[test]
#[ignore = "not a test: a measurement"]
fn timing_of_a_million_messages_with_timestamps() {
    let values: Vec<String> = (0..100_000u64)
        .map(|i| {
            let (d, h, m, s) = (i % 28 + 1, i / 3 % 24, i / 7 % 60, i / 11 % 60);
            format!(
                r#"{{"device":"sensor-{}","time":"2024-07-{d:02}T{h:02}:{m:02}:{s:02}.{:03}Z","seen":"2024-07-{d:02}T{h:02}:{m:02}:{s:02}.{:06}+02:00","local":"2024-07-{d:02} {h:02}:{m:02}:{s:02}","day":"2024-07-{d:02}","bpm":{}}}"#,
                i % 1000,
                i % 1000,
                i % 1_000_000,
                i % 200
            )
        })
        .collect();
    let schema = schema(vec![
        ("device", DataType::Utf8),
        ("time", timestamp()),
        ("seen", timestamp()),
        ("local", timestamp()),
        ("day", DataType::Date32),
        ("bpm", DataType::Int32),
    ]);
    let m = messages(&values);
    let wanted: Vec<u32> = (0..m.len() as u32).collect();
    for zone in [None, Some("Europe/Berlin".to_string())] {
        let options = options(JsonOptions { timezone: zone.clone(), ..JsonOptions::default() });
        let mut decoder = Decoder::new(Some(&schema), &options).unwrap();
        let mut best = f64::MAX;
        for _ in 0..15 {
            let before = std::time::Instant::now();
            for _ in 0..10 {
                let out = decoder.decode(&m, &wanted).unwrap();
                assert_eq!(out.batch.len(), values.len());
            }
            best = best.min(before.elapsed().as_secs_f64());
        }
        eprintln!("1M messages, zone {zone:?}: {best:.3} s at best");
    }
}
