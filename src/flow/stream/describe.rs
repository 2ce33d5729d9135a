//! Steps as text: for people, and to distinguish two steps. Checkpoints keep these texts, so a text that changes makes a step a different one.

use super::Op;
use crate::expr::{Bound, Selected};
use crate::flow::said::Said;
use crate::time::format_duration;
use std::sync::Arc;

pub(in crate::flow) fn describe(op: &Op, said: &Said) -> String {
    match op {
        Op::Kafka(s) => s.describe(),
        Op::Messages(s) => format!("{} messages at hand", s.count()),
        Op::Rows(s) => format!("{} rows at hand", s.count()),
        Op::Union => "union".into(),
        Op::Project(_) | Op::Explode(_) => match said {
            Said::Select { items, .. } => format!("select {}", items.join(", ")),
            Said::WithColumns { items, .. } => format!("with columns {}", items.join(", ")),
            Said::Rename { names } => {
                let each: Vec<_> = names.iter().map(|(old, new)| format!("{old} to {new}")).collect();
                format!("rename {}", each.join(", "))
            }
            Said::Drop { names } => format!("drop {}", names.join(", ")),
            _ => "columns".into(),
        },
        Op::Decode(d) => d.describe(),
        Op::Filter(f) => format!("where {}", f.condition.sql),
        Op::Expect(r) => format!("expect '{}': {} (else {})", r.name, r.condition.sql, r.action.name()),
        Op::Watermark(w) => format!("watermark {} after {}", w.column, format_duration(w.delay)),
        Op::Aggregate(a) => {
            let aggregates: Vec<_> = a.aggregation.outputs().iter().map(|f| f.name().clone()).collect();
            format!("aggregate by {}: {}", a.grouping(), aggregates.join(", "))
        }
        Op::Deduplicate(d) => {
            let keys: Vec<&str> = d.keys.iter().map(|k| k.sql.as_str()).collect();
            format!("drop duplicates of {} within {}", keys.join(", "), format_duration(d.within))
        }
        Op::IntervalJoin(j) => format!(
            "{} join on {}, the other's time from {} before to {} after",
            j.how,
            keys(&j.on),
            format_duration(j.before),
            format_duration(j.after)
        ),
        Op::StaticJoin(j) => format!("{} join on {} with {}", j.spec.how, keys(&j.spec.on), j.side.describe()),
        Op::Map(m) => format!("map_batches {}", m.function.name()),
        Op::Named(name) => format!("named {name}"),
        Op::Table(name) => format!("rows of {name}"),
    }
}

/// Everything that distinguishes two steps within one process. The names on disk are made by `flow::identity`.
pub(in crate::flow) fn identity(op: &Op, said: &Said) -> String {
    match op {
        Op::Kafka(s) => s.identity(),
        Op::Messages(s) => format!("messages {:p}", Arc::as_ptr(&s.messages)),
        Op::Rows(s) => format!("rows {}", s.id),
        Op::Project(p) => {
            format!("project {:?}", p.columns.iter().map(|c| (&c.name, c.identity())).collect::<Vec<_>>())
        }
        Op::Explode(e) => format!("explode {:?} {}", selected(&e.items), e.generator.identity()),
        Op::Decode(d) => format!("{} {}", d.describe(), d.options.identity()),
        Op::Filter(f) => format!("where {}", f.condition.identity()),
        Op::Expect(r) => format!("expect {:?} {:?} {:?}", r.name, r.condition.identity(), r.action),
        Op::Watermark(w) => format!("watermark {w:?}"),
        Op::Aggregate(a) => {
            format!("aggregate {} {:?}{}", a.description(), a.schema, a.aggregation.functions().join(","))
        }
        Op::Map(m) => format!("map {}", m.function.identity()),
        Op::StaticJoin(j) => format!("{} {}", describe(op, said), j.side.identity()),
        Op::Union | Op::Named(_) | Op::Table(_) | Op::Deduplicate(_) | Op::IntervalJoin(_) => describe(op, said),
    }
}

fn keys(on: &[(Bound, Bound)]) -> String {
    let pair =
        |(l, r): &(Bound, Bound)| if l.name == r.name { l.name.clone() } else { format!("{} = {}", l.name, r.name) };
    on.iter().map(pair).collect::<Vec<_>>().join(", ")
}

/// The items of a select list with a generator: the name and identity of each column. None: a column that the generator makes.
pub(in crate::flow) fn selected(items: &[Selected]) -> Vec<Option<(String, String)>> {
    let one = |item: &Selected| match item {
        Selected::Column(c) => Some((c.name.clone(), c.identity())),
        Selected::Generated(_) => None,
    };
    items.iter().map(one).collect()
}
