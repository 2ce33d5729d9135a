//! The allocator for all memory of Rust code. C libraries and Python keep their own.
//!
//! glibc has heaps for many threads, and keeps free memory between two pieces in use. In a run with one epoch each
//! second, memory grew by megabytes a minute while 28 MB were in use (docs/decisions/0014-jemalloc.md).

#![allow(unsafe_code)]

use std::ffi::c_char;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A background thread gives free memory back to the system after a second, because a notebook can be idle for hours.
/// `_RJEM_MALLOC_CONF` in the environment is read after this and overrides it.
#[unsafe(export_name = "_rjem_malloc_conf")]
// SAFETY: the text ends with a zero and lives forever. jemalloc reads it before anything else.
pub(crate) static CONFIGURATION: &c_char =
    unsafe { &*c"background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0".as_ptr() };
