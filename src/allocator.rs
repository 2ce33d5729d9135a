//! The allocator of everything in Rust. C libraries and Python keep theirs.
//!
//! glibc has heaps for many threads and holds what is free between two pieces in use: in a run with an epoch a second, memory grew by megabytes
//! a minute while 28 MB were in use (docs/decisions/0014-jemalloc.md).

#![allow(unsafe_code)]

use std::ffi::c_char;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is free goes back to the system after a second, by a thread in the background: a notebook may be idle for hours.
/// `_RJEM_MALLOC_CONF` in the environment is read after this and wins.
#[unsafe(export_name = "_rjem_malloc_conf")]
// SAFETY: the text ends with a zero and lives for ever; jemalloc reads it before anything else.
pub static CONFIGURATION: &c_char =
    unsafe { &*c"background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0".as_ptr() };
