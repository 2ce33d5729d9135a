//! The boundary to Python. It is thin: it takes arguments, returns Arrow, maps errors, and waits in one place.

// The macro `doc!` (src/build.rs). It is before the modules, because macros are in scope only below their definition.
include!(concat!(env!("OUT_DIR"), "/docs.rs"));

mod arguments;
mod catalog;
mod cluster;
mod connection;
mod convert;
mod door;
mod errors;
mod events;
mod functions;
mod group;
mod guard;
mod interrupt;
mod iterate;
mod join;
mod logging;
mod notes;
mod objects;
mod produce;
mod query;
mod read;
mod repair;
mod scan;
mod slices;
mod source;
mod spark;
mod spark_options;
mod spark_schema;
mod storage;
mod stream;
mod table;
mod testing;
mod text;
mod token;
mod topic;
mod value_functions;
mod values;
mod words;
mod write;

use pyo3::prelude::*;

/// Hides one panic message from notebooks. When a file cannot be written, deltalake makes a call that panics, and catches the panic itself.
fn no_word_of_caught_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let from = panic.location().is_some_and(|l| l.file().contains("object_store"));
        if !(from && panic.payload_as_str() == Some("Already shut down")) {
            usual(panic);
        }
    }));
}

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    no_word_of_caught_panics();
    logging::register(m.py());
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::register(m)?;
    connection::register(m)?;
    stream::register(m)?;
    group::register(m)?;
    functions::register(m)?;
    objects::register(m)?;
    source::register(m)?;
    table::register(m)?;
    slices::register(m)?;
    scan::register(m)?;
    iterate::register(m)?;
    query::register(m)?;
    write::register(m)?;
    read::register(m)?;
    repair::register(m)?;
    testing::register(m)?;
    words::register(m)?;
    events::register(m)?;
    notes::register(m)?;
    door::register(m)
}
