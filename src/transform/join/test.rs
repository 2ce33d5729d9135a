use super::*;
use crate::Kind;
use crate::expr::{parse_ddl, to_ddl};

fn ddl(text: &str) -> SchemaRef {
    Arc::new(parse_ddl(text).unwrap())
}

fn names(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(l, r)| (l.to_string(), r.to_string())).collect()
}

#[test]
fn keys_are_found_in_any_case_and_the_narrower_one_is_cast() {
    let (left, right) = (ddl("Id INT, f FLOAT, s STRING"), ddl("id BIGINT, `a b` DOUBLE, S STRING"));
    let on = bind_on(&names(&[("ID", "ID"), ("f", "a b"), ("s", "s")]), &left, &right).unwrap();
    let types: Vec<_> = on.iter().map(|(l, r)| (l.data_type.clone(), r.data_type.clone())).collect();
    let same = |t: DataType| (t.clone(), t);
    assert_eq!(types, [same(DataType::Int64), same(DataType::Float64), same(DataType::Utf8)]);
    let bound: Vec<_> =
        on.iter().map(|(l, r)| (l.name.as_str(), r.name.as_str(), l.as_column(), r.as_column())).collect();
    assert_eq!(bound, [("Id", "id", None, Some(0)), ("f", "a b", None, Some(1)), ("s", "S", Some(2), Some(2))]);
}

#[test]
fn keys_of_different_kinds_are_refused_with_the_cast_to_write() {
    let (left, right) = (ddl("a INT, d DECIMAL(10,2)"), ddl("b STRING, d DECIMAL(12,2), f DOUBLE"));
    for (pair, words) in [
        (("a", "b"), "CAST(`b` AS INT) AS `b`"),
        (("d", "d"), "CAST(`d` AS DECIMAL(10,2)) AS `d`"),
        (("a", "f"), "CAST(`a` AS DOUBLE) AS `a`"),
        (("a", "c"), "the join's right side: there is no column 'c'"),
    ] {
        let e = bind_on(&names(&[pair]), &left, &right).unwrap_err();
        assert!(e.kind == Kind::Schema && e.message.contains(words), "{e}");
    }
    assert!(bind_on(&[], &left, &right).unwrap_err().message.contains("on="));
}

#[test]
fn columns_that_come_out_have_names_of_their_own() {
    let (left, right) =
        (ddl("id INT NOT NULL, v STRING, t TIMESTAMP"), ddl("ID BIGINT, V STRING NOT NULL, w INT NOT NULL"));
    let on = bind_on(&names(&[("id", "id")]), &left, &right).unwrap();
    let (kept, schema) = join_schema(&left, &right, &on, JoinKind::Inner, "_right").unwrap();
    assert_eq!(kept, [1, 2]);
    assert_eq!(
        to_ddl(&schema),
        to_ddl(&ddl("id INT NOT NULL, v STRING, t TIMESTAMP, V_right STRING NOT NULL, w INT NOT NULL"))
    );
    let (_, schema) = join_schema(&left, &right, &on, JoinKind::Left, "2").unwrap();
    assert_eq!(to_ddl(&schema), to_ddl(&ddl("id INT NOT NULL, v STRING, t TIMESTAMP, V2 STRING, w INT")));

    let other = bind_on(&names(&[("v", "V")]), &left, &right).unwrap();
    let (kept, _) = join_schema(&left, &right, &other, JoinKind::Inner, "_right").unwrap();
    assert_eq!(kept, [0, 2], "'id' is no key here: it comes as ID_right");

    let taken = ddl("v STRING, v_right STRING");
    let e = join_schema(&taken, &right, &[], JoinKind::Inner, "_right").unwrap_err();
    assert!(e.kind == Kind::Schema && e.message.contains("V_right") && e.message.contains("rename()"), "{e}");
}
