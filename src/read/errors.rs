//! Errors of the planner in bayou's words. The planner's own messages name its functions and types, and give advice about its settings.

use crate::Error;
use datafusion::error::DataFusionError;

/// Parts of the planner's messages, and bayou's message for each. The first part that matches counts.
const WORDS: &[(&str, &str)] = &[
    (
        "does not support logical expression WindowFunction",
        "a window function can be in SELECT, QUALIFY or ORDER BY only. Write a condition on its value in QUALIFY",
    ),
    (
        "does not support logical expression ScalarSubquery",
        "a subquery may compare its rows with rows of the outer query by = only. Use a join instead",
    ),
    (
        "Correlated scalar subquery must be aggregated",
        "a subquery that names columns from outside must return one row: aggregate its rows, as in max(…)",
    ),
    ("Scalar subquery returned more than one row", "a subquery that is used as a value has more than one row"),
    ("Too many columns! The subquery", "a subquery that is used as a value must have one column"),
    ("HAVING clause references", "HAVING names a column that is neither in GROUP BY nor within an aggregate function"),
    ("Aggregate functions are not allowed in the WHERE", "aggregate functions are not allowed in WHERE. Use HAVING"),
    ("Cannot create filter with non-boolean predicate", "a condition is not BOOLEAN. Compare its value with something"),
    (
        "Schema contains duplicate qualified field name",
        "two tables in FROM have the same name. Give one of them an alias",
    ),
    ("Projections require unique expression names", "two columns have the same name. Give one of them an alias"),
    ("which would be ambiguous", "two columns have the same name. Give one of them an alias"),
    ("Expected LIMIT to be an integer", "LIMIT takes a whole number"),
    ("Cast error: Cannot cast", "a value does not fit the type of the other values. Use CAST"),
    ("expected zero argument", "a window function has arguments that it does not take"),
    ("No function matches the given name", "a function has arguments that it does not take"),
    ("Cannot access field at argument", "a name is followed by a field that it does not have"),
    ("join condition should not be empty", "a LATERAL join needs ON"),
    ("to grouping function is not in grouping columns", "grouping takes a column that is in GROUP BY"),
    ("CreateMemoryTable", "only reading is possible: SELECT … INTO is not supported"),
    ("does not support DistributeBy", "DISTRIBUTE BY is not supported: the result is one table. Use ORDER BY"),
    ("CLUSTER BY", "CLUSTER BY is not supported: the result is one table. Use ORDER BY"),
    ("SORT BY", "SORT BY is not supported: the result is one table. Use ORDER BY"),
    ("FETCH clause", "FETCH is not supported. Use LIMIT"),
];

pub(super) fn explained(e: &DataFusionError) -> Error {
    let root = e.find_root();
    // bayou's own errors have bayou's words already.
    if let DataFusionError::External(own) = root
        && let Some(own) = own.downcast_ref::<Error>()
    {
        return Error::schema(format!("SQL: {}", own.message));
    }
    Error::schema(format!("SQL: {}", said(&root.to_string().replace("datafusion.public.", ""))))
}

fn said(root: &str) -> String {
    if let Some((before, _)) = root.split_once("\" must appear in the GROUP BY") {
        let name = before.rsplit('"').next().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or(name);
        return format!("column {name} is neither in GROUP BY nor within an aggregate function");
    }
    if let Some((_, rest)) = root.split_once("No field named ") {
        let name = rest.split(['\n', ' ']).next().unwrap_or_default().trim_end_matches('.');
        let valid = rest.split_once("Valid fields are ").map(|(_, all)| all.lines().next().unwrap_or_default());
        let valid = valid.map(|all| format!(" The columns are: {}", all.trim_end_matches('.'))).unwrap_or_default();
        return format!("there is no column {name}.{valid}");
    }
    if let Some((_, name)) = root.split_once("Ambiguous reference to unqualified field ") {
        return format!("column {name} is in more than one table. Say which, as in t.{name}");
    }
    if let Some((_, name)) = root.split_once("Invalid qualifier ") {
        return format!("there is no table {name} in FROM");
    }
    if root.contains("Invalid function '") {
        return "this function of a table is not known here. For explode and similar functions, write LATERAL VIEW explode(…) AS x"
            .into();
    }
    if let Some((_, words)) = WORDS.iter().find(|(part, _)| root.contains(part)) {
        return (*words).into();
    }
    // Hints about settings and bugs of the planner do not help the user.
    let own = |line: &&str| {
        !["Column names are case sensitive", "This issue was likely caused by a bug"]
            .iter()
            .any(|w| line.starts_with(w))
    };
    let lines: Vec<&str> = root.lines().filter(own).collect();
    let mut root = lines.join("\n");
    for prefix in [
        "External error: ",
        "Error during planning: ",
        "Schema error: ",
        "Execution error: ",
        "Internal error: ",
        "Arrow error: ",
    ] {
        root = root.strip_prefix(prefix).map_or(root.clone(), str::to_string);
    }
    let root = root.replace("This feature is not implemented: ", "not supported: ");
    root.split(" To implicitly").next().unwrap_or(&root).trim_end().to_string()
}
