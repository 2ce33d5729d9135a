//! librdkafka's reports about messages: delivered, or not and why.

use crate::kafka::context::{Watch, tidy, watched};
use parking_lot::Mutex;
use rdkafka::{
    message::{DeliveryResult, Message},
    producer::ProducerContext,
    types::RDKafkaErrorCode as Code,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const KEPT_FAILURES: usize = 10;

/// The result of sending a row's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Counted from 0.
    pub row: usize,
    pub partition: Option<i32>,
    /// None if the message was not delivered, or if no acknowledgement was requested (acks="0").
    pub offset: Option<i64>,
    pub error: Option<String>,
}

/// Counts librdkafka's delivery reports.
#[derive(Default)]
pub(super) struct Deliveries {
    pub watch: Watch,
    pub delivered: AtomicU64,
    pub failed: AtomicU64,
    pub failures: Mutex<Vec<String>>,
    /// Each message's result, if the caller asked for it.
    pub all: Mutex<Option<Vec<Delivery>>>,
    /// Whether anything is kept about messages that were delivered.
    pub detailed: AtomicBool,
    /// For a transaction: the highest offset in each partition.
    pub highest: Mutex<Option<BTreeMap<i32, i64>>>,
    /// The partition of a batch that the embedded broker refused.
    pub full: Mutex<Option<i32>>,
    pub refused: AtomicBool,
    /// The topic's ACL does not allow writing.
    pub forbidden: AtomicBool,
    /// Messages that were not confirmed in time.
    pub timed_out: AtomicU64,
    /// The first failure.
    pub failure: Mutex<Option<Code>>,
}

impl Deliveries {
    /// Resets everything for the next call.
    pub(super) fn forget(&self) {
        self.watch.forget();
        self.delivered.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        self.failures.lock().clear();
        *self.all.lock() = None;
        *self.full.lock() = None;
        self.refused.store(false, Ordering::Relaxed);
        self.forbidden.store(false, Ordering::Relaxed);
        self.timed_out.store(0, Ordering::Relaxed);
        *self.failure.lock() = None;
    }

    pub(super) fn keep_deliveries(&self, keep: bool) {
        *self.all.lock() = keep.then(Vec::new);
        self.detailed.store(keep, Ordering::Relaxed);
    }

    /// For a transaction: keeps the highest offset in each partition.
    pub(super) fn keep_highest(&self) {
        *self.highest.lock() = Some(BTreeMap::new());
        self.detailed.store(true, Ordering::Relaxed);
    }

    /// Each message's result by row. A second call returns None.
    pub(super) fn take_all(&self) -> Option<Vec<Delivery>> {
        let mut all = self.all.lock().take()?;
        all.sort_by_key(|d| d.row);
        Some(all)
    }

    fn note(&self, delivery: impl FnOnce() -> Delivery) {
        if let Some(all) = self.all.lock().as_mut() {
            all.push(delivery());
        }
    }

    /// Counts a message that was not sent at all.
    pub(super) fn refuse(&self, row: usize, text: String) {
        self.note(|| Delivery { row, partition: None, offset: None, error: Some(text.clone()) });
        self.fail(|| format!("row {row}: {text}"));
    }

    fn fail(&self, text: impl FnOnce() -> String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock();
        if failures.len() < KEPT_FAILURES {
            failures.push(text());
        }
    }
}

watched!(Deliveries);

impl ProducerContext for Deliveries {
    /// The row.
    type DeliveryOpaque = usize;
    fn delivery(&self, result: &DeliveryResult<'_>, row: usize) {
        match result {
            Ok(message) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                if !self.detailed.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(highest) = self.highest.lock().as_mut() {
                    let at = highest.entry(message.partition()).or_default();
                    *at = (*at).max(message.offset());
                }
                self.note(|| {
                    let (partition, offset) = (Some(message.partition()), Some(message.offset()).filter(|o| *o >= 0));
                    Delivery { row, partition, offset, error: None }
                });
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                match code {
                    crate::kafka::embedded::FULL => {
                        self.full.lock().get_or_insert(message.partition());
                        self.refused.store(true, Ordering::Relaxed);
                    }
                    Code::TopicAuthorizationFailed => self.forbidden.store(true, Ordering::Relaxed),
                    Code::MessageTimedOut => {
                        self.timed_out.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {}
                }
                self.failure.lock().get_or_insert(code);
                let text = tidy(&error.to_string());
                self.note(|| {
                    let partition = Some(message.partition()).filter(|p| *p >= 0);
                    Delivery { row, partition, offset: None, error: Some(text.clone()) }
                });
                self.fail(|| format!("partition {}: {text}", message.partition()));
            }
        }
    }
}
