use super::infer;
use crate::batch::{Message, Messages};
use crate::decode::{DecodeOptions, Decoder, Format, Given};
use crate::expr::to_ddl;
use crate::position::TopicPartition;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

fn ddl(values: &[&str]) -> String {
    to_ddl(&infer(values.iter().map(|v| v.as_bytes())).unwrap().schema)
}

#[test]
fn types_are_guessed_from_all_values_and_never_lose_one() {
    for (values, want) in [
        (&[r#"{"a":1}"#, r#"{"a":null,"b":true}"#][..], "a BIGINT, b BOOLEAN"),
        (&[r#"{"a":1}"#, r#"{"a":1.5}"#], "a DOUBLE"),
        (&[r#"{"a":9007199254740993}"#, r#"{"a":1.5}"#], "a STRING"),
        (&[r#"{"a":1e400}"#], "a STRING"),
        (&[r#"{"a":9223372036854775808}"#], "a DECIMAL(20,0)"),
        (&[r#"{"a":123456789012345678901234567890}"#], "a DECIMAL(30,0)"),
        (&[r#"{"a":1234567890123456789012345678901234567890}"#], "a STRING"),
        (&[r#"{"a":"2026-11-26"}"#], "a DATE"),
        (&[r#"{"a":"2026-11-26"}"#, r#"{"a":"2026-11-26T10:00:00Z"}"#], "a TIMESTAMP"),
        (&[r#"{"a":"2026-11-26 10:00:00.5+01:00"}"#], "a TIMESTAMP"),
        (&[r#"{"a":"2026-11-26 10:00:00"}"#, r#"{"a":""}"#], "a STRING"),
        (&[r#"{"a":"2026-13-26"}"#], "a STRING"),
        (&[r#"{"a":"12"}"#], "a STRING"),
        (&[r#"{"a":1}"#, r#"{"a":"x"}"#], "a STRING"),
        (&[r#"{"a":null}"#], "a STRING"),
        (&[r#"{"a":[]}"#], "a ARRAY<STRING>"),
        (&[r#"{"a":[1,2.5]}"#, r#"{"a":[]}"#], "a ARRAY<DOUBLE>"),
        (&[r#"{"a":[{"x":1},{"y":"z"}]}"#], "a ARRAY<STRUCT<x: BIGINT, y: STRING>>"),
        (&[r#"{"a":{"b":{"c":1}}}"#, r#"{"a":{"b":{"d":false}}}"#], "a STRUCT<b: STRUCT<c: BIGINT, d: BOOLEAN>>"),
        (&[r#"{"a":{}}"#], "a MAP<STRING, STRING>"),
        (&[r#"{"a":{"":1}}"#], "a MAP<STRING, BIGINT>"),
        (&[r#"{"user-id":1,"@t":2,"a.b":3}"#], "`user-id` BIGINT, `@t` BIGINT, `a.b` BIGINT"),
        (&[r#"{"userid":1}"#, r#"{"userId":1}"#, r#"{"userId":2}"#], "userid BIGINT, userId BIGINT"),
        (&[r#"{"u\u0041":1}"#], "uA BIGINT"),
    ] {
        assert_eq!(ddl(values), want, "{values:?}");
    }
    let many: Vec<String> = (0..60).map(|i| format!(r#"{{"by":{{"k{i}":{i}}}}}"#)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(ddl(&many), "by MAP<STRING, BIGINT>");
}

#[test]
fn numbers_are_times_by_their_name_and_their_size() {
    for (value, want) in [
        (r#"{"ts":1764154800}"#, "{\"ts\": S}"),
        (r#"{"eventTime":1764154800.25}"#, "{\"eventTime\": S}"),
        (r#"{"created_at":1764154800123}"#, "{\"created_at\": Ms}"),
        (r#"{"after":{"updatedAt":1764154800123456}}"#, "{\"after.updatedAt\": Us}"),
        (r#"{"readings":[{"time":1764154800123456789}]}"#, "{\"readings.time\": Ns}"),
        (r#"{"user_id":1764154800123}"#, "{}"),
        (r#"{"time":12}"#, "{}"),
        (r#"{"station":1764154800}"#, "{}"),
    ] {
        let found = infer([value.as_bytes()]).unwrap();
        assert_eq!(format!("{:?}", found.units), want, "{value}");
        assert_eq!(to_ddl(&found.schema).contains("TIMESTAMP"), want != "{}", "{value}");
    }
    let mixed = [&br#"{"ts":1764154800}"#[..], br#"{"ts":1764154800123}"#];
    assert!(infer(mixed).unwrap().units.is_empty(), "no unit fits both");
}

#[test]
fn what_is_no_json_object_is_counted_and_said() {
    let found = infer([&b"{\"a\":1}"[..], b"[1]", b"{\"a\":", b"\xff", b"{} {}", b"{\"a\": NaN}"]).unwrap();
    assert_eq!((found.messages, found.malformed, found.has_nan), (6, 4, true));
    assert_eq!(
        found.notes,
        ["4 of 6 messages are not JSON objects. The first: an array instead of an object (byte 0)"]
    );
    assert!(infer([]).unwrap_err().message.contains("no message to infer"));
    assert!(infer([&b"1"[..]]).unwrap_err().message.contains("none is a JSON object"));
    assert!(infer([&b"{}"[..]]).unwrap_err().message.contains("without fields"));
}

/// A random document, with names and values that meet in other documents.
fn document(rng: &mut ChaCha8Rng, depth: u32) -> String {
    const TEXTS: [&str; 8] = [
        "\"\"",
        "\"x\"",
        "\"2026-01-31\"",
        "\"2026-01-31T10:00\"",
        "\"7\"",
        "\"\\u00e4\"",
        "\"0001-01-01\"",
        "\"2026-02-30\"",
    ];
    const NUMBERS: [&str; 12] = [
        "0",
        "-1",
        "1.5",
        "1e3",
        "1764154800",
        "1764154800123",
        "9223372036854775807",
        "9223372036854775808",
        "1e308",
        "1e309",
        "NaN",
        "-0.0",
    ];
    match rng.random_range(0..if depth > 3 { 4 } else { 8 }) {
        0 => "null".into(),
        1 => ["true", "false"].choose(rng).unwrap().to_string(),
        2 => NUMBERS.choose(rng).unwrap().to_string(),
        3 => TEXTS.choose(rng).unwrap().to_string(),
        4 => {
            let items: Vec<String> = (0..rng.random_range(0..3)).map(|_| document(rng, depth + 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => object(rng, depth + 1),
    }
}

fn object(rng: &mut ChaCha8Rng, depth: u32) -> String {
    const NAMES: [&str; 8] = ["a", "b", "A", "ts", "created_at", "x.y", "ä", "n"];
    let mut fields = vec![];
    for _ in 0..rng.random_range(0..4) {
        fields.push(format!("\"{}\":{}", NAMES.choose(rng).unwrap(), document(rng, depth)));
    }
    format!("{{{}}}", fields.join(","))
}

#[test]
fn every_message_of_the_sample_can_be_read_with_the_schema() {
    let mut guessed = 0;
    for seed in 0..3000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<String> = (0..rng.random_range(1..5)).map(|_| object(&mut rng, 0)).collect();
        let Ok(found) = infer(values.iter().map(|v| v.as_bytes())) else { continue };
        guessed += 1;
        let given = Given { timestamp_units: found.units, allow_nan: true, ..Given::default() };
        let options = DecodeOptions { format: Format::read("json", given).unwrap(), ..DecodeOptions::default() };
        let mut messages = Messages::new(vec![TopicPartition::new("t", 0)].into());
        for (i, value) in values.iter().enumerate() {
            messages
                .push(Message { offset: i as i64, value: Some(value.as_bytes()), ..Message::default() }, usize::MAX);
        }
        let wanted: Vec<u32> = (0..values.len() as u32).collect();
        let mut decoder = Decoder::new(Some(&found.schema), &options).unwrap();
        let decoded = decoder.decode(&Arc::new(messages), &wanted).unwrap();
        assert_eq!(decoded.malformed, [], "seed {seed}: {} for {values:?}", to_ddl(&found.schema));
        // The DDL says the same schema.
        assert_eq!(to_ddl(&crate::expr::parse_ddl(&to_ddl(&found.schema)).unwrap()), to_ddl(&found.schema));
    }
    assert!(guessed > 2000);
}
