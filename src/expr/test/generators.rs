//! Generators against the rows that a real Spark makes.

use super::*;

/// Calls that bayou refuses, or whose rows differ from Spark's on purpose; docs/sql.md lists them too.
const DIFFERENT: &[(&str, &str)] = &[];

/// The rows that are made of the rows of a batch, or why a row failed: all rows at once.
fn rows_of(generator: &Generator, batch: &RecordBatch) -> std::result::Result<Vec<Value>, String> {
    let mut args = vec![];
    for arg in &generator.args {
        let (array, failed) = arg.evaluate_rows(batch).unwrap();
        if let Some((_, why)) = failed.first() {
            return Err(why.clone());
        }
        args.push(array);
    }
    let (mut parents, mut places) = (vec![], vec![]);
    for (row, length) in generator.lengths(&args, batch.num_rows()).into_iter().enumerate() {
        match length {
            Some(n) => (0..n).for_each(|place| {
                parents.push(row as u32);
                places.push(Some(place));
            }),
            None => {
                parents.push(row as u32);
                places.push(None);
            }
        }
    }
    let columns = generator.columns(&args, &parents.clone().into(), &places.into()).unwrap();
    for (column, field) in columns.iter().zip(&generator.fields) {
        assert_eq!(column.data_type(), field.data_type(), "{}", generator.sql);
        assert!(field.is_nullable() || column.null_count() == 0, "{}: NULL in {}", generator.sql, field.name());
        assert_eq!(column.len(), parents.len());
    }
    Ok((0..parents.len()).map(|i| columns.iter().map(|c| shown(c, i)).collect()).collect())
}

fn problem(answer: &Value) -> Option<String> {
    let batch = &TABLES[answer["table"].as_str().unwrap()];
    let bound = bind_selection(&[answer["sql"].as_str().unwrap().into()], &batch.schema(), DB);
    let generator = match (bound, answer.get("refused")) {
        (Err(e), Some(_)) => return (e.kind != Kind::Schema).then(|| format!("a {:?} error: {e}", e.kind)),
        (Ok(_), Some(why)) => return Some(format!("bound, Spark refuses: {why}")),
        (Err(e), None) => return Some(format!("refused: {e}")),
        (Ok(s), None) => s.generator.unwrap(),
    };
    let names: Vec<&str> = generator.fields.iter().map(|f| f.name().as_str()).collect();
    if json!(names) != answer["names"] {
        return Some(format!("names {names:?}, Spark {}", answer["names"]));
    }
    for (field, theirs) in generator.fields.iter().zip(answer["types"].as_array().unwrap()) {
        let ours = type_to_ddl(field.data_type()).to_lowercase().replace(": ", ":").replace(", ", ",");
        if ours != theirs.as_str().unwrap().to_lowercase() {
            return Some(format!("type {ours}, Spark {theirs}"));
        }
    }
    let theirs = answer["rows"].as_array().unwrap();
    let mut all = vec![];
    for (i, theirs) in theirs.iter().enumerate() {
        match (rows_of(&generator, &batch.slice(i, 1)), theirs.get("error")) {
            (Err(_), Some(_)) => {}
            (Err(e), None) => return Some(format!("row {i} fails ({e}), Spark {theirs}")),
            (Ok(ours), Some(e)) => return Some(format!("row {i}: {ours:?}, Spark fails with {e}")),
            (Ok(ours), None) => {
                if !same(&json!(ours), theirs, 0.0) {
                    return Some(format!("row {i}: {}, Spark {theirs}", json!(ours)));
                }
                all.extend(ours);
            }
        }
    }
    // All rows at once give the rows of each, one after the other.
    match rows_of(&generator, batch) {
        Ok(together) if together != all => Some("together they are others".into()),
        _ => None,
    }
}

#[test]
fn generators_make_the_rows_that_spark_makes() {
    let answers = ANSWERS["generators"].as_array().unwrap();
    let mut wrong = vec![];
    for answer in answers {
        let sql = answer["sql"].as_str().unwrap();
        let known = DIFFERENT.iter().any(|(s, _)| *s == sql);
        match problem(answer) {
            Some(_) if known => {}
            Some(p) => wrong.push(format!("{sql}: {p}")),
            None if known => wrong.push(format!("{sql}: is listed as different but is the same")),
            None => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ from Spark:\n{}", wrong.len(), answers.len(), wrong.join("\n"));
}
