//! The syntax tree of an expression.

use crate::expr::json_path::Step;
use arrow::datatypes::DataType;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::expr) enum Ast {
    /// `a`, `a.b.c`.
    Column(Vec<String>),
    Star,
    Null,
    Bool(bool),
    Text(String),
    /// The number as it was typed, with its suffix. It may have a minus sign.
    Number(String),
    /// DATE '…', TIMESTAMP '…', X'…'.
    Typed(String, String),
    /// Months, microseconds, and the text that Spark prints.
    Interval {
        months: i64,
        micros: i64,
        /// The first and the last unit, as places in YEAR, MONTH, DAY, HOUR, MINUTE, SECOND.
        units: (u8, u8),
        sql: String,
    },
    Unary(&'static str, Box<Ast>),
    Binary(&'static str, Box<Ast>, Box<Ast>),
    IsNull(Box<Ast>, bool),
    /// IS [NOT] TRUE / FALSE.
    IsBool {
        operand: Box<Ast>,
        value: bool,
        negated: bool,
    },
    In {
        operand: Box<Ast>,
        list: Vec<Ast>,
        negated: bool,
    },
    Between {
        operand: Box<Ast>,
        low: Box<Ast>,
        high: Box<Ast>,
        negated: bool,
    },
    /// LIKE, ILIKE, RLIKE.
    Like {
        kind: &'static str,
        operand: Box<Ast>,
        pattern: Box<Ast>,
        escape: Option<char>,
        negated: bool,
    },
    /// LIKE ANY (…), LIKE ALL (…).
    LikeSome {
        kind: &'static str,
        operand: Box<Ast>,
        patterns: Vec<Ast>,
        all: bool,
        negated: bool,
    },
    Case {
        operand: Option<Box<Ast>>,
        branches: Vec<(Ast, Ast)>,
        otherwise: Option<Box<Ast>>,
    },
    Cast {
        operand: Box<Ast>,
        to: DataType,
        r#try: bool,
    },
    Field(Box<Ast>, String),
    /// `struct.*`: each field.
    Fields(Box<Ast>),
    /// `operand:a.b[0]`.
    Path(Box<Ast>, Vec<Step>),
    Subscript(Box<Ast>, Box<Ast>),
    Function(Function),
    /// `x -> body`, `(x, y) -> body`.
    Lambda(Vec<String>, Box<Ast>),
    /// `struct(a, b AS name)`, and as a tuple `(a, b)`.
    Struct {
        items: Vec<(Ast, Option<String>)>,
        tuple: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::expr) struct Function {
    /// In lower case.
    pub name: String,
    pub args: Vec<Ast>,
    pub distinct: bool,
    pub filter: Option<Box<Ast>>,
    /// Between the parentheses, or after WITHIN GROUP.
    pub order_by: Vec<Order>,
    pub within_group: bool,
    /// IGNORE NULLS is true, RESPECT NULLS false.
    pub ignore_nulls: Option<bool>,
}

impl Function {
    pub(crate) fn plain(name: &str, args: Vec<Ast>) -> Ast {
        Ast::Function(Self { name: name.to_lowercase(), args, ..Self::default() })
    }

    /// The clause of the call that only aggregate functions may have, if there is one.
    pub(crate) fn aggregate_clause(&self) -> Option<&'static str> {
        if self.distinct {
            return Some("DISTINCT");
        }
        if self.filter.is_some() {
            return Some("FILTER");
        }
        if self.within_group {
            return Some("WITHIN GROUP");
        }
        if !self.order_by.is_empty() {
            return Some("ORDER BY");
        }
        self.ignore_nulls.map(|ignore| if ignore { "IGNORE NULLS" } else { "RESPECT NULLS" })
    }
}

/// `expr [ASC | DESC] [NULLS FIRST | LAST]`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::expr) struct Order {
    pub ast: Ast,
    pub descending: bool,
    /// `None` where the text does not say it; NULL is the smallest value in Spark.
    pub nulls_first: Option<bool>,
}
