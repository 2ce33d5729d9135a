//! In front of the mock cluster: admits clients that know the secret, counts what the partitions hold, and refuses
//! batches for which the mock would have to evict others.

use super::{
    door,
    protocol::{Held, Limits, Usage},
    scram::Verifier,
    wire,
};
use crate::kafka::ffi::{MOCK_BATCHES, MOCK_BYTES};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
};

/// The limit for all partitions together, in bytes as they are kept (compressed). About ten million fitness events.
const TOTAL_BYTES: usize = 512 << 20;
/// The mock finds a batch by walking from the first one. Many more batches would make reading slow.
const LIFTED_BATCHES: usize = MOCK_BATCHES;
/// No request is larger than this. librdkafka's limit for a message is 1 GB, its default is 1 MB.
const FRAME_BYTES: usize = 256 << 20;

/// The content of the partitions.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    partitions: BTreeMap<(String, i32), (usize, usize)>,
    total: usize,
    /// A topic for which the mock's limits could not be raised.
    strict: bool,
}

impl Books {
    fn limits(&self) -> Limits {
        Limits {
            partition_bytes: if self.strict { MOCK_BYTES } else { TOTAL_BYTES },
            partition_batches: if self.strict { MOCK_BATCHES } else { LIFTED_BATCHES },
            total_bytes: TOTAL_BYTES,
        }
    }
}

impl Ledger {
    /// A new topic. `lifted` says whether the mock's own limits were raised.
    pub(super) fn open(&self, topic: &str, partitions: i32, lifted: bool) {
        let mut books = self.0.lock();
        books.strict |= !lifted;
        for p in 0..partitions {
            books.partitions.insert((topic.to_string(), p), (0, 0));
        }
    }

    pub(super) fn has(&self, topic: &str) -> bool {
        self.0.lock().partitions.contains_key(&(topic.to_string(), 0))
    }

    pub(super) fn usage(&self) -> Usage {
        let books = self.0.lock();
        let held = |((topic, partition), (bytes, batches)): (&(String, i32), &(usize, usize))| Held {
            topic: topic.clone(),
            partition: *partition,
            bytes: *bytes,
            batches: *batches,
        };
        Usage { partitions: books.partitions.iter().map(held).collect(), limits: books.limits() }
    }

    /// Whether a batch of this size fits. If it fits, it is counted. For a topic that does not exist, the mock refuses
    /// the batch.
    fn admit(&self, topic: &str, partition: i32, bytes: usize) -> bool {
        let mut books = self.0.lock();
        let (limits, total) = (books.limits(), books.total);
        let Some((held, batches)) = books.partitions.get_mut(&(topic.to_string(), partition)) else { return true };
        let fits = *held + bytes <= limits.partition_bytes
            && *batches < limits.partition_batches
            && total + bytes <= limits.total_bytes;
        if fits {
            *held += bytes;
            *batches += 1;
            books.total += bytes;
        }
        fits
    }
}

/// The connection to the mock cluster.
pub(super) struct Behind {
    /// The socket of the mock, in the user's own directory.
    pub mock: PathBuf,
    pub verifier: Verifier,
    pub ledger: Arc<Ledger>,
}

/// Serves clients until the process ends.
pub(super) fn serve(listener: TcpListener, behind: Behind) {
    let behind = Arc::new(behind);
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let behind = behind.clone();
        std::thread::spawn(move || {
            if let Err(e) = connect(client, &behind) {
                log::debug!(target: "bayou::kafka", "embedded broker: a client's connection ended: {e}");
            }
        });
    }
}

fn connect(mut client: TcpStream, behind: &Behind) -> io::Result<()> {
    let mut broker = UnixStream::connect(&behind.mock)?;
    client.set_nodelay(true)?;
    door::admit(&mut client, &mut broker, &behind.verifier)?;
    let (mut answers, mut back) = (broker.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let result = requests(&mut client, &mut broker, &behind.ledger);
    let _ = broker.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    result
}

fn requests(client: &mut TcpStream, broker: &mut UnixStream, ledger: &Ledger) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let size = u32::from_be_bytes(length) as usize;
        if size > FRAME_BYTES {
            return Err(io::Error::other(format!("a request of {size} bytes")));
        }
        frame.clear();
        frame.extend_from_slice(&length);
        frame.resize(4 + size, 0);
        client.read_exact(&mut frame[4..])?;
        look(&mut frame[4..], ledger)?;
        broker.write_all(&frame)?;
        frame.shrink_to(4 << 20);
    }
}

fn look(request: &mut [u8], ledger: &Ledger) -> io::Result<()> {
    match wire::api_key(request) {
        Some(wire::PRODUCE) => {
            // A request that cannot be counted must not be passed on.
            let batches =
                wire::batches(request).ok_or_else(|| io::Error::other("a Produce request that cannot be read"))?;
            for batch in batches {
                if !ledger.admit(&batch.topic, batch.partition, batch.len) {
                    wire::spoil(request, &batch);
                }
            }
        }
        Some(wire::METADATA) => drop(wire::forbid_auto_create(request)),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_takes_what_fits_and_nothing_more() {
        let ledger = Ledger::default();
        ledger.open("t", 2, false);
        assert!(ledger.admit("t", 0, MOCK_BYTES - 10));
        assert!(!ledger.admit("t", 0, 11));
        assert!(ledger.admit("t", 0, 10), "what was refused is not counted");
        assert!(!ledger.admit("t", 0, 1));
        assert!(ledger.admit("t", 1, 1));
        assert!(ledger.admit("unknown", 0, usize::MAX / 4), "left to the mock, which refuses it");
    }

    #[test]
    fn the_number_of_batches_and_the_total_are_limited_too() {
        let ledger = Ledger::default();
        ledger.open("t", 2, true);
        assert!((0..MOCK_BATCHES).all(|_| ledger.admit("t", 0, 1)));
        assert!(!ledger.admit("t", 0, 1));
        assert!(ledger.admit("t", 1, TOTAL_BYTES - MOCK_BATCHES));
        assert!(!ledger.admit("t", 1, 1));
        assert_eq!(ledger.usage().partitions.iter().map(|h| h.bytes).sum::<usize>(), TOTAL_BYTES);
    }
}
