//! The embedded broker: shared by processes, ends with its last user, and reports its limits.

use crate::support::{from_start, name, new_topic, read};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use bayou::testing::{
    Kind,
    kafka::{
        BrokerLauncher, Connection, Event, OffsetSpec, ProduceOptions, Reader, ReaderOptions, Target, run_broker,
        set_launcher,
    },
    position::{Topic, TopicPartition},
    simulate::{Fitness, FitnessOptions},
    time::EventTime,
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// This binary as the helper. The directory is the last argument.
fn launcher() -> BrokerLauncher {
    let me = std::env::current_exe().unwrap().display().to_string();
    let arguments = ["--ignored", "--exact", "--nocapture", "kafka_embedded::helper_process"].map(String::from);
    BrokerLauncher { command: [vec![me], arguments.to_vec()].concat() }
}

#[test]
#[ignore = "not a test: what the helper process runs"]
fn helper_process() {
    let directory = std::env::args().next_back().unwrap();
    if !directory.starts_with('/') {
        return; // the user runs all ignored tests
    }
    run_broker(Path::new(&directory)).unwrap();
}

#[test]
#[ignore = "not a test: another kernel, which joins the broker named by a variable and waits to be killed"]
fn other_kernel() {
    let Ok(name) = std::env::var("BAYOU_TEST_EMBEDDED") else { return };
    let kafka = open(&name);
    println!("\njoined {} {}", kafka.cluster_id().unwrap(), kafka.topics(false).unwrap().len());
    std::thread::sleep(Duration::from_secs(60));
}

fn open(name: &str) -> Connection {
    set_launcher(launcher());
    Connection::open(Target::Embedded { name: name.into() }).unwrap()
}

/// Starts a second kernel and waits until it has joined. Returns its process and its output.
fn other(name: &str) -> (Child, String) {
    let launcher = launcher();
    let mut child = Command::new(&launcher.command[0])
        .args(["--ignored", "--exact", "--nocapture", "kafka_embedded::other_kernel"])
        .env("BAYOU_TEST_EMBEDDED", name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).find(|l| l.starts_with("joined")).unwrap();
    (child, said)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The process id of the helper, from an error that names it. The scratch directory identifies the helper.
fn helper_pids() -> Vec<u32> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains("kafka_embedded::helper_process") {
            pids.push(pid);
        }
    }
    pids
}

fn helper_of(name: &str) -> Option<u32> {
    let ends = format!("/{name}\0");
    helper_pids().into_iter().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).ends_with(&ends))
    })
}

fn wait_until(limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "{what} took longer than {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}

fn fitness(rows: u64, seed: u64) -> Fitness {
    Fitness::new(FitnessOptions::new(rows, seed, EventTime(1_700_000_000_000_000))).unwrap()
}

#[test]
fn kernels_of_one_user_share_a_broker_that_ends_after_the_last_of_them() {
    let name = name("shared");
    let kafka = open(&name);
    kafka.create_topic(&new_topic("t", 3)).unwrap();
    let id = kafka.cluster_id().unwrap();
    assert!(id.starts_with("embedded-") && kafka.is_embedded(), "{id}");
    let scratch = kafka.scratch_dir().unwrap();
    std::fs::write(scratch.join("file"), "x").unwrap();

    let (child, said) = other(&name);
    assert_eq!(said, format!("joined {id} 1"));
    drop(kafka);
    // The other kernel still needs the broker, long after the time at which the broker would end.
    std::thread::sleep(Duration::from_secs(7));
    let kafka = open(&name);
    assert_eq!(kafka.cluster_id().unwrap(), id);
    drop(kafka);
    kill(child); // as hard as can be
    let took = wait_until(Duration::from_secs(12), "the helper's end", || helper_of(&name).is_none());
    println!("the helper ended {took:?} after its last client was killed");
    assert!(took > Duration::from_secs(3));
    assert!(!scratch.exists());

    let kafka = open(&name);
    assert_ne!(kafka.cluster_id().unwrap(), id);
    assert!(kafka.topics(false).unwrap().is_empty());
}

#[test]
fn many_kernels_that_start_at_once_find_one_broker() {
    let name = name("race");
    let children: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..6).map(|_| s.spawn(|| other(&name))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let ids: std::collections::BTreeSet<_> = children.iter().map(|(_, said)| said.clone()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    children.into_iter().for_each(|(child, _)| kill(child));
}

#[test]
fn a_broker_that_was_killed_is_named_and_another_one_can_be_started() {
    let name = name("killed");
    let kafka = open(&name);
    let pid = helper_of(&name).unwrap();
    Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    wait_until(Duration::from_secs(5), "the kill", || helper_of(&name).is_none());
    let start = Instant::now();
    let error = kafka.topics(false).unwrap_err();
    assert!(error.kind == Kind::Connection && error.message.contains("is gone"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let again = open(&name);
    assert_ne!(again.cluster_id().unwrap(), kafka.cluster_id().unwrap());
}

#[test]
fn what_the_embedded_broker_cannot_do_it_refuses_by_name() {
    let kafka = open(&name("limits"));
    kafka.create_topic(&new_topic("t", 1)).unwrap();
    let tp = TopicPartition::new("t", 0);
    let mut configured = new_topic("c", 1);
    configured.config.insert("retention.ms".into(), "1".into());
    let mut replicated = new_topic("r", 1);
    replicated.replication_factor = 3;
    for (error, what) in [
        (kafka.delete_topic("t").unwrap_err(), "delete topics"),
        (kafka.list_offsets(&[(tp, OffsetSpec::Timestamp(1))]).unwrap_err(), "by time"),
        (kafka.create_topic(&configured).unwrap_err(), "retention.ms"),
        (kafka.create_topic(&replicated).unwrap_err(), "replication_factor=1"),
    ] {
        assert_eq!(error.kind, Kind::Config);
        assert!(error.message.contains("embedded broker") && error.message.contains(what), "{error}");
    }
    let exists = kafka.create_topic(&new_topic("t", 1)).unwrap_err();
    assert!(exists.kind == Kind::Topic && exists.message.contains("exist_ok"));
    kafka.create_topic(&bayou::testing::kafka::NewTopic { exist_ok: true, ..new_topic("t", 1) }).unwrap();
    let typo = kafka.partitions(&Topic::new("tt")).unwrap_err();
    assert!(typo.kind == Kind::Topic && typo.message.contains("'tt'"), "{typo}");
    assert_eq!(kafka.topics(false).unwrap().len(), 1, "asking for a topic does not make it");
    assert!(Connection::open(Target::Embedded { name: "../x".into() }).is_err());
}

#[test]
fn two_million_events_in_six_partitions_fit_and_none_is_lost() {
    let kafka = open(&name("fits"));
    kafka.create_topic(&new_topic("fitness", 6)).unwrap();
    let rows = 2_000_000;
    let start = Instant::now();
    let options = ProduceOptions { key: Some("ip".into()), ..ProduceOptions::default() };
    let report = kafka.produce(&Topic::new("fitness"), &mut fitness(rows, 1), &options, &mut |_| Ok(())).unwrap();
    println!("{report:?}: {:.0} rows/s", rows as f64 / start.elapsed().as_secs_f64());
    assert_eq!((report.rows, report.delivered, report.failed), (rows, rows, 0));
    let start = Instant::now();
    let read = read(&kafka, &from_start("fitness", 6));
    println!("read {:.2} M/s", read.len() as f64 / start.elapsed().as_secs_f64() / 1e6);
    assert_eq!(read.len() as u64, rows);
    let described = kafka.describe_topic("fitness").unwrap();
    assert_eq!(described.partitions.iter().map(|p| p.latest.0 - p.earliest.0).sum::<i64>() as u64, rows);
}

/// Text that does not compress.
fn noise(rows: usize, bytes: usize, seed: u64) -> RecordBatch {
    use rand::{RngExt, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let text =
        |r: &mut rand_chacha::ChaCha8Rng| (0..bytes).map(|_| char::from(r.random_range(33..127u8))).collect::<String>();
    let texts: Vec<String> = (0..rows).map(|_| text(&mut random)).collect();
    RecordBatch::try_from_iter([("v", Arc::new(StringArray::from(texts)) as ArrayRef)]).unwrap()
}

#[test]
fn a_full_broker_refuses_loudly_and_keeps_every_row_that_it_took() {
    let name = name("full");
    let kafka = open(&name);
    kafka.create_topic(&new_topic("t", 2)).unwrap();
    // Two kernels fill it at the same time, with far more than it accepts.
    let fill = |seed: u64| {
        let kafka = open(&name);
        let batch = noise(2_000, 50_000, seed);
        let mut delivered = 0;
        for _ in 0..20 {
            let mut last = 0;
            let result = kafka.produce(
                &Topic::new("t"),
                &mut std::iter::once(Ok(batch.clone())),
                &ProduceOptions { compression: Some("none".into()), ..ProduceOptions::default() },
                &mut |r| {
                    last = r.delivered;
                    Ok(())
                },
            );
            match result {
                Ok(report) => {
                    assert_eq!(report.failed, 0, "{:?}", report.failures);
                    delivered += report.delivered;
                }
                Err(error) => return (delivered, error),
            }
        }
        panic!("2 GB fitted");
    };
    let (a, b) = std::thread::scope(|s| {
        let other = s.spawn(|| fill(2));
        (fill(1), other.join().unwrap())
    });
    for (_, error) in [&a, &b] {
        assert_eq!(error.kind, Kind::Storage);
        for word in ["is full", &name, "MiB", "Its messages were not dropped", "real Kafka"] {
            assert!(error.message.contains(word), "{word}: {error}");
        }
    }
    println!("{}", a.1);
    let described = kafka.describe_topic("t").unwrap();
    assert!(described.partitions.iter().all(|p| p.earliest.0 == 0), "nothing was evicted: {described:?}");
    let there: i64 = described.partitions.iter().map(|p| p.latest.0).sum();
    assert!(there as u64 >= a.0 + b.0);
    assert_eq!(read(&kafka, &from_start("t", 2)).len() as i64, there);
}

#[test]
fn reading_and_publishing_stop_quickly_when_the_broker_dies() {
    let name = name("dies");
    let kafka = open(&name);
    kafka.create_topic(&new_topic("t", 1)).unwrap();
    let mut reader = Reader::start(&kafka, &from_start("t", 1), &ReaderOptions::default()).unwrap();
    let mut killed = false;
    let start = Instant::now();
    let error = kafka
        .produce(
            &Topic::new("t"),
            &mut fitness(1_000_000, 1),
            &ProduceOptions { rate: Some(1_000.0), ..ProduceOptions::default() },
            &mut |r| {
                if r.delivered > 100 && !std::mem::replace(&mut killed, true) {
                    let pid = helper_of(&name).unwrap();
                    Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
                }
                Ok(())
            },
        )
        .unwrap_err();
    println!("publishing ended after {:?}: {error}", start.elapsed());
    assert!(error.kind == Kind::Connection && error.message.contains("is gone"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let mut warned = false;
    while !warned && start.elapsed() < Duration::from_secs(15) {
        warned = matches!(reader.next(Duration::from_millis(100)).unwrap(), Some(Event::Warning(_)));
    }
    assert!(warned);
    let stop = Instant::now();
    reader.stop();
    println!("the reader stopped in {:?}", stop.elapsed());
    assert!(stop.elapsed() < Duration::from_secs(1));
}

#[test]
fn other_clients_make_no_topics_by_accident() {
    let kafka = open(&name("foreign"));
    kafka.create_topic(&new_topic("t", 1)).unwrap();
    let mut config = ClientConfig::new();
    config.extend(kafka.client_properties().unwrap());
    let producer: BaseProducer = config.set("message.timeout.ms", "2000").create().unwrap();
    producer.send(BaseRecord::<(), str>::to("typo").payload("x")).unwrap();
    producer.send(BaseRecord::<(), str>::to("t").payload("x")).unwrap();
    producer.flush(Duration::from_secs(5)).unwrap();
    let topics: Vec<_> = kafka.topics(false).unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(topics, ["t"]);
    assert_eq!(read(&kafka, &from_start("t", 1)).len(), 1);
}

/// The TCP addresses on which a process listens.
fn listens_at(pid: u32) -> Vec<u16> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let names = files.filter_map(|f| std::fs::read_link(f.path()).ok());
    let sockets: Vec<String> =
        names.filter_map(|n| Some(n.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_string())).collect();
    let mut ports = vec![];
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A: listening.
            if fields[3] == "0A" && sockets.iter().any(|s| s == fields[9]) {
                ports.push(u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap());
            }
        }
    }
    ports
}

#[test]
fn who_does_not_know_the_secret_gets_nothing_from_the_embedded_broker() {
    let name = name("private");
    let kafka = open(&name);
    kafka.create_topic(&new_topic("t", 1)).unwrap();
    let right = kafka.client_properties().unwrap();
    assert!(!format!("{kafka:?} {}", kafka.describe()).contains(&right["sasl.password"]));
    let port: u16 = kafka.address().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(listens_at(helper_of(&name).unwrap()), [port], "the gate is the only way in");

    let mut wrong = right.clone();
    wrong.insert("sasl.password".into(), "0".repeat(32));
    let mut plain = right.clone();
    plain.insert("sasl.mechanism".into(), "PLAIN".into());
    let mut other = right.clone();
    other.insert("sasl.username".into(), "root".into());
    let none = std::collections::BTreeMap::from([("bootstrap.servers".to_string(), kafka.address().to_string())]);
    for (how, properties) in [("wrong", wrong), ("PLAIN", plain), ("another name", other), ("none", none)] {
        let mut config = ClientConfig::new();
        config.extend(properties);
        let producer: BaseProducer = config.set("message.timeout.ms", "1500").set("log_level", "0").create().unwrap();
        let listed = producer.client().fetch_metadata(None, Duration::from_millis(1500));
        assert!(listed.is_err(), "{how}");
        producer.send(BaseRecord::<(), str>::to("t").payload("forged")).unwrap();
        let _ = producer.flush(Duration::from_secs(3));
    }
    // Kafka requests before the proof, and bytes that are not requests.
    for bytes in [&b"\0\0\0\x10\0\x03\0\x01\0\0\0\x01\xff\xff\0\0\0\0"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(kafka.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = vec![];
        // The connection is closed without an answer, cleanly or not.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_eq!(read(&kafka, &from_start("t", 1)).len(), 0);
    kafka.produce(&Topic::new("t"), &mut fitness(3, 1), &ProduceOptions::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(read(&kafka, &from_start("t", 1)).len(), 3);
}
