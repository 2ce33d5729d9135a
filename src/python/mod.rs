//! The boundary to Python. Thin: arguments in, Arrow out, errors mapped, waiting done in one place.

mod connection;
mod convert;
mod door;
mod errors;
mod functions;
mod guard;
mod iterate;
mod join;
mod produce;
mod query;
mod read;
mod source;
mod stream;
mod table;
mod testing;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::register(m)?;
    connection::register(m)?;
    stream::register(m)?;
    functions::register(m)?;
    source::register(m)?;
    table::register(m)?;
    iterate::register(m)?;
    query::register(m)?;
    read::register(m)?;
    testing::register(m)?;
    door::register(m)
}
