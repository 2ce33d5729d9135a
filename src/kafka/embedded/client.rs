//! A kernel's place at its user's broker: joins it or starts it, and keeps it alive by an open socket.

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

/// A Python interpreter that imports bayou from a cold disk takes a while.
const START: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(20);

/// The broker lives at least as long as this.
pub(in crate::kafka) struct Client {
    name: String,
    broker: Broker,
    control: Mutex<BufReader<UnixStream>>,
    /// Nothing is ever said on it: it ends when the helper does.
    alive: UnixStream,
}

/// What helpers that did not end by themselves have left behind.
static LEFT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes what helpers left behind that were killed while this process used them. Called when what wrote there has ended.
pub fn remove_what_is_left() {
    for left in LEFT.lock().iter() {
        let _ = fs::remove_dir_all(left);
    }
}

impl Client {
    /// Joins this user's broker of that name; the first one starts it.
    pub fn join(name: &str) -> Result<Self> {
        if let Some(client) = Self::connect(name, &Place::of(name)?)? {
            return Ok(client);
        }
        let (place, lock) = Self::lock(name)?;
        // Whoever held the lock before may have started it.
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
            // A helper that ends takes the directory along, lock and all: then it is made again.
            if let Ok(lock) = place.lock_file()
                && lock.try_lock().is_ok()
                && place.is_locked_by(&lock)
            {
                return Ok((place, lock));
            }
            if start.elapsed() > START {
                let why =
                    format!("another kernel has been starting it for {START:?}, see {}", place.directory().display());
                return Err(cannot_start(name, &why));
            }
            std::thread::sleep(TURN);
        }
    }

    /// None when nobody listens there (any more).
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
                "The embedded broker '{name}' was started by another version of bayou (process {}). Close that version's kernels, or \
                 use another name: bayou.connect(name=\"…\").",
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
        let launcher = launcher.ok_or_else(|| cannot_start(name, "nobody said how to start its process"))?;
        let (program, arguments) =
            launcher.command.split_first().ok_or_else(|| cannot_start(name, "its command is empty"))?;
        let log = File::create(place.log()).map_err(|e| cannot_start(name, &e.to_string()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(place.directory())
            // Python looks into the working directory for modules, which is anybody's.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A group of its own from the first instant: an interrupt that is meant for the kernel does not hit it.
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

    /// librdkafka's properties to reach it, its secret among them.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let all = [
            ("bootstrap.servers", self.broker.address.as_str()),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", MECHANISM),
            ("sasl.username", USER),
            ("sasl.password", &self.broker.secret),
        ];
        all.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }
    pub fn id(&self) -> &str {
        &self.broker.id
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn scratch_dir(&self) -> &Path {
        &self.broker.scratch
    }

    pub fn create_topic(&self, new: &NewTopic) -> Result<()> {
        if new.replication_factor != 1 && new.replication_factor != -1 {
            return Err(self.cannot("replicate topics", "it is a single broker, so use replication_factor=1"));
        }
        if !new.config.is_empty() {
            let names: Vec<_> = new.config.keys().map(String::as_str).collect();
            let instead = format!("leave out config={{{}}}", names.join(", "));
            return Err(self.cannot("configure topics", &instead));
        }
        match self.ask(&Request::CreateTopic { name: new.name.clone(), partitions: new.partitions })? {
            Reply::Created => Ok(()),
            Reply::Exists => {
                Err(Error::topic(format!("Topic '{}' exists already. Pass exist_ok=True to go on with it.", new.name)))
            }
            Reply::Refused(why) => {
                Err(Error::config(format!("Creating topic '{}' on {}: {why}.", new.name, self.label())))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// An error when the helper has ended. Asks nobody: it costs one look at a socket.
    pub fn check_alive(&self) -> Result<()> {
        match (&self.alive).read(&mut [0; 1]) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            _ => {
                LEFT.lock().insert(self.broker.scratch.clone());
                Err(self.gone())
            }
        }
    }

    /// An error when the helper is gone.
    pub fn check(&self) -> Result<()> {
        self.ask(&Request::Usage).map(drop)
    }

    /// The error for what only a real Kafka can do.
    pub fn cannot(&self, what: &str, instead: &str) -> Error {
        Error::config(format!("The embedded broker '{}' cannot {what}: {instead}; a real Kafka can.", self.name))
    }

    /// The error for a broker that no longer answers.
    pub fn gone(&self) -> Error {
        Error::connection(format!(
            "The {} (process {}) is gone. It was in memory and cannot come back: its topics and its scratch directory are gone with it. \
             bayou.connect() starts a new, empty one.",
            self.label(),
            self.broker.pid
        ))
    }

    /// The error for a batch that the gate refused.
    pub fn full(&self, topic: &Topic, partition: i32, delivered: u64, rows: u64) -> Error {
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
            "The {} is full: {here}all topics together {} of {} (compressed). Nothing that it holds was dropped; of {rows} rows taken \
             {delivered} were published and the rest refused. It lives in memory and cannot delete: go on with a new one \
             (bayou.connect(name=\"…\"), or close all its kernels for a few seconds), publish less, or use a real Kafka.",
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
            Reply::Refused(why) => Error::config(format!("The {} refuses: {why}.", self.label())),
            other => Error::internal(format!("The {} answered {other:?} to another question.", self.label())),
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
        "The embedded broker '{name}' does not start: {why}. bayou.connect(\"host:port\") uses a real Kafka instead."
    ))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// The helper usually outlives this kernel; when it does not, it must not stay as a zombie.
fn reap(mut child: Child) {
    // Without the thread the zombie is only untidy.
    let _ = std::thread::Builder::new().name("bayou-reaper".into()).spawn(move || child.wait());
}
