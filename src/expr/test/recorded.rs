//! Expressions against the answers of a real Spark 4.0.0 (`tests/python/record_spark_answers.py` records them).

use super::*;
use arrow::compute::filter_record_batch;

/// Expressions that bayou refuses, or whose result differs from Spark's on purpose; docs/sql.md lists them too.
const DIFFERENT: &[(&str, &str)] = &[
    ("-w", "Spark 4.0.0 fails for DECIMAL of more than 28 digits, and gives another scale"),
    ("s RLIKE '(?=a)'", "look-around is refused"),
    ("i = 5 OR 1 / 0 = 1", "Spark computes constants first and fails for every row"),
    ("nullif(n, s)", "where the left side is NULL, Spark does not look at the right one, which fails"),
    ("CAST('2024-01-01 00:00:00 PST' AS TIMESTAMP)", "abbreviations of time zones are not read"),
    ("avg(l)", "the sum of doubles of such different sizes depends on their order, in Spark as well"),
    ("avg(DISTINCT l)", "as avg(l)"),
    ("avg(w)", "refused: there is no room for the digits"),
    ("max_by(NULL, i)", "refused: it has no type"),
    ("max_by(i, '5')", "of equal ones Spark gives the last it saw"),
    ("corr(y, 1)", "Spark 4.0.0 divides by zero where one side does not vary"),
    ("corr(1, y)", "Spark 4.0.0 divides by zero where one side does not vary"),
    ("CAST(parse_json('[1,\"2\"]') AS ARRAY<INT>)", "a number in quotes is none, as in from_json"),
    ("try_to_date(s)", "Spark 4.0 does not have it; Databricks has"),
    ("try_to_date(s, 'yyyy-MM')", "as above"),
    ("try_to_date('2024-13', 'yyyy-MM')", "as above"),
    ("schema_of_variant(parse_json(to_json(st)))", "a VARIANT is kept as JSON text: 1.0 is 1 there, a BIGINT"),
    ("schema_of_variant(parse_json('[0.05, -0.05, 10.0]'))", "as above"),
    ("assert_true(i > 0)", "the message of Spark has the number of the column: i#916"),
    ("to_csv(st)", "refused: a STRUCT within it has no CSV"),
    (
        "schema_of_csv('123456789012345678901234567890,2024-01-01T01:02:03Z,12:30,2024/01/01,1f')",
        "a time of day alone is no TIMESTAMP",
    ),
    ("from_json(k, 'a INT')", "a text that does not fit is an error of its row; Spark gives a struct of NULLs"),
];

/// What is wrong with our answer, if anything.
fn check_type(answer: &Value, data_type: &DataType) -> Option<String> {
    let wanted = answer["type"].as_str().unwrap();
    let ours = type_to_ddl(data_type).to_lowercase().replace(": ", ":").replace(", ", ",").replace('`', "");
    (ours != wanted.to_lowercase()).then(|| format!("type {ours}, Spark {wanted}"))
}

pub(super) fn scalar_problem(answer: &Value) -> Option<String> {
    let batch = &TABLES[answer["table"].as_str().unwrap()];
    let bound = bind(answer["sql"].as_str().unwrap(), &batch.schema(), DB);
    let refused = answer.get("refused");
    let bound = match (bound, refused) {
        (Err(e), Some(_)) => return (e.kind != Kind::Schema).then(|| format!("a {:?} error: {e}", e.kind)),
        (Ok(b), Some(why)) => return Some(format!("bound as {b:?}, Spark refuses: {why}")),
        (Err(e), None) => {
            let values = answer["values"].as_array().unwrap();
            let failed = values.iter().any(|v| v.get("error").is_some());
            let all = failed && values.iter().all(|v| v.is_null() || v.get("error").is_some());
            return (!all).then(|| format!("refused: {e}"));
        }
        (Ok(b), None) => b,
    };
    let mut problems: Vec<String> = check_type(answer, &bound.data_type).into_iter().collect();
    if bound.name != answer["name"].as_str().unwrap() {
        problems.push(format!("name {:?}, Spark {}", bound.name, answer["name"]));
    }
    let (array, failed) = match bound.evaluate_rows(batch) {
        Ok(out) => out,
        Err(e) => return Some(format!("failed as a whole: {e}")),
    };
    if array.data_type() != &bound.data_type {
        problems.push(format!("evaluates to {}, bound as {}", array.data_type(), bound.data_type));
        return Some(problems.join("; "));
    }
    if array.len() != batch.num_rows() {
        problems.push(format!("{} values for {} rows", array.len(), batch.num_rows()));
        return Some(problems.join("; "));
    }
    if !bound.nullable && array.null_count() > failed.len() {
        problems.push("NULL in what is not nullable".into());
    }
    let failed: HashMap<u32, String> = failed.into_iter().collect();
    let tolerance = answer["tolerance"].as_f64().unwrap_or(0.0);
    for (i, theirs) in answer["values"].as_array().unwrap().iter().enumerate() {
        // Spark has dates and keys of maps that Python does not have: this answer could not be recorded.
        if matches!(theirs.get("error").and_then(Value::as_str), Some("ValueError" | "TypeError")) {
            continue;
        }
        match (failed.get(&(i as u32)), theirs.get("error")) {
            (Some(_), Some(_)) => {}
            (Some(e), None) => problems.push(format!("row {i}: fails ({e}), Spark {theirs}")),
            (None, Some(e)) => problems.push(format!("row {i}: {}, Spark fails with {e}", shown(&array, i))),
            (None, None) => {
                let ours = shown(&array, i);
                if !same(&ours, theirs, tolerance) {
                    problems.push(format!("row {i}: {ours}, Spark {theirs}"));
                }
            }
        }
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

pub(super) fn aggregate_problem(answer: &Value) -> Option<String> {
    let batch = &TABLES[answer["table"].as_str().unwrap()];
    let schema = batch.schema();
    let keep = bind_predicate(answer["where"].as_str().unwrap(), &schema, DB).unwrap().evaluate(batch).unwrap();
    let batch = filter_record_batch(batch, keep.as_boolean()).unwrap();
    let bound = bind_aggregation(&[(None, answer["sql"].as_str().unwrap().to_string())], &schema, DB);
    let bound = match (bound, answer.get("refused")) {
        (Err(_), Some(_)) => return None,
        (Ok(_), Some(why)) => return Some(format!("bound, Spark refuses: {why}")),
        (Err(e), None) => return Some(format!("refused: {e}")),
        (Ok(b), None) => b,
    };
    let outputs = bound.outputs();
    let mut problems: Vec<String> = check_type(answer, outputs[0].data_type()).into_iter().collect();
    if outputs[0].name() != answer["name"].as_str().unwrap() {
        problems.push(format!("name {:?}, Spark {}", outputs[0].name(), answer["name"]));
    }
    let theirs = &answer["values"][0];
    let tolerance = answer["tolerance"].as_f64().unwrap_or(0.0);
    for split in [false, true] {
        match (run_aggregation(&bound, &batch, split), theirs.get("error")) {
            (Err(_), Some(_)) => {}
            (Err(e), None) => problems.push(format!("fails ({e:?}), Spark {theirs}")),
            (Ok(ours), Some(e)) => problems.push(format!("{}, Spark fails with {e}", shown(&ours[0], 0))),
            (Ok(ours), None) => {
                let ours = shown(&ours[0], 0);
                if !same(&ours, theirs, tolerance) {
                    problems.push(format!("split {split}: {ours}, Spark {theirs}"));
                }
            }
        }
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

pub(super) fn check(answers: &Value, different: &[(&str, &str)], problem: fn(&Value) -> Option<String>) {
    let mut wrong = vec![];
    let mut total = 0;
    for answer in answers.as_array().unwrap() {
        let sql = answer["sql"].as_str().unwrap();
        total += 1;
        let known = different.iter().chain(time::DIFFERENT).any(|(s, _)| *s == sql);
        match problem(answer) {
            Some(_) if known => {}
            Some(p) => wrong.push(format!("{sql} [{}]: {p}", answer["where"].as_str().unwrap_or("-"))),
            None if known && answer.get("where").is_none() => {
                wrong.push(format!("{sql}: is listed as different but is the same"))
            }
            None => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {total} differ from Spark:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn scalar_expressions_answer_as_spark_does() {
    check(&ANSWERS["answers"], DIFFERENT, scalar_problem);
}

#[test]
fn aggregates_answer_as_spark_does_also_when_their_states_are_merged() {
    check(&ANSWERS["aggregates"], DIFFERENT, aggregate_problem);
}

#[test]
fn every_listed_function_is_among_the_recorded_answers() {
    let mut asked: Vec<String> = vec![];
    let recorded = ["answers", "aggregates", "generators"].map(|kind| ANSWERS[kind].as_array().unwrap());
    let recorded = recorded.into_iter().chain([nested::ANSWERS["answers"].as_array().unwrap()]);
    for answer in recorded.flatten() {
        if answer.get("refused").is_none() {
            asked.push(answer["sql"].as_str().unwrap().to_lowercase());
        }
    }
    let called = |name: &str| {
        let call = format!("{name}(");
        asked.iter().any(|sql| {
            sql.match_indices(&call).any(|(i, _)| !sql[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    // With an ORDER BY in the call they are not Spark's: `aggregates` asks its own oracle.
    let ours = [
        "first",
        "first_value",
        "last",
        "last_value",
        "nth_value",
        "try_from_json",
        "getdate",
        "now",
        "curdate",
        "current_date",
        "current_timestamp",
        "charindex",
        "iff",
        "try_to_date",
        "grouping",
        "grouping_id",
        "range",
    ];
    // Operators are in every other expression. Window functions and GROUPING SETS are asked by the queries over tables.
    let by_name = |l: &Listed| !matches!(l.role, Role::Operator | Role::Window);
    let missing: Vec<_> =
        listed().iter().filter(|l| by_name(l)).map(|l| l.name).filter(|n| !called(n) && !ours.contains(n)).collect();
    assert!(missing.is_empty(), "no answers are recorded for {missing:?}");
    let queries = include_str!("../../../tests/python/spark_queries.json").to_lowercase();
    for window in listed().iter().filter(|l| l.role == Role::Window) {
        assert!(queries.contains(&format!("{}(", window.name)), "no query calls {}", window.name);
    }
}

#[test]
fn the_documentation_lists_exactly_the_functions_there_are() {
    let doc = include_str!("../../../docs/sql.md");
    let functions = doc.split("## Functions").nth(1).unwrap().split("## Types").next().unwrap();
    let documented: Vec<&str> = functions.lines().filter_map(|l| l.strip_prefix("- `")?.strip_suffix('`')).collect();
    let mut ours: Vec<&str> = listed().iter().map(|l| l.usage).collect();
    let mut theirs = documented.clone();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    for (heading, role) in [
        ("Functions", Role::Scalar),
        ("Aggregates", Role::Aggregate),
        ("Generators", Role::Generator),
        ("Window functions", Role::Window),
        ("Operators as functions", Role::Operator),
    ] {
        let heading = format!("## {heading} ({})", listed().iter().filter(|l| l.role == role).count());
        assert!(doc.contains(&heading), "{heading}");
    }
}

#[test]
fn no_failure_of_a_recorded_expression_tells_a_value() {
    for answer in ANSWERS["answers"].as_array().unwrap() {
        let batch = &TABLES[answer["table"].as_str().unwrap()];
        let Ok(bound) = bind(answer["sql"].as_str().unwrap(), &batch.schema(), DB) else { continue };
        for (row, text) in bound.evaluate_rows(batch).unwrap().1 {
            for column in batch.columns().iter().filter(|c| *c.data_type() == DataType::Utf8) {
                let value = column.as_string::<i32>();
                let value = if value.is_null(row as usize) { "" } else { value.value(row as usize).trim() };
                assert!(value.len() < 2 || !text.contains(value), "{}: {text}", bound.sql);
            }
            assert!(text != "it cannot be computed", "{}: a reason is missing", bound.sql);
        }
    }
}

/// Every recorded aggregate over several groups at once, against each group by itself.
#[test]
fn groups_do_not_mix() {
    use datafusion::logical_expr::EmitTo;
    let mut seen = std::collections::BTreeSet::new();
    for answer in ANSWERS["aggregates"].as_array().unwrap() {
        let (table, sql) = (answer["table"].as_str().unwrap(), answer["sql"].as_str().unwrap());
        if answer.get("refused").is_some() || !seen.insert((table, sql)) {
            continue;
        }
        let batch = &TABLES[table];
        let items = [(None, sql.to_string())];
        let Ok(bound) = bind_aggregation(&items, &batch.schema(), DB) else { continue };
        // The rows of the two groups in turns; a third group has only the row of NULLs.
        let groups: Vec<usize> =
            (0..batch.num_rows()).map(|i| if batch.column(0).is_null(i) { 2 } else { i % 2 }).collect();
        let count = groups.iter().max().unwrap() + 1;
        let run = |parts: &[std::ops::Range<usize>]| -> Result<(Vec<ArrayRef>, Vec<usize>)> {
            let (mut inner, mut order) = (vec![], vec![]);
            for aggregate in &bound.aggregates {
                let mut whole = aggregate.accumulator()?;
                // A part numbers only the groups it has seen, as accumulators want it.
                let mut merged: Vec<usize> = vec![];
                for part in parts {
                    let rows = batch.slice(part.start, part.len());
                    let mut here: Vec<usize> = vec![];
                    let number = |seen: &mut Vec<usize>, g: usize| match seen.iter().position(|s| *s == g) {
                        Some(k) => k,
                        None => {
                            seen.push(g);
                            seen.len() - 1
                        }
                    };
                    let local: Vec<usize> = groups[part.clone()].iter().map(|g| number(&mut here, *g)).collect();
                    let mut fresh = aggregate.accumulator()?;
                    let filter = aggregate.evaluate_filter(&rows)?;
                    fresh.update_batch(&aggregate.evaluate_arguments(&rows)?, &local, filter.as_ref(), here.len())?;
                    let state = fresh.state(EmitTo::All)?;
                    let into: Vec<usize> = here.iter().map(|g| number(&mut merged, *g)).collect();
                    whole.merge_batch(&state, &into, merged.len())?;
                }
                order = merged;
                inner.push(aggregate.finish(whole.evaluate(EmitTo::All)?)?);
            }
            Ok((bound.project(&inner, count)?, order))
        };
        let tolerance = answer["tolerance"].as_f64().map_or(0.0, |_| 1e-9);
        let half = batch.num_rows() / 2;
        let results = [run(std::slice::from_ref(&(0..batch.num_rows()))), run(&[0..half, half..batch.num_rows()])];
        for together in results {
            let Ok((together, order)) = together else { continue };
            for (at, group) in order.into_iter().enumerate() {
                let keep: BooleanArray = groups.iter().map(|g| Some(*g == group)).collect();
                let alone = run_aggregation(&bound, &filter_record_batch(batch, &keep).unwrap(), false).unwrap();
                let (ours, theirs) = (shown(&together[0], at), shown(&alone[0], 0));
                assert!(same(&ours, &theirs, tolerance), "{sql}, group {group}: {ours}, by itself {theirs}");
            }
        }
    }
    assert!(seen.len() > 100);
}

/// The values at the ends of every type, through every recorded expression: errors are fine, panics are not.
#[test]
fn extreme_values_never_panic() {
    let extreme = |t: &DataType| -> Option<ArrayRef> {
        Some(match t {
            DataType::Int8 => Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX, 0])) as ArrayRef,
            DataType::Int16 => Arc::new(Int16Array::from(vec![i16::MIN, i16::MAX, 0])),
            DataType::Int32 => Arc::new(Int32Array::from(vec![i32::MIN, i32::MAX, 1000])),
            DataType::Int64 => Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX, 0])),
            DataType::Float32 => Arc::new(Float32Array::from(vec![f32::MIN, f32::MAX, f32::MIN_POSITIVE])),
            DataType::Float64 => Arc::new(Float64Array::from(vec![f64::MIN, f64::MAX, f64::MIN_POSITIVE])),
            DataType::Date32 => Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX, 0])),
            DataType::Timestamp(..) => {
                Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX, 0]).with_timezone("UTC"))
            }
            DataType::Decimal128(p, _) => {
                let most = 10i128.pow(u32::from(*p)) - 1;
                Arc::new(Decimal128Array::from(vec![-most, most, 1]).with_data_type(t.clone()))
            }
            DataType::Utf8 => Arc::new(StringArray::from(vec!["\u{10ffff}\0é", "9999999-12-31 23:59:59+18:00", "-"])),
            _ => return None,
        })
    };
    for answer in ANSWERS["answers"].as_array().unwrap().iter().chain(ANSWERS["aggregates"].as_array().unwrap()) {
        let (table, sql) = (&TABLES[answer["table"].as_str().unwrap()], answer["sql"].as_str().unwrap());
        let columns = table.columns().iter().map(|c| extreme(c.data_type()).unwrap_or_else(|| c.slice(0, 3))).collect();
        let batch = RecordBatch::try_new(table.schema(), columns).unwrap();
        if answer.get("where").is_some() {
            if let Ok(bound) = bind_aggregation(&[(None, sql.to_string())], &table.schema(), DB) {
                let _ = run_aggregation(&bound, &batch, true);
            }
        } else if let Ok(bound) = bind(sql, &table.schema(), DB) {
            assert_eq!(bound.evaluate_rows(&batch).unwrap().0.len(), 3, "{sql}");
        }
    }
}
