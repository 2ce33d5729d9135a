//! The helper process. It holds the cluster and knows which kernels still need it.

use super::{
    gate::{self, Behind, Ledger},
    place::Place,
    protocol::{Broker, PROTOCOL, Reply, Request},
    scram::Verifier,
};
use crate::{
    error::{Error, Result},
    kafka::ffi::{self, Mock},
};
use parking_lot::Mutex;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    net::TcpListener,
    os::unix::{fs::DirBuilderExt, net::UnixListener, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// The helper ends this long after its last client, so a kernel that restarts finds its broker again.
const LINGER: Duration = Duration::from_secs(5);
/// The helper waits this long for its first client.
const FIRST_CLIENT: Duration = Duration::from_secs(20);
/// The interval between two checks of the clock and the socket.
const TURN: Duration = Duration::from_millis(50);

struct Helper {
    mock: Mock,
    ledger: Arc<Ledger>,
    broker: Broker,
    /// Topics are created one at a time, because the check for existence and the creation must be one step.
    creating: Mutex<()>,
    clients: Mutex<Clients>,
}

struct Clients {
    count: usize,
    /// The time since which no client is connected.
    alone_since: Option<Instant>,
}

/// Serves kernels, and returns a few seconds after the last one is gone. `directory` is the argument that the launcher
/// got.
pub fn run_broker(directory: &Path) -> Result<()> {
    ffi::leave_session();
    let place = Place::at(directory);
    let start = |what: &str, e: &dyn std::fmt::Display| {
        Error::connection(format!("the embedded broker does not start: {what}: {e}"))
    };

    let mock = Mock::new().map_err(|f| start("the cluster", &f.text))?;
    let gate = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| start("a port", &e))?;
    let address = gate.local_addr().map_err(|e| start("a port", &e))?;
    // librdkafka opens a port, and any user of the machine can connect to it. So its socket is replaced by one in the
    // user's directory.
    let inside = place.mock_socket();
    let _ = fs::remove_file(&inside);
    let behind = UnixListener::bind(&inside).map_err(|e| start("the cluster's socket", &e))?;
    // If a client is connected to the old port while it is still held, the mock must not wait for one on the new
    // socket.
    behind.set_nonblocking(true).map_err(|e| start("the cluster's socket", &e))?;
    mock.listen_at(&behind).map_err(|f| start("the cluster's socket", &f.text))?;
    // This also wakes up the mock's thread. Only then does the mock release the port.
    mock.advertise(address.port());
    let id = uuid::Uuid::new_v4();
    let broker = Broker {
        protocol: PROTOCOL,
        pid: std::process::id(),
        id: format!("embedded-{id}"),
        address: address.to_string(),
        secret: uuid::Uuid::new_v4().simple().to_string(),
        scratch: scratch(&place, &id).map_err(|e| start("its scratch directory", &e))?,
    };
    let ledger = Arc::new(Ledger::default());
    let verifier = Verifier::new(&broker.secret, id.as_bytes());
    let behind = Behind { mock: inside, verifier, ledger: ledger.clone() };
    std::thread::spawn(move || gate::serve(gate, behind));

    // The starter holds the lock. So a socket that exists here belongs to a helper that was killed.
    let _ = fs::remove_file(place.socket());
    let listener = UnixListener::bind(place.socket()).map_err(|e| start("its control socket", &e))?;
    listener.set_nonblocking(true).map_err(|e| start("its control socket", &e))?;
    let scratch = broker.scratch.clone();
    let clients = Mutex::new(Clients { count: 0, alone_since: Some(Instant::now() + FIRST_CLIENT - LINGER) });
    let helper = Arc::new(Helper { mock, ledger, broker, creating: Mutex::new(()), clients });
    // While this process has a kernel's directory as its working directory, it could not be unmounted or removed.
    let _ = std::env::set_current_dir("/");
    let _lock = loop {
        helper.accept(&listener);
        if helper.is_alone()
            && let Some(lock) = helper.may_end(&place, &listener)
        {
            break lock;
        }
        std::thread::sleep(TURN);
    };
    // If something cannot be removed, nothing more can be done.
    let _ = fs::remove_dir_all(scratch);
    let _ = fs::remove_dir_all(place.directory());
    Ok(())
}

/// A directory that others cannot read, in the temporary directory. The runtime directory is often small and in memory.
fn scratch(place: &Place, id: &uuid::Uuid) -> std::io::Result<PathBuf> {
    if let Ok(left) = fs::read_to_string(place.scratch_note()) {
        let _ = fs::remove_dir_all(left);
    }
    let name = format!("bayou-{}-scratch-{}", ffi::user_id(), id.simple());
    let scratch = std::env::temp_dir().join(name);
    fs::DirBuilder::new().mode(0o700).create(&scratch)?;
    fs::write(place.scratch_note(), scratch.as_os_str().as_encoded_bytes())?;
    Ok(scratch)
}

impl Helper {
    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            {
                let mut clients = self.clients.lock();
                clients.count += 1;
                clients.alone_since = None;
            }
            let helper = self.clone();
            std::thread::spawn(move || {
                // The client is gone, for any reason (a closed socket, a kill).
                let _ = helper.serve(stream);
                let mut clients = helper.clients.lock();
                clients.count -= 1;
                if clients.count == 0 {
                    clients.alone_since = Some(Instant::now());
                }
            });
        }
    }

    fn is_alone(&self) -> bool {
        // A time in the future (before the first client) has elapsed for zero seconds.
        self.clients.lock().alone_since.is_some_and(|since| since.elapsed() >= LINGER)
    }

    /// Takes the lock if no kernel has connected. While the lock is held, no kernel starts a new helper or waits for this
    /// one. A kernel that has connected without the lock is served, or it finds the socket closed and tries again.
    fn may_end(self: &Arc<Self>, place: &Place, listener: &UnixListener) -> Option<File> {
        let lock = place.lock_file().ok()?;
        lock.try_lock().ok()?;
        self.accept(listener);
        if !self.is_alone() {
            return None;
        }
        let _ = fs::remove_file(place.socket());
        Some(lock)
    }

    fn serve(&self, stream: UnixStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        let mut answers = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let reply = match serde_json::from_str(&line?) {
                Ok(request) => self.reply(request),
                Err(e) => Reply::Refused(format!("the embedded broker does not understand this request ({e})")),
            };
            let mut text = serde_json::to_vec(&reply).map_err(|e| std::io::Error::new(ErrorKind::InvalidData, e))?;
            text.push(b'\n');
            answers.write_all(&text)?;
        }
        Ok(())
    }

    fn reply(&self, request: Request) -> Reply {
        match request {
            Request::Hello { .. } => Reply::Hello(self.broker.clone()),
            Request::CreateTopic { name, partitions } => self.create_topic(&name, partitions),
            Request::Usage => Reply::Usage(self.ledger.usage()),
        }
    }

    fn create_topic(&self, name: &str, partitions: i32) -> Reply {
        let _one_at_a_time = self.creating.lock();
        if self.ledger.has(name) {
            return Reply::Exists;
        }
        match self.mock.create_topic(name, partitions) {
            Ok(()) => {
                let lifted = self.mock.lift_limits(name, partitions);
                self.ledger.open(name, partitions, lifted);
                Reply::Created
            }
            Err(f) => Reply::Refused(f.text),
        }
    }
}
