//! Connecting to a broker, or a fast and clear error.

use crate::support::{env, from_start, kafka, name, new_topic, read};
use bayou::testing::{
    Kind,
    kafka::{Connection, Target},
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn sasl(password: &str) -> BTreeMap<String, String> {
    properties(&[
        ("bootstrap.servers", &env("BAYOU_TEST_KAFKA_SASL")),
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", &env("BAYOU_TEST_KAFKA_USER")),
        ("sasl.password", password),
        ("ssl.ca.location", &env("BAYOU_TEST_KAFKA_CA")),
    ])
}

#[test]
fn nothing_that_names_no_broker_is_taken_for_the_embedded_one() {
    for target in [Target::Address(String::new()), Target::Address("  ".into()), Target::Properties(BTreeMap::new())] {
        assert_eq!(Connection::open(target).unwrap_err().kind, Kind::Config);
    }
}

#[test]
fn a_dead_or_misspelt_broker_is_named_within_ten_seconds() {
    // 192.0.2.0/24 is reserved for documentation: packets to it vanish, or are refused on the way.
    for address in ["127.0.0.1:1", "no-such-host.invalid:9092", "192.0.2.1:9092"] {
        let start = Instant::now();
        let error = Connection::open(Target::Address(address.into())).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10), "{address}: {:?}", start.elapsed());
        assert_eq!(error.kind, Kind::Connection, "{error}");
        assert!(error.message.contains(address), "{error}");
        println!("{:?}: {error}", start.elapsed());
    }
}

#[test]
fn a_port_that_takes_connections_and_never_answers_is_named_within_ten_seconds() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Connections stay open as long as they are kept.
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for protocol in ["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"] {
            let address = &address;
            scope.spawn(move || {
                let mut target = properties(&[("bootstrap.servers", address), ("security.protocol", protocol)]);
                if protocol.starts_with("SASL") {
                    target.extend(properties(&[
                        ("sasl.mechanism", "SCRAM-SHA-256"),
                        ("sasl.username", "u"),
                        ("sasl.password", "secret-word"),
                    ]));
                }
                let start = Instant::now();
                let error = Connection::open(Target::Properties(target)).unwrap_err();
                assert!(start.elapsed() < Duration::from_secs(10), "{protocol}: {:?}", start.elapsed());
                assert_eq!(error.kind, Kind::Connection, "{protocol}: {error}");
                assert!(error.message.contains(address), "{protocol}: {error}");
                println!("{protocol}, {:?}: {error}", start.elapsed());
            });
        }
    });
}

#[test]
fn sasl_ssl_with_a_ca_of_its_own_works_from_topic_to_message() {
    let kafka = Connection::open(Target::Properties(sasl(&env("BAYOU_TEST_KAFKA_PASSWORD")))).unwrap();
    let name = name("secured");
    kafka.create_topic(&new_topic(&name, 2)).unwrap();
    assert_eq!(kafka.describe_topic(&name).unwrap().partitions.len(), 2);
    let mut config = ClientConfig::new();
    config.extend(sasl(&env("BAYOU_TEST_KAFKA_PASSWORD")));
    let producer: BaseProducer = config.create().unwrap();
    producer.send(BaseRecord::<(), str>::to(&name).partition(1).payload("hush")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let read = read(&kafka, &from_start(&name, 2));
    assert_eq!(read.all(), [(1, 0, None, Some(b"hush".to_vec()))]);
}

#[test]
fn a_wrong_password_is_an_auth_error_and_shows_nowhere() {
    let wrong = "correct-horse-battery";
    let start = Instant::now();
    let error = Connection::open(Target::Properties(sasl(wrong))).unwrap_err();
    assert_eq!(error.kind, Kind::Auth, "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    println!("{:?}: {error}", start.elapsed());
    let target = Target::Properties(sasl(wrong));
    for text in [format!("{error}"), format!("{error:?}"), format!("{target:?}")] {
        assert!(!text.contains(wrong), "{text}");
    }

    let right = env("BAYOU_TEST_KAFKA_PASSWORD");
    let kafka = Connection::open(Target::Properties(sasl(&right))).unwrap();
    let shown = format!("{} {kafka:?} {:?} {}", kafka.describe(), kafka.safe_properties(), kafka.identity());
    assert!(!shown.contains(&right) && shown.contains("SASL_SSL"), "{shown}");
}

#[test]
fn a_broker_whose_certificate_nobody_vouches_for_is_an_auth_error() {
    let mut properties = sasl(&env("BAYOU_TEST_KAFKA_PASSWORD"));
    properties.remove("ssl.ca.location");
    let error = Connection::open(Target::Properties(properties)).unwrap_err();
    assert_eq!(error.kind, Kind::Auth, "{error}");
    assert!(error.message.contains("ssl.ca.location"), "{error}");
}

#[test]
fn two_connections_are_the_same_only_with_the_same_secrets() {
    let open = |client: &str| {
        let servers = env("BAYOU_TEST_KAFKA");
        let target = properties(&[("bootstrap.servers", &servers), ("ssl.key.password", client)]);
        Connection::open(Target::Properties(target)).unwrap()
    };
    assert_eq!(open("aaaaaa").identity(), open("aaaaaa").identity());
    assert_ne!(open("aaaaaa").identity(), open("bbbbbb").identity());
    assert_eq!(open("aaaaaa").cluster_id().unwrap(), kafka().cluster_id().unwrap());
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    for address in [
        "http://localhost:9092",
        "localhost:99999",
        "localhost:",
        ":9092",
        "a b:9092",
        "localhost:9092;other:9092",
        "h:1,",
    ] {
        let start = Instant::now();
        let error = Connection::open(Target::Address(address.into())).unwrap_err();
        assert!(error.kind == Kind::Connection && error.message.contains("host:port"), "{address}: {error}");
        assert!(start.elapsed() < Duration::from_millis(500));
    }
    let pasted = Connection::open(Target::Address("me:hunter2hunter2@localhost:1".into())).unwrap_err();
    assert!(!pasted.message.contains("hunter2"), "{pasted}");
}

/// Records every log line of the process.
struct Log(std::sync::Mutex<String>);
static LOG: Log = Log(std::sync::Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let mut text = self.0.lock().unwrap();
        text.push_str(&format!("{} {}\n", record.target(), record.args()));
    }
    fn flush(&self) {}
}

#[test]
fn no_log_line_shows_a_password_even_when_librdkafka_tells_everything() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let right = env("BAYOU_TEST_KAFKA_PASSWORD");
    for password in ["correct-horse-battery", right.as_str()] {
        let mut properties = sasl(password);
        properties.insert("debug".into(), "all".into());
        if let Ok(kafka) = Connection::open(Target::Properties(properties)) {
            let name = name("logged");
            kafka.create_topic(&new_topic(&name, 1)).unwrap();
            let rows = bayou::testing::simulate::Fitness::new(bayou::testing::simulate::FitnessOptions::new(
                10,
                1,
                bayou::testing::time::EventTime(0),
            ));
            let topic = bayou::testing::position::Topic::new(&name);
            kafka
                .produce(&topic, &mut rows.unwrap(), &bayou::testing::kafka::ProduceOptions::default(), &mut |_| Ok(()))
                .unwrap();
            assert_eq!(read(&kafka, &from_start(&name, 1)).len(), 10);
        }
    }
    log::set_max_level(log::LevelFilter::Off);
    let log = LOG.0.lock().unwrap();
    assert!(log.contains("librdkafka") && log.contains("SASL"), "nothing was logged");
    for password in ["correct-horse-battery", right.as_str()] {
        assert!(!log.contains(password));
    }
}
