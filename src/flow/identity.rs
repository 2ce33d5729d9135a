//! The names of state on disk. The names of operators and watermarks in seals are made only here, from named fields. So a new field in a struct
//! does not change a name, and a library that prints a type differently does not change a name.
//!
//! A name must be the same in every run of a query, even if the plan around the stream changes. Steps that produce different rows must have
//! different names. A Python function is identified by its name.

use super::stream::describe::{describe, identity as within_a_process, selected};
use super::stream::{Op, Stream};
use crate::expr::{Bound, to_ddl};
use crate::hash::hex;
use crate::time::format_duration;
use crate::window::{Emit, OnIdle, WatermarkSpec};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The version of the texts below. A change of any text needs a new version. Names of the previous version are found by code that must not
/// change (`operator_before`).
pub const VERSION: u32 = 2;

fn micros(d: Duration) -> u64 {
    d.as_micros().try_into().unwrap_or(u64::MAX)
}

fn keys(on: &[(Bound, Bound)]) -> Value {
    on.iter().map(|(l, r)| json!([l.name, r.name])).collect()
}

/// One step. None for steps that do not change rows.
fn step(op: &Op) -> Option<Value> {
    Some(match op {
        Op::Kafka(s) => json!({
            "kafka": s.topics.labels(),
            "schema": s.schema.as_ref().map(|s| to_ddl(s)),
            "decode": s.decode.identity(),
        }),
        Op::Messages(s) => json!({ "messages": s.schema.as_ref().map(|s| to_ddl(s)), "decode": s.decode.identity() }),
        Op::Rows(s) => json!({ "rows": to_ddl(&s.schema) }),
        Op::Union => json!({ "union": true }),
        Op::Project(p) => {
            json!({ "columns": p.columns.iter().map(|c| json!([c.name, c.identity()])).collect::<Vec<_>>() })
        }
        Op::Explode(e) => json!({
            "columns": selected(&e.items),
            "rows": e.generator.identity(),
            "names": e.generator.fields.iter().map(|f| f.name()).collect::<Vec<_>>(),
        }),
        Op::Decode(d) => json!({
            "decode": d.value.name,
            "into": d.result_name(),
            "schema": d.declared.as_ref().map(|s| to_ddl(s)),
            "options": d.options.identity(),
        }),
        Op::Filter(f) => json!({ "where": f.condition.identity() }),
        Op::Expect(r) => {
            json!({ "expect": &*r.name, "condition": r.condition.identity(), "action": r.action.name() })
        }
        Op::Watermark(w) => json!({
            "watermark": w.column,
            "delay_us": micros(w.delay),
            "idle_timeout_us": micros(w.idle_timeout),
            "max_future_us": micros(w.max_future),
            "late": if w.quarantine_late { "quarantine" } else { "drop" },
            "on_idle": match w.on_idle { OnIdle::Hold => "hold", OnIdle::Advance => "advance" },
        }),
        Op::Aggregate(a) => json!({
            "aggregate": a.description(),
            "schema": to_ddl(&a.schema),
            "functions": a.aggregation.function_names(),
        }),
        Op::Map(m) => json!({ "map_batches": m.function.name(), "schema": to_ddl(&m.schema) }),
        Op::Deduplicate(d) => json!({
            "drop_duplicates": d.keys.iter().map(|k| k.identity()).collect::<Vec<_>>(),
            "within_us": micros(d.within),
        }),
        Op::IntervalJoin(j) => json!({
            "join_stream": j.how.to_string(),
            "on": keys(&j.on),
            "before_us": micros(j.before),
            "after_us": micros(j.after),
        }),
        Op::StaticJoin(j) => json!({
            "join_table": j.spec.how.to_string(),
            "on": keys(&j.spec.on),
            "table": j.side.place(),
        }),
        Op::Named(_) | Op::Table(_) => return None,
    })
}

/// All steps of a stream, inputs first.
fn steps(stream: &Stream) -> Value {
    let mut out: Vec<Value> = stream.0.inputs.iter().map(steps).collect();
    out.extend(step(&stream.0.op));
    Value::Array(out)
}

fn emitted(emit: Option<Emit>) -> &'static str {
    match emit {
        None => "",
        Some(Emit::OnClose) => "on_close",
        Some(Emit::Update) => "update",
        Some(Emit::Complete) => "complete",
    }
}

fn short(text: &str) -> String {
    hex(Sha256::digest(text.as_bytes()), 4)
}

/// The name of a stateful step: the table that the step was first made for, and a hash of the steps that lead to it. No table name contains '+'.
pub fn operator(table: &str, stream: &Stream, emit: Option<Emit>) -> String {
    let text = json!({ "version": VERSION, "steps": steps(stream), "emit": emitted(emit) }).to_string();
    format!("{table}+{}", short(&text))
}

/// The name of the same step in version 1, which was made from Rust's debug text. This name is only used to find state that was written under it.
pub fn operator_before(table: &str, stream: &Stream, emit: Option<Emit>) -> String {
    fn steps(stream: &Stream) -> Vec<String> {
        let mut out: Vec<String> = vec![];
        for input in &stream.0.inputs {
            out.push("(".into());
            out.extend(steps(input));
            out.push(")".into());
        }
        match &stream.0.op {
            Op::Kafka(s) => {
                let schema = s.schema.as_ref().map(|s| to_ddl(s)).unwrap_or_default();
                out.push(format!("{} {schema} {}", s.describe(), s.decode.identity()));
            }
            Op::Named(_) | Op::Table(_) => {}
            op => out.push(within_a_process(op, &stream.0.said)),
        }
        out
    }
    let emit = emit.map_or(String::new(), |e| format!("{e:?}"));
    format!("{table}+{}", short(&format!("{:?} {emit}", steps(stream))))
}

/// The name of a watermark. The name does not depend on the position in the plan, because tables are added, removed and reordered.
pub fn watermark(spec: &WatermarkSpec, topics: &[String]) -> String {
    format!("{}@{} after {}", spec.column, topics.join("+"), format_duration(spec.delay))
}

/// The stateful steps with their inputs. Other steps are left out, because they may change between runs.
pub fn signature(stream: &Stream) -> String {
    let inputs: Vec<String> = stream.0.inputs.iter().map(signature).collect();
    let inputs = inputs.join(", ");
    match &stream.0.op {
        Op::Aggregate(a) => format!("aggregate({inputs}; {})", a.description()),
        op @ (Op::Deduplicate(_) | Op::IntervalJoin(_)) => format!("({inputs}; {})", describe(op, &stream.0.said)),
        Op::Union => format!("union({inputs})"),
        Op::Kafka(s) => s.topics.labels().join("+"),
        _ => inputs,
    }
}
