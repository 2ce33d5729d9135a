//! A kernel's connection to its user's broker. The kernel joins the broker or starts it, and keeps it alive by an open
//! socket.

use super::{
    LAUNCHER,
    place::Place,
    protocol::{Broker, PROTOCOL, Reply, Request, Usage},
    scram::{MECHANISM, USER},
};
use crate::{
    error::{Error, Result},
    kafka::NewTopic,
    position::Topic,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A Python interpreter that imports bayou from a cold disk needs some time.
const START: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(20);

/// The broker lives at least as long as this value.
pub(in crate::kafka) struct Client {
    name: String,
    broker: Broker,
    control: Mutex<BufReader<UnixStream>>,
    /// Nothing is ever sent on this socket. It ends when the helper ends.
    alive: UnixStream,
}

/// Directories that helpers left behind because they did not end by themselves.
static LEFT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes directories of helpers that were killed while this process used them. Called after everything that wrote
/// there has ended.
pub(crate) fn remove_what_is_left() {
    for left in LEFT.lock().iter() {
        let _ = fs::remove_dir_all(left);
    }
}

impl Client {
    /// Joins this user's broker of that name. The first kernel starts it.
    pub(crate) fn join(name: &str) -> Result<Self> {
        if let Some(client) = Self::connect(name, &Place::of(name)?)? {
            return Ok(client);
        }
        let (place, lock) = Self::lock(name)?;
        // A previous holder of the lock can have started the broker.
        let client = match Self::connect(name, &place)? {
            Some(client) => client,
            None => Self::start(name, &place)?,
        };
        drop(lock);
        Ok(client)
    }

    fn lock(name: &str) -> Result<(Place, File)> {
        let start = Instant::now();
        loop {
            let place = Place::of(name)?;
            // A helper that ends removes the directory with the lock. The directory is then created again.
            if let Ok(lock) = place.lock_file()
                && lock.try_lock().is_ok()
                && place.is_locked_by(&lock)
            {
                return Ok((place, lock));
            }
            if start.elapsed() > START {
                let why = format!(
                    "a different kernel has been starting the broker for more than {START:?}. See the log in {}",
                    place.directory().display()
                );
                return Err(cannot_start(name, &why));
            }
            std::thread::sleep(TURN);
        }
    }

    /// None if no helper listens there (any more).
    fn connect(name: &str, place: &Place) -> Result<Option<Self>> {
        let Ok(stream) = UnixStream::connect(place.socket()) else { return Ok(None) };
        let timeouts = stream.set_read_timeout(Some(ANSWER)).and_then(|()| stream.set_write_timeout(Some(ANSWER)));
        if timeouts.is_err() {
            return Ok(None);
        }
        let mut control = BufReader::new(stream);
        let Ok(Reply::Hello(broker)) = ask(&mut control, &Request::Hello { protocol: PROTOCOL }) else {
            return Ok(None);
        };
        if broker.protocol != PROTOCOL {
            return Err(Error::config(format!(
                "the embedded broker '{name}' was started by a different version of bayou (process {}). Close the kernels of that \
                 version, or use a different name: bayou.connect(name=\"…\").",
                broker.pid
            )));
        }
        let watching = UnixStream::connect(place.socket()).and_then(|s| s.set_nonblocking(true).map(|()| s));
        let Ok(alive) = watching else { return Ok(None) };
        Ok(Some(Self { name: name.into(), broker, control: Mutex::new(control), alive }))
    }

    /// Starts the helper and joins it. The caller holds the lock.
    fn start(name: &str, place: &Place) -> Result<Self> {
        let launcher = LAUNCHER.lock().clone();
        let launcher = launcher.ok_or_else(|| cannot_start(name, "the command that starts its process is not set"))?;
        let (program, arguments) =
            launcher.command.split_first().ok_or_else(|| cannot_start(name, "its command is empty"))?;
        let log = File::create(place.log()).map_err(|e| cannot_start(name, &e.to_string()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(place.directory())
            // Python searches the working directory for modules, and other users may be able to write files there.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A process group of its own from the beginning, so that an interrupt for the kernel does not reach the
            // helper.
            .process_group(0)
            .spawn()
            .map_err(|e| cannot_start(name, &format!("{program}: {e}")))?;
        let start = Instant::now();
        let client = loop {
            if let Some(client) = Self::connect(name, place)? {
                break client;
            }
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || start.elapsed() > START {
                let _ = child.kill();
                let why =
                    ended.map_or_else(|| "it does not answer".to_string(), |status| format!("it ended with {status}"));
                return Err(cannot_start(name, &format!("{why}: {}", last_lines(&place.log()))));
            }
            std::thread::sleep(TURN);
        };
        reap(child);
        Ok(client)
    }

    /// The librdkafka properties to connect to the broker, including its secret.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        let all = [
            ("bootstrap.servers", self.broker.address.as_str()),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", MECHANISM),
            ("sasl.username", USER),
            ("sasl.password", &self.broker.secret),
        ];
        all.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }
    pub(crate) fn id(&self) -> &str {
        &self.broker.id
    }
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn scratch_dir(&self) -> &Path {
        &self.broker.scratch
    }

    pub(crate) fn create_topic(&self, new: &NewTopic) -> Result<()> {
        if new.replication_factor != 1 && new.replication_factor != -1 {
            return Err(self.cannot("replicate topics", "it is a single broker. Use replication_factor=1"));
        }
        if !new.config.is_empty() {
            let names: Vec<_> = new.config.keys().map(String::as_str).collect();
            let instead = format!("it does not have settings. Leave out config={{{}}}", names.join(", "));
            return Err(self.cannot("configure topics", &instead));
        }
        match self.ask(&Request::CreateTopic { name: new.name.clone(), partitions: new.partitions })? {
            Reply::Created => Ok(()),
            Reply::Exists => {
                Err(Error::topic(format!("topic '{}' exists already. To use it, pass exist_ok=True.", new.name)))
            }
            Reply::Refused(why) => {
                Err(Error::config(format!("creating topic '{}' on {}: {why}", new.name, self.label())))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Returns an error if the helper has ended. This sends no request; the cost is one look at a socket.
    pub(crate) fn check_alive(&self) -> Result<()> {
        match (&self.alive).read(&mut [0; 1]) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            _ => {
                LEFT.lock().insert(self.broker.scratch.clone());
                Err(self.gone())
            }
        }
    }

    /// Returns an error if the helper is gone.
    pub(crate) fn check(&self) -> Result<()> {
        self.ask(&Request::Usage).map(drop)
    }

    /// The error for a feature that only a real Kafka has.
    pub(crate) fn cannot(&self, what: &str, instead: &str) -> Error {
        Error::config(format!("the embedded broker '{}' cannot {what}: {instead}, or use a real Kafka.", self.name))
    }

    /// The error for a broker that does not answer any more.
    pub(crate) fn gone(&self) -> Error {
        Error::connection(format!(
            "the {} (process {}) is gone. It was in memory and cannot come back, and its topics and its scratch directory are lost. \
             bayou.connect() starts a new, empty broker.",
            self.label(),
            self.broker.pid
        ))
        .retryable(false)
    }

    /// The error for a batch that the gate refused.
    pub(crate) fn full(&self, topic: &Topic, partition: i32, delivered: u64, rows: u64) -> Error {
        let usage = match self.ask(&Request::Usage) {
            Ok(Reply::Usage(usage)) => usage,
            Ok(other) => return self.unexpected(&other),
            Err(e) => return e,
        };
        let Usage { partitions, limits } = usage;
        let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let total: usize = partitions.iter().map(|h| h.bytes).sum();
        let here = partitions.iter().find(|h| h.topic == topic.as_str() && h.partition == partition);
        let here = here.map_or_else(String::new, |h| {
            format!(
                "{topic}[{partition}] holds {} in {} batches (at most {} and {}), ",
                mib(h.bytes),
                h.batches,
                mib(limits.partition_bytes),
                limits.partition_batches
            )
        });
        Error::storage(format!(
            "the {} is full: {here}all topics together {} of {} (compressed). Its messages were not dropped. Of {rows} rows taken, {delivered} were \
             published and the rest was refused. The broker is in memory and cannot delete messages. Use a new broker (bayou.connect(name=\"…\"), or \
             close all its kernels for a few seconds), publish less, or use a real Kafka.",
            self.label(),
            mib(total),
            mib(limits.total_bytes)
        ))
    }

    fn label(&self) -> String {
        format!("embedded broker '{}'", self.name)
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        ask(&mut self.control.lock(), request).map_err(|e| self.gone().with_source(e))
    }

    fn unexpected(&self, reply: &Reply) -> Error {
        match reply {
            Reply::Refused(why) => Error::config(format!("the {} refuses: {why}", self.label())),
            other => Error::internal(format!("the {} gave an unexpected answer: {other:?}", self.label())),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.check_alive().is_err() {
            remove_what_is_left();
        }
    }
}

fn ask(control: &mut BufReader<UnixStream>, request: &Request) -> std::io::Result<Reply> {
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    control.get_mut().write_all(&text)?;
    let mut line = String::new();
    if control.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

fn cannot_start(name: &str, why: &str) -> Error {
    Error::connection(format!(
        "the embedded broker '{name}' does not start: {why}. To use a real Kafka instead, call bayou.connect(\"host:port\")."
    ))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// The helper usually outlives this kernel. If it does not, it must not stay as a zombie process.
fn reap(mut child: Child) {
    // Without the thread, the zombie process stays, which does no harm.
    let _ = std::thread::Builder::new().name("bayou-reaper".into()).spawn(move || child.wait());
}
