//! Made-up events to try things with: the same seed gives the same rows.

use crate::{error::Result, time::EventTime};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::time::Duration;

/// Fitness trackers that report a pulse. What the defaults are, `FitnessOptions::default` says.
#[derive(Debug, Clone)]
pub struct FitnessOptions {
    pub rows: u64,
    pub seed: u64,
    /// The first row's time; rows follow `interval` apart.
    pub start: EventTime,
    pub interval: Duration,
    /// Rows come out of order by up to so much.
    pub disorder: Duration,
    /// This share of the rows is late by `late_by`.
    pub late_fraction: f64,
    pub late_by: Duration,
    /// The region whose resting pulse drifts up; None for a healthy country.
    pub fever_region: Option<String>,
    /// From this share of the rows on.
    pub fever_start: f64,
    /// Beats per minute that the fever adds by the last row.
    pub fever_bpm: f64,
    /// Share of rows with model 'undef'.
    pub undef_fraction: f64,
    /// Share of rows with a pulse of 0.
    pub zero_fraction: f64,
    pub batch_rows: usize,
}

/// The batches, one after another.
pub struct Fitness {}

impl Fitness {
    pub fn new(_options: FitnessOptions) -> Result<Self> {
        Err(crate::Error::internal("not written yet"))
    }
    pub fn schema() -> SchemaRef {
        arrow::datatypes::Schema::empty().into()
    }
}

impl Iterator for Fitness {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
