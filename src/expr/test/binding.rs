//! Names, types, select lists, groups, and refusals.

use super::*;

#[test]
fn ddl_is_read_as_spark_reads_it_and_written_back() {
    let ddl = "ip STRING, time TIMESTAMP, a INT NOT NULL COMMENT 'it\\'s', m MAP<STRING, INT>, \
               s STRUCT<a: INT, b: ARRAY<STRUCT<c: DECIMAL(10,2)>>>, `odd name` BINARY, z ARRAY<ARRAY<DATE>>";
    let schema = parse_ddl(ddl).unwrap();
    assert_eq!(to_ddl(&schema), ddl);
    assert_eq!(parse_ddl(&to_ddl(&schema)).unwrap(), schema);
    assert_eq!(schema.field(1).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(schema.field(2).metadata()["comment"], "it's");
    assert!(!schema.field(2).is_nullable());
    assert_eq!(parse_type("decimal").unwrap(), DataType::Decimal128(10, 0));
    assert_eq!(parse_type("varchar(10)").unwrap(), DataType::Utf8);
    assert_eq!(parse_type("long").unwrap(), DataType::Int64);
    assert_eq!(to_ddl(&parse_ddl("x: int, y real").unwrap()), "x INT, y FLOAT");
}

#[test]
fn ddl_errors_say_what_is_wrong_and_what_was_meant() {
    schema_error(parse_ddl("a STRNG"), &["column 'a'", "'STRNG'", "Did you mean 'STRING'?"]);
    schema_error(parse_ddl("a INT, a STRING"), &["'a' occurs twice"]);
    schema_error(parse_ddl("@a INT"), &["backticks"]);
    schema_error(parse_ddl("a INT b STRING"), &["a comma", "'b'"]);
    schema_error(parse_ddl("a"), &["column 'a' has no type"]);
    schema_error(parse_ddl(""), &["empty"]);
    schema_error(parse_ddl("a INT,"), &["a column name"]);
    schema_error(parse_ddl("a TIMESTAMP_NTZ"), &["table feature", "TIMESTAMP"]);
    schema_error(parse_ddl("a DECIMAL(39, 2)"), &["1 to 38"]);
    schema_error(parse_ddl("a MAP<STRING>"), &["','"]);
    schema_error(parse_ddl("a ARRAY<INT"), &["'>'"]);
    schema_error(parse_ddl("a STRUCT<x: INT, x: INT>"), &["'x' occurs twice"]);
    schema_error(parse_ddl("1d INT"), &["backticks"]);
}

#[test]
fn columns_are_found_whatever_their_case_and_an_exact_match_wins() {
    let schema = parse_ddl("bpm INT, Model STRING, window_start TIMESTAMP, `a.b` INT").unwrap();
    assert_eq!(resolve_column("BPM", &schema).unwrap(), 0);
    assert_eq!(resolve_column("`model`", &schema).unwrap(), 1);
    assert_eq!(resolve_column("window.start", &schema).unwrap(), 2);
    assert_eq!(resolve_column("a.b", &schema).unwrap(), 3);
    schema_error(resolve_column("bmp", &schema), &["'bmp'", "Did you mean 'bpm'?", "Model"]);
    let twice = Schema::new(vec![Field::new("x", DataType::Int32, true), Field::new("X", DataType::Int32, true)]);
    assert_eq!(resolve_column("X", &twice).unwrap(), 1);
    let twice = Schema::new(vec![Field::new("xX", DataType::Int32, true), Field::new("Xx", DataType::Int32, true)]);
    schema_error(resolve_column("xx", &twice), &["ambiguous", "'xX' or 'Xx'"]);
}

#[test]
fn a_select_list_keeps_names_and_refuses_doubles() {
    let schema = schema("time TIMESTAMP, heart_bpm INT, Model STRING");
    let bound = bind_select(&["TIME, heart_bpm AS eventsTotal".into(), "model".into()], &schema, DB).unwrap();
    let names: Vec<_> = bound.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["time", "eventsTotal", "Model"]);
    assert_eq!(bound[1].as_column(), Some(1));
    assert_eq!(bind_select(&["*".into(), "heart_bpm + 1 AS more".into()], &schema, DB).unwrap().len(), 4);
    schema_error(bind_select(&["time".into(), "heart_bpm AS Time".into()], &schema, DB), &["two columns", "'Time'"]);
    schema_error(bind_select(&["heart_bpm,".into()], &schema, DB), &["an expression"]);
    let sum = bind("(heart_bpm + 1) * 2 total", &schema, DB).unwrap();
    assert_eq!((sum.name.as_str(), sum.columns()), ("total", &[1usize][..]));
    assert_eq!(bind("`Model`", &schema, DB).unwrap().as_column(), Some(2));
}

#[test]
fn what_is_refused_is_named_with_a_reason() {
    let schema = schema("time TIMESTAMP, bpm INT, model STRING, a ARRAY<INT>");
    let refused = |text: &str, parts: &[&str]| schema_error(bind(text, &schema, DB), parts);
    refused("uppr(model)", &["'uppr'", "Did you mean 'upper'?"]);
    refused("rand()", &["'rand'", "not the same every time"]);
    refused("first(bpm)", &["first is an aggregate function"]);
    refused("product(bpm)", &["'product'", "no such aggregate"]);
    refused("count(bpm)", &["count is an aggregate", "agg("]);
    refused("row_number() OVER (ORDER BY bpm)", &["OVER"]);
    refused("bmp + 1", &["'bmp'", "Did you mean 'bpm'?"]);
    refused("bpm +", &["an expression is expected after 'bpm +'"]);
    refused("(SELECT 1)", &["subqueries"]);
    refused("upper(model, 1)", &["upper", "2 arguments", "upper(str)"]);
    refused("model + 1 + a", &["ARRAY<INT>"]);
    refused("time - time", &["INTERVAL", "timestampdiff"]);
    refused("INTERVAL 1 DAY", &["INTERVAL"]);
    refused("model RLIKE '(?<=a)b'", &["look-around"]);
    refused("bpm = time", &["INT and TIMESTAMP", "CAST"]);
    refused("CAST(bpm AS NUMERC)", &["'NUMERC'", "Did you mean 'NUMERIC'?"]);
    refused("upper(DISTINCT model)", &["DISTINCT"]);
    refused("'abc", &["not closed"]);
    refused("", &["empty"]);
    refused(&"(".repeat(500), &["128"]);
    refused(&vec!["bpm > 1"; 2000].join(" AND "), &["1000 operators"]);
    refused("date_format(time, 'GGGGG')", &["'GGGGG'", "too many letters"]);
    refused("date_format(time, 'YYYY')", &["'YYYY'", "weekofyear"]);
    schema_error(bind_predicate("bpm", &schema, DB), &["'bpm' is INT", "BOOLEAN"]);
    assert_eq!(bind_predicate("NULL", &schema, DB).unwrap().data_type, DataType::Boolean);
}

#[test]
fn rows_that_fail_are_found_and_their_values_are_not_told() {
    let schema = schema("s STRING, n INT");
    let texts: Vec<Option<String>> =
        (0..1000).map(|i| Some(if i % 97 == 5 { format!("secret{i}") } else { i.to_string() })).collect();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![Arc::new(StringArray::from(texts)), Arc::new(Int32Array::from_iter_values((0..1000).map(|i| i % 10)))],
    )
    .unwrap();
    let bound = bind("CAST(s AS INT) + 1 AS m", &schema, DB).unwrap();
    let (array, failed) = bound.evaluate_rows(&batch).unwrap();
    let wanted: Vec<u32> = (0..1000).filter(|i| i % 97 == 5).collect();
    assert_eq!(failed.iter().map(|f| f.0).collect::<Vec<_>>(), wanted);
    assert_eq!(array.null_count(), wanted.len());
    assert_eq!(array.as_primitive::<Int32Type>().value(999), 1000);
    assert!(failed.iter().all(|(_, text)| !text.contains("secret") && text.contains("INT")), "{:?}", failed[0]);
    let e = bound.evaluate(&batch).unwrap_err();
    assert_eq!(e.kind, Kind::Malformed);
    assert!(!e.message.contains("secret") && e.message.contains("CAST(s AS INT)"), "{e}");
    let (_, failed) = bind("100 / n", &schema, DB).unwrap().evaluate_rows(&batch).unwrap();
    assert_eq!(failed.len(), 100);
    assert!(failed[0].1.contains("division by zero"));
    // Whatever the other row says, this one does not divide.
    let safe = bind("n <> 0 AND 100 / n > 20", &schema, DB).unwrap().evaluate(&batch).unwrap();
    assert_eq!(safe.as_boolean().true_count(), 400);
    let empty = batch.slice(0, 0);
    assert_eq!(bind("1 / 0", &schema, DB).unwrap().evaluate_rows(&empty).unwrap().0.len(), 0);
    assert_eq!(bind("1 / 0", &schema, DB).unwrap().evaluate_rows(&batch).unwrap().1.len(), 1000);
}

#[test]
fn group_items_are_keys_and_windows() {
    let schema = schema("time TIMESTAMP, model STRING, n INT");
    let item = |text: &str| parse_group_item(text, &schema, DB);
    assert!(matches!(item("upper(MODEL) AS m").unwrap(), GroupItem::Key(b) if b.name == "m"));
    match item("window(TIME, '10 minutes', '5 minutes')").unwrap() {
        GroupItem::Window { column, size, slide, offset } => {
            assert_eq!((column.as_str(), size.as_str()), ("time", "10 minutes"));
            assert_eq!((slide.as_deref(), offset), (Some("5 minutes"), None));
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(item("session_window(time, '5 minutes')").unwrap(), GroupItem::Session { gap, .. } if gap == "5 minutes")
    );
    assert!(matches!(item("window(time, '1 month')").unwrap(), GroupItem::Window { size, .. } if size == "1 month"));
    schema_error(item("window(time, '1 month', '1 month', '1 month')"), &["'1 month'", "10 seconds"]);
    schema_error(item("window(n, '1 minute')"), &["'n' is INT", "TIMESTAMP"]);
    schema_error(item("window(time, 'soon')"), &["'soon'", "10 seconds"]);
    schema_error(item("window(time)"), &["window(time, '1 minute')"]);
    schema_error(item("session_window(time, '1 minute', '2 minutes')"), &["session_window(time, '5 minutes')"]);
}

#[test]
fn aggregations_share_equal_aggregates_and_name_their_columns() {
    let schema = schema("bpm INT, model STRING");
    let item = |alias: Option<&str>, text: &str| (alias.map(str::to_string), text.to_string());
    let items = [item(None, "sum(bpm) / COUNT(*) AS ratio"), item(Some("highest"), "max(BPM)"), item(None, "count(*)")];
    let bound = bind_aggregation(&items, &schema, DB).unwrap();
    assert_eq!(bound.aggregates.len(), 3);
    let names: Vec<String> = bound.outputs().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["ratio", "highest", "count(1)"]);
    assert!(!bound.outputs()[2].is_nullable());
    assert!(bind_aggregation(&[item(None, "count(DISTINCT model)")], &schema, DB).unwrap().aggregates[0].grows);
    let refused = |text: &str, parts: &[&str]| {
        let result = bind_aggregation(&[item(None, text)], &schema, DB);
        schema_error(result.map(|a| a.outputs()), parts);
    };
    refused("bpm + count(*)", &["'bpm'", "outside of an aggregate"]);
    refused("sum(count(bpm))", &["count is an aggregate"]);
    refused("sum(a)", &["'a'"]);
    refused("min(*)", &["only count"]);
    refused("first(bpm)", &["have no order", "first(bpm ORDER BY bpm)"]);
    refused("sum(bpm ORDER BY model)", &["ORDER BY changes nothing"]);
    let alike = bind_aggregation(&[item(Some("a"), "min('bpm')"), item(Some("b"), "min(bpm)")], &schema, DB).unwrap();
    assert_eq!(alike.aggregates.len(), 2, "a string and a column are written the same");
    let twice = bind_aggregation(&[item(Some("x"), "sum(bpm)"), item(Some("X"), "min(bpm)")], &schema, DB);
    schema_error(twice.map(|a| a.outputs()), &["two aggregates"]);
}

#[test]
fn datafusions_dialect_has_its_own_meaning_and_our_columns() {
    let schema = schema("heartBpm INT, model STRING, window_start TIMESTAMP, time TIMESTAMP");
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int32Array::from(vec![5, 8])),
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC")),
        ],
    )
    .unwrap();
    let df = Dialect::DataFusion;
    let half = bind("HEARTBPM / 2 AS halfBpm", &schema, df).unwrap();
    assert_eq!(half.name, "halfBpm");
    assert_eq!(half.evaluate(&batch).unwrap().as_primitive::<Int64Type>().values(), &[2, 4]);
    assert_eq!(bind("window.start", &schema, df).unwrap().as_column(), Some(2));
    assert_eq!(bind("time", &schema, df).unwrap().as_column(), Some(3));
    assert_eq!(bind("md5(model)", &schema, df).unwrap().data_type, DataType::Utf8);
    let all = bind_select(&["*".into(), "heartBpm + 1 AS a, upper(model) AS b".into()], &schema, df).unwrap();
    assert_eq!(all.len(), 6);
    schema_error(bind("nothing(model)", &schema, df), &["nothing"]);
    schema_error(bind("hartBpm", &schema, df), &["hartBpm"]);
    schema_error(bind_predicate("heartBpm", &schema, df), &["BOOLEAN"]);
    let items =
        [(None, "sum(HeartBpm) / count(*) AS ratio".to_string()), (Some("m".into()), "median(heartBpm)".into())];
    let bound = bind_aggregation(&items, &schema, df).unwrap();
    assert_eq!(bound.aggregates.len(), 3);
    assert!(bound.aggregates[2].grows);
    for split in [false, true] {
        let out = run_aggregation(&bound, &batch, split).unwrap();
        assert_eq!(shown(&out[0], 0), json!(6));
        assert_eq!(shown(&out[1], 0), json!({ "float": "6.5" }));
    }
    let outside = bind_aggregation(&[(None, "heartBpm + count(*)".into())], &schema, df);
    schema_error(outside.map(|a| a.outputs()), &["outside of an aggregate"]);
}

/// `cargo test --release … -- --ignored --nocapture speed`
#[test]
#[ignore = "not a test: prints speeds"]
fn speed_of_the_hot_path() {
    let schema = schema("bpm INT, kcal DOUBLE, model STRING");
    let n = 65_536;
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int32Array::from_iter((0..n).map(|i| (i % 13 != 0).then_some(i % 200)))),
            Arc::new(Float64Array::from_iter_values((0..n).map(f64::from))),
            Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("model{}", i % 5)))),
        ],
    )
    .unwrap();
    for text in [
        "bpm",
        "bpm > 0",
        "bpm IS NOT NULL",
        "model <> 'undef'",
        "kcal > 1.5",
        "bpm BETWEEN 30 AND 220",
        "bpm + 1",
        "bpm / 2",
        "upper(model)",
        "model LIKE 'model1%'",
        "CAST(bpm AS STRING)",
        "CASE WHEN bpm > 100 THEN 'high' ELSE 'low' END",
        "bpm IN (1, 2, 3)",
        "concat(model, '-', bpm)",
        "round(kcal, 1)",
    ] {
        let bound = bind(text, &schema, DB).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            std::hint::black_box(bound.evaluate(&batch).unwrap());
        }
        let ns = start.elapsed().as_nanos() as f64 / (100.0 * f64::from(n));
        println!("{text:50} {ns:8.2} ns/row");
    }
}

#[test]
fn parentheses_count_in_names_where_spark_counts_them() {
    let inner = DataType::Struct(vec![Field::new("b", DataType::Int32, true)].into());
    let schema = Arc::new(Schema::new(vec![Field::new("a", inner, true), Field::new("i", DataType::Int32, true)]));
    for (text, name) in [
        ("-1", "-1"),
        ("-(1)", "(- 1)"),
        ("- 1", "-1"),
        ("-(-1)", "(- -1)"),
        ("-(-(1))", "(- (- 1))"),
        ("+(1)", "(+ 1)"),
        ("~(1)", "~1"),
        ("-(i)", "(- i)"),
        ("(1)", "1"),
        ("(a).b", "b"),
        ("((a)).b", "b"),
    ] {
        assert_eq!(bind(text, &schema, DB).unwrap().name, name, "{text}");
    }
    assert_eq!(bind("(a).b + 1", &schema, DB).unwrap().columns(), [0]);
}
