//! Producers that are kept between calls. A new one asks the broker for a producer id first, which takes half a second.

use super::Deliveries;
use parking_lot::Mutex;
use rdkafka::producer::{BaseProducer, Producer};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a producer is idle before it is closed. An idle producer is not polled, so the events of librdkafka for it would pile up.
const IDLE: Duration = Duration::from_secs(30);
/// At most this many idle producers are kept for one connection.
const KEPT: usize = 4;

/// What distinguishes producers of one connection.
pub(super) type Settings = Vec<(String, String)>;

struct Idle {
    settings: Settings,
    producer: BaseProducer<Deliveries>,
    since: Instant,
}

#[derive(Default)]
struct Kept {
    idle: Vec<Idle>,
    /// Whether a thread closes the producers that are idle for too long.
    watched: bool,
}

/// The idle producers of a connection.
#[derive(Default)]
pub(in crate::kafka) struct Producers(Arc<Mutex<Kept>>);

impl Producers {
    /// An idle producer with these settings, as if it were new.
    pub(super) fn take(&self, settings: &Settings) -> Option<BaseProducer<Deliveries>> {
        let mut kept = self.0.lock();
        let at = kept.idle.iter().position(|i| i.settings == *settings)?;
        let producer = kept.idle.swap_remove(at).producer;
        drop(kept);
        // Events that came while the producer was idle do not concern this call.
        producer.poll(Duration::ZERO);
        producer.context().forget();
        producer.client().fatal_error().is_none().then_some(producer)
    }

    /// Keeps a producer all of whose messages have arrived.
    pub(super) fn keep(&self, settings: Settings, producer: BaseProducer<Deliveries>) {
        let mut kept = self.0.lock();
        if kept.idle.len() >= KEPT {
            return;
        }
        kept.idle.push(Idle { settings, producer, since: Instant::now() });
        if !kept.watched {
            let weak = Arc::downgrade(&self.0);
            let watch = std::thread::Builder::new().name("bayou-idle".into()).spawn(move || close_old(&weak));
            kept.watched = watch.is_ok();
        }
    }

    /// In the child of a fork, the threads of the producers do not exist. Closing a producer would wait for them forever.
    pub(in crate::kafka) fn leave_alone(&self) {
        if let Some(mut kept) = self.0.try_lock() {
            let _never_closed = ManuallyDrop::new(std::mem::take(&mut kept.idle));
        }
    }
}

/// Ends when no producer is left.
fn close_old(of: &Weak<Mutex<Kept>>) {
    loop {
        let next = {
            let Some(kept) = of.upgrade() else { return };
            let mut kept = kept.lock();
            let (old, young): (Vec<_>, Vec<_>) =
                std::mem::take(&mut kept.idle).into_iter().partition(|i| i.since.elapsed() >= IDLE);
            kept.idle = young;
            kept.watched = !kept.idle.is_empty();
            let next = kept.idle.iter().map(|i| IDLE.saturating_sub(i.since.elapsed())).min();
            drop(kept);
            drop(old);
            next
        };
        match next {
            None => return,
            Some(next) => std::thread::sleep(next.min(Duration::from_secs(5)) + Duration::from_millis(10)),
        }
    }
}
