//! `array_sort` with a comparison. All lists are sorted in step, by binary insertion: each step makes one comparison of each list that is
//! not sorted yet, and the body of the lambda runs over all these pairs at once. Equal elements keep their order.

use crate::expr::evaluate::row_error;
use crate::expr::lists::list;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use datafusion::error::Result;

/// A list while it is being sorted. The elements in front of `next` are sorted already. The place of `next` is between
/// `low` and `high`.
struct Open {
    row: u32,
    next: usize,
    low: usize,
    high: usize,
    end: usize,
}

pub(super) fn by_comparison(
    lists: &ListArray,
    compare: impl Fn(&UInt32Array, ArrayRef, ArrayRef) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let mut order: Vec<u32> = (0..lists.values().len() as u32).collect();
    let mut open: Vec<Open> = vec![];
    for (row, pair) in lists.value_offsets().windows(2).enumerate() {
        let (from, end) = (pair[0] as usize, pair[1] as usize);
        if end - from > 1 {
            open.push(Open { row: row as u32, next: from + 1, low: from, high: from + 1, end });
        }
    }
    while !open.is_empty() {
        let owners: UInt32Array = open.iter().map(|o| o.row).collect();
        let left: UInt32Array = open.iter().map(|o| order[o.next]).collect();
        let right: UInt32Array = open.iter().map(|o| order[o.low.midpoint(o.high)]).collect();
        let answers = compare(&owners, take(lists.values(), &left, None)?, take(lists.values(), &right, None)?)?;
        let answers = answers.as_primitive::<Int32Type>();
        if answers.null_count() > 0 {
            return Err(row_error("the comparison of array_sort is NULL for two elements"));
        }
        let starts = lists.value_offsets();
        for (o, answer) in open.iter_mut().zip(answers.values()) {
            let middle = o.low.midpoint(o.high);
            if *answer < 0 {
                o.high = middle;
            } else {
                o.low = middle + 1;
            }
            if o.low == o.high {
                order[o.low..=o.next].rotate_right(1);
                o.next += 1;
                (o.low, o.high) = (starts[o.row as usize] as usize, o.next);
            }
        }
        open.retain(|o| o.next < o.end);
    }
    list(lists.offsets().clone(), take(lists.values(), &UInt32Array::from(order), None)?, lists.nulls().cloned())
}
