//! Cases that the recorded answers cannot show: limits, names, precision over many rows, and refusals.

use super::*;
use datafusion::logical_expr::EmitTo;

const DF: Dialect = Dialect::DataFusion;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

/// One group over all rows, merged from `parts` partial states.
fn aggregate(text: &str, batch: &RecordBatch, parts: usize) -> Result<ArrayRef> {
    let bound = bind_aggregation(&[(None, text.to_string())], &batch.schema(), DB)?;
    let mut inner = vec![];
    for a in &bound.aggregates {
        let mut whole = a.accumulator()?;
        let step = batch.num_rows().div_ceil(parts);
        for from in (0..batch.num_rows()).step_by(step) {
            let part = batch.slice(from, step.min(batch.num_rows() - from));
            let (arguments, filter) = a.evaluate(&part)?;
            let mut fresh = a.accumulator()?;
            fresh.update_batch(&arguments, &vec![0; part.num_rows()], filter.as_ref(), 1)?;
            whole.merge_batch(&fresh.state(EmitTo::All)?, &[0], 1)?;
        }
        inner.push(a.finish(whole.evaluate(EmitTo::All)?)?);
    }
    Ok(bound.project(&inner, 1)?.remove(0))
}

#[test]
fn a_name_may_begin_with_a_digit() {
    let ints = |v: i32| Arc::new(Int32Array::from(vec![v])) as ArrayRef;
    let inner = StructArray::from(vec![(Arc::new(Field::new("1h", DataType::Int32, true)), ints(9))]);
    let rows = batch(vec![
        ("2fa_id", ints(1)),
        ("24h_volume", ints(777)),
        ("5xx", ints(3)),
        ("0x1F", ints(4)),
        ("rain", Arc::new(inner)),
    ]);
    for (text, name, value) in [
        ("2fa_id", "2fa_id", json!(1)),
        ("24h_volume + 5xx", "(24h_volume + 5xx)", json!(780)),
        ("0x1F", "0x1F", json!(4)),
        ("rain.1h", "1h", json!(9)),
        ("rain .1h", "1h", json!(9)),
        ("5xx AS 6yy", "6yy", json!(3)),
        ("5xx 6yy", "6yy", json!(3)),
        ("7L", "7", json!(7)),
        ("10s", "10", json!(10)),
        ("3e2", "300.0", json!({ "float": "300" })),
        ("1e+2", "100.0", json!({ "float": "100" })),
        ("1d", "1.0", json!({ "float": "1" })),
        (".5bd", "0.5", json!({ "decimal": "0.5" })),
    ] {
        let bound = bind(text, &rows.schema(), DB).unwrap();
        assert_eq!(bound.name, name, "{text}");
        assert_eq!(shown(&bound.evaluate(&rows).unwrap(), 0), value, "{text}");
    }
    for text in ["3fa_id", "1.5x", "1e", "24h"] {
        assert_eq!(bind(text, &rows.schema(), DB).unwrap_err().kind, Kind::Schema, "{text}");
    }
    schema_error(bind("2fa_id", &rows.schema(), DF), &["'2fa_id' begins with a digit", "\"2fa_id\""]);
    assert_eq!(bind("\"2fa_id\"", &rows.schema(), DF).unwrap().as_column(), Some(0));
    assert_eq!(to_ddl(&parse_ddl("1h DOUBLE, s STRUCT<2nd: INT>").unwrap()), "`1h` DOUBLE, s STRUCT<`2nd`: INT>");
    schema_error(parse_ddl("1d DOUBLE"), &["backticks"]);
}

#[test]
fn a_keyword_may_be_a_column_and_other_odd_names_are_told_to_need_backticks() {
    let schema = schema(
        "`end` INT, `from` INT, `case` INT, `not` BOOLEAN, `log.level` STRING, `user-id` INT, `@timestamp` STRING",
    );
    for (text, column) in [("end", 0), ("from", 1), ("case", 2), ("not", 3), ("END", 0)] {
        assert_eq!(bind(text, &schema, DB).unwrap().as_column(), Some(column), "{text}");
    }
    assert_eq!(bind("end - from > 0 AND not", &schema, DB).unwrap().columns(), [0, 1, 3]);
    assert_eq!(bind("CASE `case` WHEN 1 THEN end ELSE from END", &schema, DB).unwrap().columns(), [0, 1, 2]);
    assert_eq!(bind("NOT not", &schema, DB).unwrap().columns(), [3]);
    for text in ["log.level", "log.level = 'x'", "user-id", "@timestamp", "user-id > 1"] {
        let e = bind(text, &schema, DB).unwrap_err();
        assert!(e.message.contains("in backticks") && e.message.contains('`'), "{text}: {e}");
    }
    schema_error(parse_ddl("user-id STRING"), &["'-'", "backticks"]);
    schema_error(parse_ddl("event.dataset STRING"), &["'.'", "backticks"]);
    schema_error(parse_ddl("a INT, $schema STRING"), &["'$'", "`$schema`"]);
    schema_error(bind("row_number() OVER (PARTITION BY end ORDER BY from)", &schema, DB), &["OVER", "not supported"]);
    schema_error(bind("upper(x -> x)", &schema, DB), &["a lambda (x -> …) goes into transform"]);
}

#[test]
fn a_sum_of_decimals_has_its_value_or_overflows_as_an_error() {
    let sum = |values: Vec<i128>, precision: u8, parts: usize| {
        let x = Decimal128Array::from(values).with_precision_and_scale(precision, 18).unwrap();
        aggregate("sum(x) AS r", &batch(vec![("x", Arc::new(x))]), parts)
    };
    let large = 90_000_000_000_000_000_000_000_000_000_000_000_000i128;
    for rows in [2, 3, 4, 5, 12] {
        for parts in [1, 2] {
            let e = sum(vec![large; rows], 38, parts).unwrap_err();
            assert!(e.kind == Kind::Malformed && e.message.contains("overflow"), "{rows} rows: {e}");
        }
    }
    // A partial sum may be larger than the type. It makes no difference which rows came first.
    let mixed = vec![large, large, large, -large, -large, -large + 5];
    for parts in [1, 2, 3] {
        assert_eq!(shown(&sum(mixed.clone(), 38, parts).unwrap(), 0), json!({ "decimal": "0.000000000000000005" }));
    }
    let most = 10i128.pow(28) - 1;
    let many = sum(vec![most; 1000], 28, 3).unwrap();
    assert_eq!(many.as_primitive::<Decimal128Type>().value(0), most * 1000);
}

#[test]
fn correlations_of_values_far_from_zero_are_those_of_their_differences() {
    let n = 500;
    let noise = |i: usize| ((i * 7919) % 101) as f64 / 50.0;
    for (base, step, near) in [(0.0, 1.0, 1e-12), (1e6, 1.0, 1e-9), (1.717e9, 1.0, 1e-6), (1e12, 0.25, 1e-4)] {
        let x: Vec<f64> = (0..n).map(|i| base + step * i as f64).collect();
        let y: Vec<f64> = (0..n).map(|i| base * 3.0 + 0.5 * i as f64 + noise(i)).collect();
        // About the means, which are exact here to the last bits.
        let mean = |v: &[f64], b: f64| v.iter().map(|v| v - b).sum::<f64>() / n as f64;
        let (mx, my) = (mean(&x, base), mean(&y, base * 3.0));
        let sum = |f: &dyn Fn(f64, f64) -> f64| {
            x.iter().zip(&y).map(|(x, y)| f(x - base - mx, y - base * 3.0 - my)).sum::<f64>()
        };
        let (xx, yy, xy) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
        let rows = batch(vec![
            ("x", Arc::new(Float64Array::from(x.clone())) as _),
            ("y", Arc::new(Float64Array::from(y.clone()))),
        ]);
        for (text, wanted) in [
            ("corr(x, y)", xy / (xx * yy).sqrt()),
            ("covar_pop(x, y)", xy / n as f64),
            ("covar_samp(x, y)", xy / (n - 1) as f64),
            ("regr_slope(y, x)", xy / xx),
            ("regr_r2(y, x)", xy * xy / xx / yy),
            ("regr_sxx(y, x)", xx),
            ("var_samp(x)", xx / (n - 1) as f64),
            ("stddev_pop(y)", (yy / n as f64).sqrt()),
        ] {
            for parts in [1, 2, 7, 100] {
                let ours = aggregate(text, &rows, parts).unwrap().as_primitive::<Float64Type>().value(0);
                assert!(
                    (ours - wanted).abs() <= wanted.abs() * near,
                    "{text} at {base} in {parts} parts: {ours}, not {wanted}"
                );
            }
        }
    }
    let odd = batch(vec![
        ("x", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 3.0])) as _),
        ("y", Arc::new(Float64Array::from(vec![1.0, 2.0, 2.0]))),
        ("c", Arc::new(Float64Array::from(vec![4.0, 4.0, 4.0]))),
    ]);
    assert!(aggregate("corr(x, y)", &odd, 1).unwrap().as_primitive::<Float64Type>().value(0).is_nan());
    assert!(aggregate("corr(y, c)", &odd, 2).unwrap().is_null(0));
    schema_error(aggregate("corr(x)", &odd, 1), &["corr: 1 arguments", "corr(a, b)"]);
}

#[test]
fn zeros_and_nans_are_one_within_structs_arrays_and_maps() {
    let nan = f64::from_bits(0xfff8_0000_0000_0001);
    let d: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, nan]));
    let field = Arc::new(Field::new("element", DataType::Float64, true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 1, 1, 1]);
    let list: ArrayRef = Arc::new(ListArray::new(field, offsets, d.clone(), None));
    let inside: ArrayRef = Arc::new(StructArray::from(vec![
        (Arc::new(Field::new("l", list.data_type().clone(), true)), list.clone()),
        (Arc::new(Field::new("d", DataType::Float64, true)), d.clone()),
    ]));
    let rows = batch(vec![("d", d), ("a", list), ("s", inside)]);
    for text in [
        "count(DISTINCT d)",
        "count(DISTINCT a)",
        "count(DISTINCT s)",
        "count(DISTINCT s, a)",
        "approx_count_distinct(d)",
    ] {
        for parts in [1, 3] {
            assert_eq!(shown(&aggregate(text, &rows, parts).unwrap(), 0), json!(2), "{text}");
        }
    }
    assert_eq!(shown(&aggregate("size(collect_set(s))", &rows, 2).unwrap(), 0), json!(2));
    let codec = crate::state::KeyCodec::new([rows.column(1).data_type(), rows.column(2).data_type()]).unwrap();
    let keys = codec.encode(&[rows.column(1).slice(0, 4), rows.column(2).clone()]).unwrap();
    assert_eq!((keys.row(0), keys.row(2)), (keys.row(1), keys.row(3)));
    // Also for a slice.
    let part = normalize(&rows.column(2).slice(1, 3));
    assert_eq!(part.as_struct().column(1).as_primitive::<Float64Type>().value(0).to_bits(), 0);
    assert_eq!(
        part.as_struct().column(0).as_list::<i32>().value(0).as_primitive::<Float64Type>().value(0).to_bits(),
        0
    );
    let holds = bind("array_contains(a, -0.0D) AND array_contains(a, 0.0D)", &rows.schema(), DB).unwrap();
    assert_eq!(holds.evaluate(&rows).unwrap().as_boolean().true_count(), 2);
    let only = batch(vec![("d", Arc::new(Float64Array::from(vec![-0.0, -0.0])) as _)]);
    assert_eq!(shown(&aggregate("max(d)", &only, 2).unwrap(), 0), json!({ "float": "-0" }));
}

#[test]
fn an_average_of_distinct_numbers_takes_those_apart_that_are_one_double() {
    let l = Int64Array::from(vec![9_007_199_254_740_992, 9_007_199_254_740_993, 0, 0]);
    let rows =
        batch(vec![("l", Arc::new(l) as _), ("d", Arc::new(Float64Array::from(vec![0.0, -0.0, 3.0, 3.0])) as _)]);
    for parts in [1, 2] {
        let mean = aggregate("avg(DISTINCT l)", &rows, parts).unwrap();
        assert_eq!(mean.as_primitive::<Float64Type>().value(0), 6004799503160661.0);
        assert_eq!(shown(&aggregate("avg(DISTINCT d)", &rows, parts).unwrap(), 0), json!({ "float": "1.5" }));
    }
}

#[test]
fn typing_an_expression_takes_time_by_its_size() {
    let fields: Vec<Field> = (0..200).map(|i| Field::new(format!("c{i}"), DataType::Int32, true)).collect();
    let columns = (0..200).map(|i| Arc::new(Int32Array::from(vec![Some(i), None, Some(-i)])) as ArrayRef).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let all = (0..200).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    let values = |text: &str| {
        let array = bind(text, &rows.schema(), DB).unwrap().evaluate(&rows).unwrap();
        (0..3).map(|i| shown(&array, i)).collect::<Vec<_>>()
    };
    assert_eq!(values(&format!("greatest({all})")), [json!(199), json!(null), json!(0)]);
    assert_eq!(values(&format!("least({all})")), [json!(0), json!(null), json!(-199)]);
    // Each level uses the inner level several times.
    let nested = |open: &str, close: &str, inner: &str| format!("{}{inner}{}", open.repeat(60), close.repeat(60));
    assert_eq!(values(&nested("nullif(1 + ", ", 0)", "c1")), [json!(61), json!(null), json!(null)]);
    assert_eq!(values(&nested("nullifzero(1 + ", ")", "c1")), [json!(61), json!(null), json!(null)]);
    assert_eq!(values(&nested("(", " BETWEEN false AND true)", "c1 > 0"))[0], json!(true));
    assert_eq!(values(&nested("nanvl(1 + ", ", 0)", "c1"))[0], json!({ "float": "61" }));
    assert_eq!(values(&nested("((", ") IN (c9 > 3, true, c8 > 1))", "c1 > 0"))[0], json!(true));
    schema_error(
        bind(&nested("CASE ", " WHEN 1 THEN 2 WHEN 2 THEN 1 END", "c1 + 1"), &rows.schema(), DB),
        &["too long"],
    );
    assert_eq!(values("CASE CASE c1 + 1 WHEN 2 THEN 5 END WHEN 5 THEN 6 END")[0], json!(6));
    let floats = (0..20_000).map(|i| format!("{i}.5D")).collect::<Vec<_>>().join(", ");
    assert_eq!(values(&format!("c1 IN ({floats})"))[0], json!(false));
}

/// Python's threads may have a stack of 256 KiB.
fn on_a_small_stack<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, f).unwrap().join().unwrap()
    })
}

#[test]
fn text_that_goes_deep_is_an_error_on_any_thread() {
    let schema = schema("a INT, b BOOLEAN");
    on_a_small_stack(|| {
        bind(&format!("{}a{}", "(".repeat(120), ")".repeat(120)), &schema, DB).unwrap();
        bind(&vec!["a = 1"; 450].join(" OR "), &schema, DB).unwrap();
        bind(&vec!["a"; 1000].join(" + "), &schema, DB).unwrap();
        bind(&format!("{}b", "NOT ".repeat(100)), &schema, DB).unwrap();
        let refused = |text: &str, dialect: Dialect| {
            let e = bind(text, &schema, dialect).unwrap_err();
            assert!(e.kind == Kind::Schema && e.message.len() < 4 * text.len() + 400, "{}", &e.message[..100]);
        };
        for dialect in [DB, DF] {
            refused(&"(".repeat(100_000), dialect);
            refused(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000)), dialect);
            refused(&vec!["a = 1"; 20_000].join(" OR "), dialect);
            refused(&vec!["a"; 20_000].join(" + "), dialect);
            refused(&format!("a{}", "[1]".repeat(20_000)), dialect);
            refused(&format!("{}1", "- ".repeat(20_000)), dialect);
            refused(&format!("{}b", "NOT ".repeat(20_000)), dialect);
            refused(&format!("a{}", "::INT".repeat(20_000)), dialect);
            refused(&format!("{}a{}", "abs(".repeat(5000), ")".repeat(5000)), dialect);
            refused(&format!("{}1{}", "CASE WHEN b THEN ".repeat(5000), " END".repeat(5000)), dialect);
            refused(&format!("CAST(a AS {}INT{})", "ARRAY<".repeat(20_000), ">".repeat(20_000)), dialect);
        }
        refused("a RLIKE '", DB);
        refused(&format!("'a' RLIKE '{}a{}'", "(".repeat(5000), ")".repeat(5000)), DB);
        refused(&format!("'a' RLIKE '{}a{}'", "[".repeat(5000), "]".repeat(5000)), DB);
        bind(&vec!["a = 1"; 300].join(" OR "), &schema, DF).unwrap();
        for open in ["ARRAY<", "MAP<STRING, ", "STRUCT<a: "] {
            let e = parse_ddl(&format!("a {}INT{}", open.repeat(20_000), ">".repeat(20_000))).unwrap_err();
            assert!(e.message.contains("nested more than"), "{}", &e.message[..100]);
            assert!(parse_type(&format!("{}INT{}", open.repeat(20_000), ">".repeat(20_000))).is_err());
        }
        parse_ddl(&format!("a {}INT{}", "ARRAY<".repeat(100), ">".repeat(100))).unwrap();
        for text in [vec!["a = 1"; 20_000].join(" OR "), format!("{}1", "(".repeat(500))] {
            assert!(check_statement(&format!("SELECT * FROM t WHERE {text}")).is_err());
        }
    });
    let many = (0..2000).map(|i| format!("a = {i}")).collect::<Vec<_>>().join(" OR ");
    check_statement(&format!("SELECT * FROM t WHERE {many}")).unwrap();
    let list = (0..100_000).map(|i| format!("-{i}")).collect::<Vec<_>>().join(", ");
    check_statement(&format!("SELECT * FROM t WHERE a IN ({list})")).unwrap();
}

#[test]
fn datafusions_functions_that_are_not_the_same_every_time_are_refused_when_typed() {
    let schema = schema("a INT, t TIMESTAMP");
    for text in [
        "random()",
        "uuid()",
        "now()",
        "current_date()",
        "current_time()",
        "a + random()",
        "t > now()",
        "date_part('year', now())",
    ] {
        schema_error(bind(text, &schema, DF), &["not the same every time"]);
    }
    let sum = bind_aggregation(&[(None, "sum(random())".to_string())], &schema, DF);
    schema_error(sum.map(|a| a.outputs()), &["'random'", "not the same every time"]);
    bind("date_trunc('day', t)", &schema, DF).unwrap();
    bind("to_timestamp(a)", &schema, DF).unwrap();
}
