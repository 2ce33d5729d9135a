//! Aggregates over rows in any order and in any pieces: the result is that of all rows at once.

use super::*;
use crate::state::Groups;
use arrow::compute::take_record_batch;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Every aggregate of the Databricks dialect, some in several ways.
const SPARK: &[&str] = &[
    "count(*)",
    "count(i)",
    "count(i, s)",
    "count(DISTINCT d)",
    "count(DISTINCT i, s)",
    "count(DISTINCT d, b, dt)",
    "bitmap_construct_agg(abs(i) % 100)",
    "bitmap_or_agg(CAST(s AS BINARY))",
    "count_if(i > 1)",
    "sum(i)",
    "sum(l)",
    "sum(x)",
    "sum(e)",
    "sum(DISTINCT i)",
    "avg(i)",
    "avg(x)",
    "mean(DISTINCT j)",
    "min(d)",
    "max(d)",
    "min(s)",
    "max(ts)",
    "stddev(e)",
    "std(i)",
    "stddev_samp(e)",
    "stddev_pop(i)",
    "variance(e)",
    "var_samp(i)",
    "var_pop(e)",
    "corr(i, e)",
    "covar_pop(i, j)",
    "covar_samp(i, e)",
    "regr_count(i, e)",
    "regr_avgx(i, x)",
    "regr_avgy(i, e)",
    "regr_slope(i, j)",
    "regr_intercept(i, j)",
    "regr_r2(i, j)",
    "regr_sxx(i, j)",
    "regr_syy(i, e)",
    "regr_sxy(i, e)",
    "bool_and(b)",
    "every(b)",
    "bool_or(b)",
    "some(b)",
    "any(b)",
    "bit_and(i)",
    "bit_or(j)",
    "bit_xor(i)",
    "median(i)",
    "percentile(e, 0.3)",
    "approx_percentile(d, 0.7)",
    "percentile_approx(dt, 0.5)",
    "approx_count_distinct(s)",
    "collect_list(s)",
    "array_agg(i)",
    "collect_set(d)",
    "collect_list(s ORDER BY i)",
    "array_agg(d ORDER BY ts DESC, i NULLS LAST)",
    "collect_list(DISTINCT s ORDER BY s DESC)",
    "collect_list(st ORDER BY dt)",
    "first(i ORDER BY ts)",
    "first_value(d ORDER BY e DESC)",
    "first_value(s ORDER BY i) IGNORE NULLS",
    "first_value(m ORDER BY i)",
    "last(s ORDER BY d)",
    "last_value(a ORDER BY s NULLS LAST)",
    "last_value(st ORDER BY i, j)",
    "nth_value(s, 2 ORDER BY i)",
    "nth_value(i, 3 ORDER BY s DESC) IGNORE NULLS",
    "any_value(s)",
    "any_value(d)",
    "any_value(a ORDER BY i)",
    "max_by(s, i)",
    "max_by(i, d)",
    "min_by(st, ts)",
    "min_by(m, e)",
    "listagg(s, ',') WITHIN GROUP (ORDER BY i)",
    "string_agg(DISTINCT s, '') WITHIN GROUP (ORDER BY s DESC)",
    "listagg(CAST(s AS BINARY)) WITHIN GROUP (ORDER BY dt, ts)",
    "listagg(i, '-' ORDER BY d)",
    "percentile_cont(0.3) WITHIN GROUP (ORDER BY e)",
    "percentile_cont(array(0.1, 0.9)) WITHIN GROUP (ORDER BY i DESC)",
    "percentile_disc(0.4) WITHIN GROUP (ORDER BY d)",
    "percentile_disc(array(0.0, 1.0)) WITHIN GROUP (ORDER BY j DESC)",
    "percentile(i, array(0.25, 0.75))",
    "percentile_approx(ts, array(0.2, 0.8))",
    "approx_percentile(d, array(0.5))",
    "mode(s)",
    "mode(d)",
    "mode() WITHIN GROUP (ORDER BY dt DESC)",
    "skewness(e)",
    "kurtosis(i)",
    "try_sum(l)",
    "try_sum(DISTINCT i)",
    "try_avg(x)",
    "try_avg(e)",
    "approx_count_distinct(s, 0.001)",
    "approx_count_distinct(st)",
    "count(DISTINCT ts - dt)",
    "max_by(s, ts - dt)",
];

/// The aggregates of DataFusion's dialect. All others are refused, which a test checks.
const DATAFUSION: &[&str] = &[
    "approx_distinct(s)",
    "approx_median(i)",
    "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY i)",
    "approx_percentile_cont_with_weight(j, 0.5) WITHIN GROUP (ORDER BY i)",
    "any_value(s)",
    "array_agg(i)",
    "array_agg(DISTINCT s)",
    "array_agg(s ORDER BY i DESC)",
    "array_agg(DISTINCT s ORDER BY s)",
    "avg(e)",
    "bit_and(i)",
    "bit_or(i)",
    "bit_xor(j)",
    "bool_and(b)",
    "bool_or(b)",
    "corr(i, e)",
    "count(DISTINCT i)",
    "count(*)",
    "covar_pop(i, j)",
    "covar_samp(i, j)",
    "first_value(s ORDER BY i)",
    "first_value(s ORDER BY i DESC NULLS LAST) IGNORE NULLS",
    "last_value(e ORDER BY ts, i)",
    "max(i)",
    "median(e)",
    "min(s)",
    "nth_value(s, 2 ORDER BY i)",
    "nth_value(i, -1 ORDER BY dt)",
    "percentile_cont(0.25) WITHIN GROUP (ORDER BY e DESC)",
    "regr_avgx(i, j)",
    "regr_avgy(i, j)",
    "regr_count(i, j)",
    "regr_intercept(i, j)",
    "regr_r2(i, j)",
    "regr_slope(i, j)",
    "regr_sxx(i, j)",
    "regr_sxy(i, j)",
    "regr_syy(i, j)",
    "stddev(e)",
    "stddev_pop(e)",
    "string_agg(s, ',' ORDER BY i)",
    "string_agg(DISTINCT s, ',' ORDER BY s)",
    "sum(i)",
    "sum(DISTINCT i)",
    "var(e)",
    "var_pop(e)",
];

/// Rows with many NULLs, ties and odd floats.
fn rows(rng: &mut ChaCha8Rng, count: usize) -> RecordBatch {
    let schema = schema(
        "g INT, i INT, j INT, l BIGINT, d DOUBLE, e DOUBLE, x DECIMAL(10,2), s STRING, ts TIMESTAMP, dt DATE, b BOOLEAN, \
         a ARRAY<INT>, m MAP<STRING, INT>, st STRUCT<p: INT, q: STRING>",
    );
    let mut made = vec![];
    for _ in 0..count {
        let mut some = |value: Value| if rng.random_range(0..4) == 0 { Value::Null } else { value };
        let texts = ["", "a", "b", "ab", "é", "zz"];
        let mut number = 0;
        let mut row = serde_json::Map::new();
        let mut put = |name: &str, value: Value| row.insert(name.into(), some(value));
        let mut seed = made.len() as i64 * 7919 + count as i64;
        let mut next = |below: i64| {
            seed = (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)) % (1 << 60);
            number += 1;
            ((seed >> 20).unsigned_abs() as i64 + number) % below
        };
        put("g", json!(next(3)));
        put("i", json!(next(4)));
        put("j", json!(next(5) - 2));
        put("l", json!(next(1000)));
        put("e", json!(next(8) as f64 / 4.0 - 1.0));
        put("x", json!(format!("{}.{}5", next(3), next(9))));
        put("s", json!(texts[next(6) as usize]));
        put("ts", json!(format!("2024-01-01T00:00:0{}Z", next(3))));
        put("dt", json!(format!("2024-01-0{}", 1 + next(3))));
        put("b", json!(next(2) == 0));
        put("a", json!([next(2), null_or(next(3))]));
        put("m", json!({ "k": next(2) }));
        put("st", json!({ "p": next(2), "q": null_or(next(3)).to_string() }));
        made.push(Value::Object(row));
    }
    let mut decoder =
        arrow::json::ReaderBuilder::new(schema.clone()).with_batch_size(count + 1).build_decoder().unwrap();
    decoder.serialize(&made).unwrap();
    let batch = decoder.flush().unwrap().unwrap();
    let odd = [Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), Some(1.5), Some(f64::INFINITY), None];
    let odd: Float64Array = (0..count).map(|_| odd[rng.random_range(0..odd.len())]).collect();
    let mut columns = batch.columns().to_vec();
    columns[4] = Arc::new(odd);
    RecordBatch::try_new(schema, columns).unwrap()
}

fn null_or(n: i64) -> Value {
    if n == 0 { Value::Null } else { json!(n) }
}

fn key_schema() -> SchemaRef {
    schema("g INT")
}

fn update(groups: &mut Groups, aggregation: &Aggregation, batch: &RecordBatch) -> Result<()> {
    let arguments = aggregation.aggregates.iter().map(|a| a.evaluate_arguments(batch)).collect::<Result<Vec<_>>>()?;
    let filters = aggregation.aggregates.iter().map(|a| a.evaluate_filter(batch)).collect::<Result<Vec<_>>>()?;
    groups.update(&[batch.column(0).clone()], &arguments, &filters, batch.num_rows())
}

fn results(groups: Groups, aggregation: &Aggregation) -> Result<BTreeMap<String, Value>> {
    let rows = groups.len();
    let (keys, inner) = groups.into_results(&aggregation.aggregates)?;
    let out = aggregation.project(&inner, rows)?;
    Ok((0..rows).map(|i| (shown(&keys[0], i).to_string(), shown(&out[0], i))).collect())
}

/// The partial states of shuffled rows in random pieces, merged two by two at random.
fn in_pieces(rng: &mut ChaCha8Rng, aggregation: &Aggregation, batch: &RecordBatch) -> Result<BTreeMap<String, Value>> {
    let keys = key_schema();
    let aggregates = &aggregation.aggregates;
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.shuffle(rng);
    let mut parts: Vec<(Vec<ArrayRef>, Vec<ArrayRef>)> = vec![];
    let mut at = 0;
    while at < order.len() || parts.is_empty() {
        let mut groups = Groups::new(&keys, aggregates)?;
        // An increment is made of several batches.
        for _ in 0..rng.random_range(1..3) {
            let end = (at + rng.random_range(0..12)).min(order.len());
            let part = take_record_batch(batch, &UInt32Array::from(order[at..end].to_vec()))?;
            update(&mut groups, aggregation, &part)?;
            at = end;
        }
        parts.push(groups.into_states()?);
    }
    let merge = |groups: &mut Groups, (keys, states): &(Vec<ArrayRef>, Vec<ArrayRef>)| {
        groups.merge(keys, states, aggregates, keys[0].len())
    };
    while parts.len() > 1 {
        let mut groups = Groups::new(&keys, aggregates)?;
        for _ in 0..2 {
            let part = parts.swap_remove(rng.random_range(0..parts.len()));
            merge(&mut groups, &part)?;
        }
        parts.push(groups.into_states()?);
    }
    let mut whole = Groups::new(&keys, aggregates)?;
    merge(&mut whole, &parts[0])?;
    results(whole, aggregation)
}

/// Lists whose order was not requested.
fn unordered(value: &Value) -> Value {
    match value.get("list").and_then(Value::as_array) {
        Some(list) => {
            let mut list = list.clone();
            list.sort_by_key(Value::to_string);
            json!({ "list": list })
        }
        None => value.clone(),
    }
}

fn however_cut(calls: &[&str], dialect: Dialect) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for call in calls {
        for filter in ["", " FILTER (WHERE i > 0)"] {
            // DataFusion's parser wants the FILTER first.
            let text = match call.strip_suffix(" IGNORE NULLS") {
                Some(call) => format!("{call}{filter} IGNORE NULLS"),
                None => format!("{call}{filter}"),
            };
            for round in 0..12 {
                let count = if round == 0 { 1 } else { rng.random_range(2..70) };
                let batch = rows(&mut rng, count);
                let aggregation = bind_aggregation(&[(None, text.clone())], &batch.schema(), dialect)
                    .unwrap_or_else(|e| panic!("{text}: {e}"));
                let mut all = Groups::new(&key_schema(), &aggregation.aggregates).unwrap();
                update(&mut all, &aggregation, &batch).unwrap();
                let whole = results(all, &aggregation).unwrap();
                let cut = in_pieces(&mut rng, &aggregation, &batch).unwrap();
                assert_eq!(whole.keys().collect::<Vec<_>>(), cut.keys().collect::<Vec<_>>(), "{text}");
                for (key, value) in &whole {
                    let (a, b) = if call.contains("ORDER BY") {
                        (value.clone(), cut[key].clone())
                    } else {
                        (unordered(value), unordered(&cut[key]))
                    };
                    // Sketches of quantiles are approximate.
                    let near = call.starts_with("approx_median") || call.starts_with("approx_percentile_cont");
                    let tolerance = if near { 0.5 } else { 1e-9 };
                    assert!(same(&a, &b, tolerance), "{text}, group {key} of {count} rows: {a}, in pieces {b}");
                }
            }
        }
    }
}

#[test]
fn every_aggregate_is_the_same_however_its_rows_are_cut_and_merged() {
    let named = |name: &str| SPARK.iter().any(|call| call.starts_with(&format!("{name}(")));
    let missing: Vec<&str> =
        listed().iter().filter(|l| is_aggregate(l.name) && !named(l.name)).map(|l| l.name).collect();
    assert!(missing.is_empty(), "{missing:?}");
    however_cut(SPARK, Dialect::Databricks);
}

#[test]
fn every_aggregate_of_datafusion_is_so_too_or_is_refused_by_name() {
    let schema = rows(&mut ChaCha8Rng::seed_from_u64(1), 1).schema();
    let mut names: Vec<&String> = datafusion_dialect::STATE.aggregate_functions().keys().collect();
    names.sort();
    // Other names of the same functions, and the one that is refused.
    let aliases =
        ["approx_percentile_cont", "covar", "mean", "quantile_cont", "stddev_samp", "var_population", "var_samp"];
    for name in names {
        if aliases.contains(&name.as_str()) || name == "var_sample" {
            continue;
        }
        if !DATAFUSION.iter().any(|call| call.starts_with(&format!("{name}("))) {
            let refused = bind_aggregation(&[(None, format!("{name}(i)"))], &schema, Dialect::DataFusion);
            schema_error(refused.map(|a| a.outputs()), &[name]);
        }
    }
    let refused = |text: &str, parts: &[&str]| {
        let bound = bind_aggregation(&[(None, text.to_string())], &schema, Dialect::DataFusion);
        schema_error(bound.map(|a| a.outputs()), parts);
    };
    refused("first_value(i)", &["first_value", "order of the rows", "ORDER BY time"]);
    refused("last_value(i) IGNORE NULLS", &["last_value", "order of the rows"]);
    refused("nth_value(i, 2)", &["nth_value", "order of the rows"]);
    refused("string_agg(s, ',')", &["string_agg", "order of the rows"]);
    refused("sum(i ORDER BY j)", &["ORDER BY changes nothing in sum"]);
    refused("nth_value(i, j ORDER BY e)", &["constant"]);
    refused("array_agg(DISTINCT s ORDER BY i)", &["DISTINCT", "the value itself"]);
    however_cut(DATAFUSION, Dialect::DataFusion);
}

/// In plain Rust: the rows by key (NULLs first), then by value.
#[test]
fn rows_are_taken_in_the_order_that_is_asked_for_and_ties_in_that_of_their_values() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let schema = schema("g INT, k INT, v STRING");
    for _ in 0..200 {
        let count = rng.random_range(1..12);
        let mut table: Vec<(Option<i32>, Option<String>)> = (0..count)
            .map(|_| {
                let k = (rng.random_range(0..4) > 0).then(|| rng.random_range(0..3));
                let v = (rng.random_range(0..4) > 0).then(|| ["x", "y", "z"][rng.random_range(0..3usize)].to_string());
                (k, v)
            })
            .collect();
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Int32Array::from(vec![1; count])),
                Arc::new(table.iter().map(|r| r.0).collect::<Int32Array>()),
                Arc::new(table.iter().map(|r| r.1.clone()).collect::<StringArray>()),
            ],
        )
        .unwrap();
        let ask = |text: &str| {
            let bound = bind_aggregation(&[(None, text.to_string())], &schema, Dialect::Databricks).unwrap();
            let mut groups = Groups::new(&key_schema(), &bound.aggregates).unwrap();
            update(&mut groups, &bound, &batch).unwrap();
            results(groups, &bound).unwrap().remove("1").unwrap()
        };
        table.sort();
        let values = |rows: &[(Option<i32>, Option<String>)]| rows.iter().map(|r| json!(r.1)).collect::<Vec<_>>();
        let set: Vec<_> = table.iter().filter(|r| r.1.is_some()).cloned().collect();
        assert_eq!(ask("first(v ORDER BY k)"), values(&table)[0]);
        assert_eq!(ask("last(v ORDER BY k)"), *values(&table).last().unwrap());
        let first_set = values(&set).first().cloned().unwrap_or_default();
        assert_eq!(ask("first_value(v ORDER BY k) IGNORE NULLS"), first_set);
        assert_eq!(ask("first_value(v, true ORDER BY k)"), first_set);
        assert_eq!(ask("first_value(v IGNORE NULLS ORDER BY k)"), first_set);
        assert_eq!(ask("first_value(v ORDER BY k) RESPECT NULLS"), values(&table)[0]);
        assert_eq!(ask("nth_value(v, 3 ORDER BY k)"), values(&table).get(2).cloned().unwrap_or_default());
        assert_eq!(ask("collect_list(v ORDER BY k)"), json!({ "list": values(&set) }));
        let text = (!set.is_empty()).then(|| set.iter().map(|r| r.1.clone().unwrap()).collect::<Vec<_>>().join("+"));
        assert_eq!(ask("listagg(v, '+') WITHIN GROUP (ORDER BY k)"), json!(text));
        let keyed: Vec<_> = table.iter().filter(|r| r.0.is_some()).cloned().collect();
        assert_eq!(ask("min_by(v, k)"), values(&keyed).first().cloned().unwrap_or_default());
        assert_eq!(ask("max_by(v, k)"), values(&keyed).last().cloned().unwrap_or_default());
        let any = set.iter().filter_map(|r| r.1.clone()).min();
        assert_eq!(ask("any_value(v)"), json!(any));
        // Descending: NULL keys last; ties still by value.
        table.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        assert_eq!(ask("first(v ORDER BY k DESC)"), values(&table)[0]);
        table.sort_by(|a, b| b.0.is_none().cmp(&a.0.is_none()).then_with(|| b.0.cmp(&a.0)).then_with(|| a.1.cmp(&b.1)));
        assert_eq!(ask("first(v ORDER BY k DESC NULLS FIRST)"), values(&table)[0]);
    }
}

#[test]
fn an_order_that_is_missing_or_means_nothing_is_told_when_the_line_is_typed() {
    let schema = schema("bpm INT, time TIMESTAMP, model STRING, tags MAP<STRING, INT>");
    let refused = |text: &str, parts: &[&str]| {
        let bound = bind_aggregation(&[(None, text.to_string())], &schema, Dialect::Databricks);
        schema_error(bound.map(|a| a.outputs()), parts);
    };
    for call in ["first(bpm)", "first_value(bpm)", "last(bpm)", "last_value(bpm)"] {
        refused(call, &["have no order", &call.replace(')', " ORDER BY time)")]);
    }
    refused("nth_value(bpm, 2)", &["nth_value(bpm, 2 ORDER BY time)"]);
    refused("listagg(model, ';')", &["listagg(model, ';') WITHIN GROUP (ORDER BY time)"]);
    refused("string_agg(model)", &["string_agg(model, ', ') WITHIN GROUP (ORDER BY time)"]);
    refused("avg(bpm ORDER BY time)", &["avg", "ORDER BY changes nothing"]);
    refused("count(bpm) IGNORE NULLS", &["count", "IGNORE NULLS is not supported"]);
    refused("collect_list(bpm) RESPECT NULLS", &["RESPECT NULLS"]);
    refused("max(bpm) WITHIN GROUP (ORDER BY time)", &["max", "WITHIN GROUP"]);
    refused("first(bpm ORDER BY tags)", &["MAP<STRING, INT> has no order"]);
    refused("first(bpm ORDER BY time) OVER (PARTITION BY model)", &["OVER"]);
    refused("first(bpm ORDER BY time NULLS)", &["FIRST or LAST"]);
    refused("nth_value(bpm, 0 ORDER BY time)", &["greater than 0"]);
    refused("listagg(model, bpm) WITHIN GROUP (ORDER BY time)", &["separator", "constant"]);
    refused("listagg(DISTINCT model) WITHIN GROUP (ORDER BY time)", &["DISTINCT", "ORDER BY model"]);
    refused("collect_list(DISTINCT model)", &["DISTINCT"]);
    refused("hll_sketch_agg(bpm)", &["'hll_sketch_agg'", "approx_count_distinct"]);
    refused("histogram_numeric(bpm, 5)", &["'histogram_numeric'"]);
    refused("mode() WITHIN GROUP (ORDER BY bpm, model)", &["mode", "one expression"]);
    refused("percentile_cont(0.5)", &["WITHIN GROUP is missing"]);
    schema_error(bind("upper(model ORDER BY time)", &schema, Dialect::Databricks), &["upper: ORDER BY is only for"]);
    let texts =
        [(None, "first(bpm ORDER BY time DESC, model NULLS LAST) IGNORE NULLS FILTER (WHERE bpm > 0)".to_string())];
    let bound = bind_aggregation(&texts, &schema, Dialect::Databricks).unwrap();
    assert_eq!(
        bound.outputs()[0].name(),
        "first(bpm ORDER BY time DESC, model NULLS LAST) IGNORE NULLS FILTER (WHERE (bpm > 0))"
    );
    assert_eq!(bound.aggregates[0].order_by.len(), 2);
    assert!(!bound.aggregates[0].grows);
    let list = [(None, "collect_list(bpm ORDER BY time)".to_string())];
    assert!(bind_aggregation(&list, &schema, Dialect::Databricks).unwrap().aggregates[0].grows);
}

/// State files hold these bytes. If this test fails after an update of arrow, `state::STATE_VERSION` must change.
#[test]
fn rows_as_bytes_are_what_state_files_hold() {
    let schema = schema("g INT, k INT, v STRING");
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int32Array::from(vec![1])),
            Arc::new(Int32Array::from(vec![-2])),
            Arc::new(StringArray::from(vec!["é1"])),
        ],
    )
    .unwrap();
    let texts = [(None, "first(v ORDER BY k DESC)".to_string())];
    let bound = bind_aggregation(&texts, &schema, Dialect::Databricks).unwrap();
    let mut groups = Groups::new(&key_schema(), &bound.aggregates).unwrap();
    update(&mut groups, &bound, &batch).unwrap();
    let (_, states) = groups.into_states().unwrap();
    let hex: String = states[0].as_binary::<i32>().value(0).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "018000000102c3a931000000000003");
}
