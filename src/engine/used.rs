//! Which columns of a joined table the query uses. The others are not held in memory.

use super::plan::{OperatorKind, Plan, Step};
use std::collections::BTreeSet;

/// Columns of a node's rows. None: all of them.
type Used = Option<BTreeSet<usize>>;

fn and(a: Used, b: Used) -> Used {
    let (mut a, b) = (a?, b?);
    a.extend(b);
    Some(a)
}

impl Plan {
    /// The columns of each node's rows that the steps behind it use.
    fn used(&self) -> Vec<Used> {
        let mut used: Vec<Used> = self.nodes.iter().map(|_| Some(BTreeSet::new())).collect();
        self.outputs.iter().for_each(|node| used[*node] = None);
        for node in (0..self.nodes.len()).rev() {
            let of_node = used[node].clone();
            for (which, input) in self.nodes[node].inputs.iter().enumerate() {
                let of_input = self.used_by(node, which, of_node.clone());
                used[*input] = and(used[*input].take(), of_input);
            }
        }
        used
    }

    /// The columns that a node needs of one of its inputs. Steps that are not listed need all columns.
    fn used_by(&self, node: usize, which: usize, of_node: Used) -> Used {
        match &self.nodes[node].step {
            Step::Project(p) => Some(p.columns.iter().flat_map(|c| c.columns()).copied().collect()),
            Step::Filter(f) => and(of_node, Some(f.condition.columns().iter().copied().collect())),
            Step::Union(columns) => Some(of_node?.into_iter().map(|c| columns[which][c]).collect()),
            Step::Watermark { tracker } => {
                let column = &self.trackers[*tracker].1.column;
                let (way, ..) = crate::expr::nested_field(column, &self.nodes[node].schema)?;
                and(of_node, Some(way.first().copied().into_iter().collect()))
            }
            Step::StaticJoin(join) => {
                let left = join.spec.schema.fields().len() - join.spec.right_columns.len();
                let passed = of_node.map(|of| of.into_iter().filter(|c| *c < left).collect());
                let keys = join.spec.on.iter().flat_map(|(stream, _)| stream.columns());
                and(passed, Some(keys.copied().collect()))
            }
            Step::Stateful { operator } => match &self.operators[*operator].kind {
                OperatorKind::Aggregate(spec, _) => Some(spec.columns()),
                OperatorKind::Deduplicate(_) | OperatorKind::IntervalJoin(_) => None,
            },
            _ => None,
        }
    }

    /// For each join with a table, the columns of its rows that are used. None: all columns. This is also the case if rows are
    /// set aside as they are, and not as the message that they came from.
    pub(crate) fn used_of_joins(&self) -> Vec<Used> {
        let used = self.used();
        let whole = |node: usize| {
            let mut ahead = vec![node];
            while let Some(at) = ahead.pop() {
                if matches!(
                    self.nodes[at].step,
                    Step::Stateful { .. } | Step::Explode(_) | Step::Map(_) | Step::Rows(_)
                ) {
                    return true;
                }
                ahead.extend(&self.nodes[at].inputs);
            }
            false
        };
        used.into_iter().enumerate().map(|(node, of)| of.filter(|_| !whole(node))).collect()
    }
}
