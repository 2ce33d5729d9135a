//! librdkafka's mock cluster.

use super::{Failure, c_string, code_text, text_of};
use rdkafka::{
    bindings::{self as rd, rd_kafka_resp_err_t as Native},
    types::RDKafkaErrorCode as Code,
};
use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    // librdkafka's own function, which is not in its headers. It finds the limits of the mock's partitions.
    fn rd_kafka_mock_topic_find(cluster: *const rd::rd_kafka_mock_cluster_t, name: *const c_char) -> *mut c_void;
    fn rd_kafka_mock_partition_find(topic: *const c_void, partition: i32) -> *mut usize;
}

/// The limits of the mock for each partition. Beyond them it evicts messages silently.
pub(in crate::kafka) const MOCK_BYTES: usize = 5 * 1024 * 1024;
pub(in crate::kafka) const MOCK_BATCHES: usize = 100_000;

/// librdkafka's mock cluster, with one broker.
pub(in crate::kafka) struct Mock {
    cluster: *mut rd::rd_kafka_mock_cluster_t,
}

// SAFETY: the cluster runs on a thread of its own, and all calls go through its queue.
unsafe impl Send for Mock {}
// SAFETY: as above.
unsafe impl Sync for Mock {}

impl Mock {
    /// Lives until the process ends.
    pub(crate) fn new() -> Result<Self, Failure> {
        // SAFETY: rd_kafka_new takes ownership of the configuration. The client is never destroyed, because the cluster
        // needs it.
        unsafe {
            let mut text = [0 as c_char; 512];
            let config = rd::rd_kafka_conf_new();
            // Its clients connect by a Unix socket, which does not have this option. librdkafka would log a complaint.
            let (name, off) = (c"socket.nagle.disable", c"false");
            rd::rd_kafka_conf_set(config, name.as_ptr(), off.as_ptr(), text.as_mut_ptr(), text.len());
            let rk = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, config, text.as_mut_ptr(), text.len());
            let fail = |text: String| Failure { code: Code::Fail, text };
            if rk.is_null() {
                return Err(fail(text_of(text.as_ptr())));
            }
            let cluster = rd::rd_kafka_mock_cluster_new(rk, 1);
            if cluster.is_null() {
                return Err(fail("the mock cluster does not start".into()));
            }
            Ok(Self { cluster })
        }
    }

    /// The address where the cluster listens.
    pub(crate) fn address(&self) -> String {
        // SAFETY: the text belongs to the cluster, which is never destroyed.
        unsafe { text_of(rd::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
    }

    /// Replaces the listening port of the mock by this socket, because any user of the machine could connect to the
    /// port. The mock has no option for this. So its descriptor, which is found by its address, is made a duplicate of
    /// our socket. The thread of the mock still holds the port until it wakes up.
    pub(crate) fn listen_at(&self, ours: &std::os::unix::net::UnixListener) -> Result<(), Failure> {
        use std::os::fd::AsRawFd;
        /// This process has just started and has few open files.
        const DESCRIPTORS: c_int = 4096;
        let fail = |text: String| Failure { code: Code::Fail, text };
        let address = self.address();
        let port: u16 = address.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(0);
        let listens_there = |fd: c_int| {
            let mut is_listening: c_int = 0;
            let mut length = size_of::<c_int>() as libc::socklen_t;
            // SAFETY: an address of the requested kind is plain numbers, for which zeros are valid.
            let mut at: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            let mut size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: both calls write at most as many bytes as they are told. An invalid descriptor gives an error.
            let asked = unsafe {
                libc::getsockname(fd, (&raw mut at).cast(), &raw mut size) == 0
                    && libc::getsockopt(
                        fd,
                        libc::SOL_SOCKET,
                        libc::SO_ACCEPTCONN,
                        (&raw mut is_listening).cast(),
                        &raw mut length,
                    ) == 0
            };
            asked
                && is_listening != 0
                && c_int::from(at.sin_family) == libc::AF_INET
                && u16::from_be(at.sin_port) == port
        };
        let theirs = (0..DESCRIPTORS).find(|fd| port != 0 && listens_there(*fd));
        let theirs = theirs.ok_or_else(|| fail(format!("the cluster's port {address} is not found")))?;
        // SAFETY: `theirs` is the listening socket of the mock. No other thread uses it, and the mock's thread only polls
        // and accepts on the number.
        match unsafe { libc::dup2(ours.as_raw_fd(), theirs) } {
            -1 => Err(fail(std::io::Error::last_os_error().to_string())),
            _ => Ok(()),
        }
    }

    /// Tells clients to connect to this port instead of the mock's own.
    pub(crate) fn advertise(&self, port: u16) {
        // SAFETY: the host is copied.
        unsafe { rd::rd_kafka_mock_broker_set_host_port(self.cluster, 1, c"127.0.0.1".as_ptr(), c_int::from(port)) };
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Failure> {
        let name = c_string(name)?;
        // SAFETY: the name is copied.
        match unsafe { rd::rd_kafka_mock_topic_create(self.cluster, name.as_ptr(), partitions, 1) } {
            Native::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(Failure::new(code, code_text(code))),
        }
    }

    /// Raises the limits of the partitions of a new topic. Then our own limit, which reports an error, is reached
    /// first. librdkafka does not have a call for this. So the two numbers are searched in the structure of the
    /// partition, between two counters that are zero in a new partition. Returns false if they are not found (a
    /// different librdkafka). The limits of the mock then stay.
    pub(crate) fn lift_limits(&self, name: &str, partitions: i32) -> bool {
        // The number of words that are certainly inside the structure. It begins with a link (2), two ids (1), four
        // offsets (4), two flags (1) and the head of the list of batches (2). Then come size, count, and their limits
        // (4).
        const WORDS: usize = 14;
        let Ok(name) = c_string(name) else { return false };
        // SAFETY: we have just created the topic, and it is never deleted. No client has written to it yet, and the mock's
        // thread reads the limits only after a client has written. Every partition is checked before any is changed.
        unsafe {
            let topic = rd_kafka_mock_topic_find(self.cluster, name.as_ptr());
            if topic.is_null() {
                return false;
            }
            let mut limits = Vec::new();
            for p in 0..partitions {
                let words = rd_kafka_mock_partition_find(topic, p);
                if words.is_null() {
                    return false;
                }
                let found = (2..=WORDS - 2).find(|i| {
                    let word = |k: usize| words.add(k).read();
                    (word(i - 2), word(i - 1), word(*i), word(i + 1)) == (0, 0, MOCK_BYTES, MOCK_BATCHES)
                });
                match found {
                    Some(i) => limits.push(words.add(i)),
                    None => return false,
                }
            }
            for limit in limits {
                limit.write(usize::MAX / 2);
                limit.add(1).write(usize::MAX / 2);
            }
        }
        true
    }
}
