use super::*;
use crate::batch::{Message, Messages};
use crate::expr::{Dialect, bind_selection};
use crate::position::TopicPartition;
use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use rand::{RngExt, SeedableRng};

type Rng = rand_chacha::ChaCha8Rng;

/// The rows that were made, and input rows that failed with the batch that they are in.
struct Exploded {
    batches: Vec<Batch>,
    failed: Failed,
}

fn all(step: &Arc<Explode>, input: &Batch) -> Exploded {
    let (mut rows, failed) = step.begin(input).unwrap();
    let mut batches = vec![];
    while let Some(batch) = rows.next().unwrap() {
        assert!(!batch.is_empty());
        batches.push(batch);
    }
    assert!(rows.is_done());
    Exploded { batches, failed }
}

fn step(items: &[&str], schema: &SchemaRef) -> Arc<Explode> {
    let items: Vec<String> = items.iter().map(|i| i.to_string()).collect();
    let selection = bind_selection(&items, schema, Dialect::Databricks).unwrap();
    Arc::new(Explode::new(selection.items, selection.generator.unwrap(), schema))
}

/// Rows `n, list, map`; some lists are NULL, some NULL lists still have elements in memory.
fn input(rng: &mut Rng, rows: usize) -> (Batch, Vec<Option<Vec<Option<i32>>>>) {
    let lists: Vec<Option<Vec<Option<i32>>>> = (0..rows)
        .map(|_| {
            let n = if rng.random_bool(0.1) { 60 } else { rng.random_range(0..4) };
            let one = |_| rng.random_bool(0.8).then(|| rng.random_range(0..100));
            let list = (0..n).map(one).collect();
            rng.random_bool(0.8).then_some(list)
        })
        .collect();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone());
    let field = Arc::new(Field::new("element", DataType::Int32, true));
    let mut list =
        ListArray::try_new(field.clone(), list.offsets().clone(), list.values().clone(), list.nulls().cloned())
            .unwrap();
    let mut lists = lists;
    if rng.random_bool(0.5) {
        // A list that becomes NULL keeps its elements in memory.
        let hidden: Vec<bool> = (0..rows).map(|i| list.is_valid(i) && rng.random_bool(0.8)).collect();
        let nulls = Some(hidden.clone().into());
        list = ListArray::try_new(field, list.offsets().clone(), list.values().clone(), nulls).unwrap();
        lists = lists.into_iter().zip(hidden).map(|(l, shown)| l.filter(|_| shown)).collect();
    }
    let n: Int32Array = (0..rows as i32).collect();
    let rows_of = RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("l", Arc::new(list))]).unwrap();
    let mut messages = Messages::new(vec![TopicPartition::new("t", 0)].into());
    for i in 0..rows {
        messages.push(Message { offset: i as i64 * 3, ..Message::default() }, usize::MAX);
    }
    let origin = Origin::new(Arc::new(messages), (0..rows as u32).collect::<Vec<_>>().into());
    let batch = Batch::new(rows_of, Some(origin));
    // A part of a batch: its offsets do not begin at 0.
    let from = rng.random_range(0..=rows / 2);
    (batch.slice(from, rows - from), lists.split_off(from))
}

/// (n, position, element, offset of the message, place in the message)
type Made = (i32, Option<i32>, Option<i32>, i64, Vec<Option<u32>>);

fn made(batches: &[Batch]) -> Vec<Made> {
    let mut out = vec![];
    for b in batches {
        assert!(b.len() <= ROWS);
        let column = |i: usize| b.rows.column(i).as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
        let (n, at, x, origin) = (column(0), column(1), column(2), b.origin.as_ref().unwrap());
        for i in 0..b.len() {
            let offset = origin.messages.offsets[origin.message(i)];
            out.push((n[i].unwrap(), at[i], x[i], offset, origin.element(i).collect()));
        }
    }
    out
}

#[test]
fn every_element_becomes_a_row_with_its_message_and_its_place_for_random_lists() {
    let mut rng = Rng::seed_from_u64(15);
    for round in 0..200 {
        let rows = rng.random_range(0..60);
        let (batch, lists) = input(&mut rng, rows);
        let outer = round % 2 == 1;
        let call = if outer { "posexplode_outer(l) AS (at, x)" } else { "posexplode(l) AS (at, x)" };
        let step = step(&["n", call], &batch.rows.schema());
        let out = all(&step, &batch);
        assert!(out.failed.iter().all(|(_, f)| f.is_empty()));
        let first = batch.rows.column(0).as_primitive::<Int32Type>();
        let mut wanted: Vec<Made> = vec![];
        for (i, list) in lists.iter().enumerate() {
            let n = first.value(i);
            let list = list.clone().unwrap_or_default();
            for (at, x) in list.iter().enumerate() {
                wanted.push((n, Some(at as i32), *x, i64::from(n) * 3, vec![Some(at as u32)]));
            }
            if list.is_empty() && outer {
                wanted.push((n, None, None, i64::from(n) * 3, vec![None]));
            }
        }
        assert_eq!(made(&out.batches), wanted);
        assert_eq!(step.schema().field(1).is_nullable(), outer);
    }
}

#[test]
fn rows_of_rows_have_the_places_of_both_steps() {
    let schema = Arc::new(crate::expr::parse_ddl("n INT, l ARRAY<INT>").unwrap());
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(7), Some(8)]), None]);
    let DataType::List(field) = schema.field(1).data_type() else { panic!() };
    let list = ListArray::try_new(field.clone(), list.offsets().clone(), list.values().clone(), list.nulls().cloned());
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(list.unwrap())];
    let mut messages = Messages::new(vec![TopicPartition::new("t", 0)].into());
    (0..2).for_each(|offset| messages.push(Message { offset, ..Message::default() }, usize::MAX));
    let origin = Origin::new(Arc::new(messages), vec![0, 1].into());
    let batch = Batch::new(RecordBatch::try_new(schema.clone(), columns).unwrap(), Some(origin));
    let once = all(&step(&["n", "explode_outer(l) AS x"], &schema), &batch).batches;
    let twice = all(&step(&["n", "x", "stack(2, n, x) AS y"], &once[0].rows.schema()), &once[0]).batches;
    let origin = twice[0].origin.as_ref().unwrap();
    let places: Vec<Vec<Option<u32>>> = (0..twice[0].len()).map(|i| origin.element(i).collect()).collect();
    let (a, b) = (Some(0), Some(1));
    let wanted = [vec![a, a], vec![a, b], vec![b, a], vec![b, b], vec![None, a], vec![None, b]];
    assert_eq!(places, wanted);
    assert_eq!(origin.rows.values(), &[0, 0, 0, 0, 1, 1]);
    let y: Vec<_> = twice[0].rows.column(2).as_primitive::<Int32Type>().iter().collect();
    assert_eq!(y, [Some(1), Some(7), Some(1), Some(8), Some(2), None]);
}

#[test]
fn a_row_whose_columns_fail_makes_no_rows_and_the_others_all() {
    let (batch, lists) = input(&mut Rng::seed_from_u64(3), 40);
    let step = step(&["10 / (n % 4) AS q", "explode(l) AS x"], &batch.rows.schema());
    let out = all(&step, &batch);
    let first = batch.rows.column(0).as_primitive::<Int32Type>().value(0) as usize;
    let fails = |i: usize| (first + i).is_multiple_of(4);
    let failed: Vec<u32> = out.failed[0].1.iter().map(|f| f.row).collect();
    assert_eq!(failed, (0..batch.len()).filter(|i| fails(*i)).map(|i| i as u32).collect::<Vec<_>>());
    let wanted: usize =
        lists.iter().enumerate().filter(|(i, _)| !fails(*i)).map(|(_, l)| l.as_ref().map_or(0, Vec::len)).sum();
    assert_eq!(out.batches.iter().map(Batch::len).sum::<usize>(), wanted);
}

#[test]
fn a_long_value_that_is_repeated_comes_in_several_batches() {
    let long = "x".repeat(BYTES / 4);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some((0..30).map(Some)), Some((0..50).map(Some))]);
    let rows = RecordBatch::try_from_iter([
        ("s", Arc::new(StringArray::from(vec![long.as_str(), "y"])) as ArrayRef),
        ("l", Arc::new(list)),
    ])
    .unwrap();
    let out = all(&step(&["s", "explode(l) AS x"], &rows.schema()), &Batch::new(rows, None));
    let lengths: Vec<usize> = out.batches.iter().map(Batch::len).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 80);
    assert!(lengths[..7].iter().all(|n| *n == 4) && lengths.len() == 8, "{lengths:?}");
}

#[test]
fn a_row_whose_rows_would_be_too_long_fails_and_the_others_are_made() {
    // The select list has the list and its elements, so the size of the rows grows with the square of its length.
    let lengths = [3, 2_000, 0, 40_000, 5];
    let list = |n: &i32| Some((0..*n).map(Some).collect::<Vec<_>>());
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(lengths.iter().map(list));
    let n = Int32Array::from(vec![1, 2, 0, 3, 4]);
    let rows = RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("l", Arc::new(list))]).unwrap();
    // The third row fails by itself, so the rows behind it have different places in the computed columns.
    let step = step(&["l", "1 / n AS q", "explode(l) AS x"], &rows.schema());
    let out = all(&step, &Batch::new(rows, None));
    let (_, failed) = &out.failed[0];
    assert_eq!(failed.iter().map(|f| f.row).collect::<Vec<_>>(), [2, 1, 3]);
    assert_eq!(
        failed[1].error,
        "explode(l): the rows that it makes of one row would be longer than 512 MiB. Leave the list itself and long columns out of this select"
    );
    assert_eq!(out.batches.iter().map(Batch::len).sum::<usize>(), 8);
}
