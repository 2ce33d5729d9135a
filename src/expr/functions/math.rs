//! Functions of numbers.

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::arith::{self, Int as Whole, Op};
use crate::expr::bits::{self, Shift};
use crate::expr::build;
use crate::expr::coerce::Param::{Any, Big, Double, Int, Number};
use crate::expr::coerce::{is_int, is_interval};
use crate::expr::compare::less;
use crate::expr::ddl::type_to_ddl;
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::{Args, Kernel, bools, is_true, nums, nums_as, strings};
use crate::expr::node::Typed;
use crate::expr::once::once;
use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{and, is_not_null, is_null, or};
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("abs", "abs(expr)", abs),
    spec("negative", "negative(expr)", |c| {
        let mut c = c.count(1, 1)?;
        arith::negate(c.args.remove(0)).map(|t| t.named(c.sql))
    }),
    spec("positive", "positive(expr)", |c| {
        let mut c = c.count(1, 1)?;
        arith::plus(c.args.remove(0))
    }),
    spec("sign", "sign(expr)", |c| unary(c, sign)),
    spec("signum", "signum(expr)", |c| unary(c, sign)),
    spec("sqrt", "sqrt(expr)", |c| unary(c, f64::sqrt)),
    spec("cbrt", "cbrt(expr)", |c| unary(c, f64::cbrt)),
    spec("exp", "exp(expr)", |c| unary(c, f64::exp)),
    spec("expm1", "expm1(expr)", |c| unary(c, f64::exp_m1)),
    spec("ln", "ln(expr)", |c| logarithm(c, 0.0, f64::ln)),
    spec("log", "log([base,] expr)", log),
    spec("log2", "log2(expr)", |c| logarithm(c, 0.0, f64::log2)),
    spec("log10", "log10(expr)", |c| logarithm(c, 0.0, f64::log10)),
    spec("log1p", "log1p(expr)", |c| logarithm(c, -1.0, f64::ln_1p)),
    spec("sin", "sin(expr)", |c| unary(c, f64::sin)),
    spec("cos", "cos(expr)", |c| unary(c, f64::cos)),
    spec("tan", "tan(expr)", |c| unary(c, f64::tan)),
    spec("asin", "asin(expr)", |c| unary(c, f64::asin)),
    spec("acos", "acos(expr)", |c| unary(c, f64::acos)),
    spec("atan", "atan(expr)", |c| unary(c, f64::atan)),
    spec("sinh", "sinh(expr)", |c| unary(c, f64::sinh)),
    spec("cosh", "cosh(expr)", |c| unary(c, f64::cosh)),
    spec("tanh", "tanh(expr)", |c| unary(c, f64::tanh)),
    spec("sec", "sec(expr)", |c| unary(c, |x| 1.0 / x.cos())),
    spec("csc", "csc(expr)", |c| unary(c, |x| 1.0 / x.sin())),
    spec("cot", "cot(expr)", |c| unary(c, |x| 1.0 / x.tan())),
    spec("asinh", "asinh(expr)", |c| unary(c, f64::asinh)),
    spec("acosh", "acosh(expr)", |c| unary(c, f64::acosh)),
    spec("atanh", "atanh(expr)", |c| unary(c, f64::atanh)),
    spec("degrees", "degrees(expr)", |c| unary(c, f64::to_degrees)),
    spec("radians", "radians(expr)", |c| unary(c, f64::to_radians)),
    spec("rint", "rint(expr)", |c| unary(c, f64::round_ties_even)),
    spec("atan2", "atan2(y, x)", |c| binary(c, |y, x| (y + 0.0).atan2(x + 0.0))),
    spec("hypot", "hypot(a, b)", |c| binary(c, f64::hypot)),
    spec("pow", "pow(base, exponent)", |c| binary(c, power)),
    spec("power", "power(base, exponent)", |c| binary(c, power)),
    spec("e", "e()", |c| {
        let c = c.count(0, 0)?;
        Ok(Typed::literal(std::f64::consts::E.into(), c.sql.to_uppercase()))
    }),
    spec("pi", "pi()", |c| {
        let c = c.count(0, 0)?;
        Ok(Typed::literal(std::f64::consts::PI.into(), c.sql.to_uppercase()))
    }),
    spec("mod", "mod(a, b)", |c| {
        let mut c = c.count(2, 2)?;
        let b = c.args.remove(1);
        arith::numbers(Op::Remainder, c.args.remove(0), b, c.sql, false)
    }),
    spec("pmod", "pmod(a, b)", |c| {
        let mut c = c.count(2, 2)?;
        let b = c.args.remove(1);
        arith::pmod(c.args.remove(0), b, c.sql)
    }),
    spec("try_add", "try_add(a, b)", |c| attempt(c, Op::Add)),
    spec("try_subtract", "try_subtract(a, b)", |c| attempt(c, Op::Subtract)),
    spec("try_multiply", "try_multiply(a, b)", |c| attempt(c, Op::Multiply)),
    spec("try_divide", "try_divide(a, b)", |c| attempt(c, Op::Divide)),
    spec("try_mod", "try_mod(a, b)", |c| attempt(c, Op::Remainder)),
    spec("greatest", "greatest(a, b, …)", |c| extreme(c, true)),
    spec("least", "least(a, b, …)", |c| extreme(c, false)),
    spec("factorial", "factorial(n)", |c| {
        c.take(&[Int], 1)?.build_nullable(DataType::Int64, |a| {
            let n = a.num::<Int32Type>(0)?;
            nums::<Int64Type>(a.rows, |i| {
                let n = get!(n.get(i));
                Ok((0..=20).contains(&n).then(|| (1..=i64::from(n)).product()))
            })
        })
    }),
    spec("isnan", "isnan(expr)", |c| {
        let mut typed = c.take(&[Double], 1)?.build(DataType::Boolean, |a| {
            let x = a.num::<Float64Type>(0)?;
            bools(a.rows, |i| Ok(Some(x.get(i).is_some_and(f64::is_nan))))
        })?;
        typed.nullable = false;
        Ok(typed)
    }),
    spec("nanvl", "nanvl(a, b)", |c| {
        let mut c = c.count(2, 2)?;
        let both = c.args.iter().all(|a| a.data_type == DataType::Float32);
        let to = if both { Number } else { Double };
        let b = to.take(c.name, 1, c.args.remove(1))?;
        let a = to.take(c.name, 0, c.args.remove(0))?;
        let sql = c.sql;
        once(a, |a| {
            let nan = super::call("isnan", vec![a.clone()])?;
            build::choose(vec![nan], vec![b, a], sql)
        })
    }),
    spec("bin", "bin(expr)", |c| {
        c.take(&[Big], 1)?.build(DataType::Utf8, |a| {
            let n = a.num::<Int64Type>(0)?;
            strings(a.rows, |i| Ok(n.get(i).map(|n| format!("{n:b}"))))
        })
    }),
    spec("bit_count", "bit_count(expr)", |c| {
        let mut c = c.count(1, 1)?;
        if c.args[0].data_type == DataType::Boolean {
            c.args[0] = crate::expr::cast::implicit(c.args[0].clone(), &DataType::Int32)?;
        }
        if !is_int(&c.args[0].data_type) {
            return Err(c.error("a whole number is expected"));
        }
        // A negative number of any width is sign-extended to 64 bits, as in Spark.
        c.take(&[Big], 1)?.build(DataType::Int32, |a| {
            let n = a.num::<Int64Type>(0)?;
            nums::<Int32Type>(a.rows, |i| Ok(n.get(i).map(|n| n.count_ones() as i32)))
        })
    }),
    spec("shiftleft", "shiftleft(expr, n)", |c| shifted(c, Shift::Left)),
    spec("shiftright", "shiftright(expr, n)", |c| shifted(c, Shift::Right)),
    spec("shiftrightunsigned", "shiftrightunsigned(expr, n)", |c| shifted(c, Shift::UnsignedRight)),
];

fn sign(x: f64) -> f64 {
    if x.is_nan() || x == 0.0 { x } else { x.signum() }
}

/// As in Java, 1 to the power of NaN or infinity is NaN.
fn power(x: f64, y: f64) -> f64 {
    if y.is_nan() || (x.abs() == 1.0 && y.is_infinite()) { f64::NAN } else { x.powf(y) }
}

fn unary(c: Call, f: fn(f64) -> f64) -> Result<Typed> {
    let name = c.name;
    let mut c = c;
    if matches!(name, "sign" | "signum") && c.args.len() == 1 && is_interval(&c.args[0].data_type) {
        let sql = if name == "sign" { c.sql } else { format!("SIGNUM({})", c.args[0].sql) };
        return Ok(super::sign_of(c.args.remove(0), sql));
    }
    let mut c = c.take(&[Double], 1)?;
    if !matches!(name, "sign" | "rint") {
        c.sql = format!("{}({})", name.to_uppercase(), c.args[0].sql);
    }
    c.build(DataType::Float64, move |a| {
        let x = a.num::<Float64Type>(0)?;
        nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(f)))
    })
}

/// The logarithm; NULL for a number that does not have one.
fn logarithm(c: Call, above: f64, f: fn(f64) -> f64) -> Result<Typed> {
    let mut c = c.take(&[Double], 1)?;
    c.sql = match c.name {
        "ln" => c.sql,
        "log" => format!("LOG(E(), {})", c.args[0].sql),
        name => format!("{}({})", name.to_uppercase(), c.args[0].sql),
    };
    c.build_nullable(DataType::Float64, move |a| {
        let x = a.num::<Float64Type>(0)?;
        nums::<Float64Type>(a.rows, |i| {
            let x = get!(x.get(i));
            Ok(if x <= above { None } else { Some(f(x)) })
        })
    })
}

fn log(c: Call) -> Result<Typed> {
    if c.args.len() == 1 {
        return logarithm(c, 0.0, f64::ln);
    }
    let mut c = c.take(&[Double, Double], 2)?;
    c.sql = format!("LOG({}, {})", c.args[0].sql, c.args[1].sql);
    c.build_nullable(DataType::Float64, |a| {
        let (b, x) = (a.num::<Float64Type>(0)?, a.num::<Float64Type>(1)?);
        nums::<Float64Type>(a.rows, |i| {
            let (b, x) = (get!(b.get(i)), get!(x.get(i)));
            Ok(if b <= 0.0 || x <= 0.0 { None } else { Some(x.ln() / b.ln()) })
        })
    })
}

fn binary(c: Call, f: fn(f64, f64) -> f64) -> Result<Typed> {
    let name = c.name;
    let mut c = c.take(&[Double, Double], 2)?;
    if name != "pow" {
        c.sql = format!("{}({}, {})", name.to_uppercase(), c.args[0].sql, c.args[1].sql);
    }
    c.build(DataType::Float64, move |a| {
        let (x, y) = (a.num::<Float64Type>(0)?, a.num::<Float64Type>(1)?);
        nums::<Float64Type>(a.rows, |i| Ok(Some(f(get!(x.get(i)), get!(y.get(i))))))
    })
}

fn attempt(c: Call, op: Op) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let b = c.args.remove(1);
    let a = c.args.remove(0);
    let symbol = match op {
        Op::Add => "+",
        Op::Subtract => "-",
        _ => "",
    };
    if !symbol.is_empty()
        && let Some(moved) = super::moved(symbol, &a, &b, Some(&c.sql))?
    {
        return Ok(moved);
    }
    if let Some(scaled) = super::scaled(op, &a, &b, &c.sql, true)? {
        return Ok(scaled);
    }
    arith::numbers(op, a, b, c.sql, true)
}

fn shifted(c: Call, op: Shift) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let n = c.args.remove(1);
    bits::shift(op, c.args.remove(0), n, c.sql)
}

fn abs(mut c: Call) -> Result<Typed> {
    if c.args.len() == 1 && is_interval(&c.args[0].data_type) {
        return Ok(super::turned(c.args.remove(0), true, c.sql));
    }
    let c = c.take(&[Number], 1)?;
    fn whole<T: ArrowPrimitiveType>(a: &Args) -> DfResult<ArrayRef>
    where
        T::Native: Whole,
    {
        let x = a.num::<T>(0)?;
        nums::<T>(a.rows, |i| arith::absolute(get!(x.get(i))).map(Some).ok_or_else(|| row_error(OVERFLOW)))
    }
    let t = c.args[0].data_type.clone();
    match &t {
        DataType::Int8 => c.build(t, whole::<Int8Type>),
        DataType::Int16 => c.build(t, whole::<Int16Type>),
        DataType::Int32 => c.build(t, whole::<Int32Type>),
        DataType::Int64 => c.build(t, whole::<Int64Type>),
        DataType::Float32 => c.build(t, |a| {
            let x = a.num::<Float32Type>(0)?;
            nums::<Float32Type>(a.rows, |i| Ok(x.get(i).map(f32::abs)))
        }),
        DataType::Float64 => c.build(t, |a| {
            let x = a.num::<Float64Type>(0)?;
            nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(f64::abs)))
        }),
        _ => c.build(t.clone(), move |a| {
            let x = a.num::<Decimal128Type>(0)?;
            nums_as::<Decimal128Type>(a.rows, &t, |i| Ok(x.get(i).map(i128::abs)))
        }),
    }
}

/// The greatest or least argument. NULLs do not count, and NaN is the greatest.
fn extreme(c: Call, greatest: bool) -> Result<Typed> {
    let most = c.args.len().max(2);
    let params = vec![Any; most];
    let c = c.take(&params, 2)?;
    let text = |t: &Typed| t.data_type == DataType::Utf8;
    let null = |t: &Typed| t.data_type == DataType::Null;
    if c.args.iter().any(text) && !c.args.iter().all(|t| text(t) || null(t)) {
        return Err(c.error("strings do not go with other types. Use CAST"));
    }
    let (args, data_type) = crate::expr::coerce::unify(&c.sql, c.args)?;
    if data_type == DataType::Null {
        return Ok(Typed::null(&DataType::Null).named(c.sql));
    }
    if !crate::expr::lists::is_ordered(&data_type) {
        return Err(crate::Error::schema(format!("{}: comparing {} is not supported", c.sql, type_to_ddl(&data_type))));
    }
    let nullable = args.iter().all(|a| a.nullable);
    let kernel: Kernel = Arc::new(move |a: &Args| {
        let mut best = a.full(0)?;
        for k in 1..a.len() {
            let next = a.full(k)?;
            let better = if greatest { less(&best, &next)? } else { less(&next, &best)? };
            // The order is NULL if one of the two values is NULL. Then the other value counts.
            let better = is_true(&better);
            let better = or(&better, &and(&is_null(&best)?, &is_not_null(&next)?)?)?;
            best = zip(&better, &next, &best)?;
        }
        Ok(best)
    });
    let mut typed = Typed::call(args, data_type, false, c.sql, kernel);
    typed.nullable &= nullable || typed.constant().is_some();
    Ok(typed)
}
