//! The reader with a real broker: it returns what was written, to the byte and to the last offset.

use crate::support::{env, from_start, kafka, name as fresh_name, new_topic, read, read_with, topic};
use bayou::testing::{
    batch::TimestampType,
    kafka::{Event, Reader, ReaderOptions},
    position::{Offset, Positions, TopicPartition},
};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::{Duration, Instant};

fn producer(extra: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", env("BAYOU_TEST_KAFKA")).set("queue.buffering.max.messages", "2000000");
    for (name, value) in extra {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

#[test]
fn keys_values_headers_and_timestamps_come_back_to_the_byte() {
    let kafka = kafka();
    let name = topic(&kafka, "bytes", 3);
    let producer = producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "source", value: Some(&b"test"[..]) })
        .insert(Header { key: "none", value: None::<&[u8]> })
        .insert(Header { key: "source", value: Some(&b""[..]) });
    let to = |partition| BaseRecord::<[u8], [u8]>::to(&name).partition(partition).timestamp(1_700_000_000_123);
    producer.send(to(0).key(b"k").payload(b"\x00\xff{").headers(headers)).unwrap();
    producer.send(to(1).key(b"gone")).unwrap(); // a tombstone
    producer.send(to(2).key(b"").payload(b"")).unwrap(); // empty is not null
    producer.flush(Duration::from_secs(10)).unwrap();

    let read = read(&kafka, &from_start(&name, 3));
    let some = |b: &[u8]| Some(b.to_vec());
    assert_eq!(
        read.all(),
        [(0, 0, some(b"k"), some(b"\x00\xff{")), (1, 0, some(b"gone"), None), (2, 0, some(b""), some(b""))]
    );
    for chunk in &read.chunks {
        for i in 0..chunk.len() {
            assert_eq!((chunk.timestamps[i], chunk.timestamp_types[i]), (1_700_000_000_123, TimestampType::CreateTime));
            let expected =
                vec![("source".to_string(), some(b"test")), ("none".into(), None), ("source".into(), some(b""))];
            assert_eq!(chunk.headers(i), (chunk.source(i).partition.0 == 0).then_some(&expected));
        }
    }
    assert!(read.ends.values().all(|next| *next == Offset(1)));
}

#[test]
fn half_a_million_messages_come_in_order_and_complete() {
    let kafka = kafka();
    let name = topic(&kafka, "many", 4);
    let producer = producer(&[("linger.ms", "20"), ("compression.type", "lz4")]);
    let rows = 500_000;
    for i in 0..rows {
        let value = format!(
            "{{\"ip\":\"10.0.{}.{}\",\"time\":\"2024-01-01T00:00:00.000000Z\",\"version\":\"1.0\",\"model\":\"runner\",\"color\":\"black\",\"heart_bpm\":90,\"kcal\":100,\"n\":{i:07}}}",
            i % 200,
            i % 100
        );
        producer.send(BaseRecord::<(), str>::to(&name).partition(i % 4).payload(&value)).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    for attempt in 0..3 {
        let start = Instant::now();
        let read = read(&kafka, &from_start(&name, 4));
        let seconds = start.elapsed().as_secs_f64();
        println!("attempt {attempt}: {:.2} M messages/s", f64::from(rows) / seconds / 1e6);
        assert_eq!(read.len(), rows as usize);
        for p in 0..4 {
            let mut next = 0;
            for chunk in &read.chunks {
                for i in (0..chunk.len()).filter(|i| chunk.source(*i).partition.0 == p) {
                    assert_eq!(chunk.offset(i).0, next);
                    next += 1;
                }
            }
            assert_eq!(next, i64::from(rows / 4));
        }
    }
}

#[test]
fn reading_starts_at_the_offset_that_is_given() {
    let kafka = kafka();
    let name = topic(&kafka, "middle", 1);
    let producer = producer(&[]);
    (0..100).for_each(|i| producer.send(BaseRecord::<(), str>::to(&name).payload(&format!("{i}"))).unwrap());
    producer.flush(Duration::from_secs(10)).unwrap();
    let from = Positions::from([(TopicPartition::new(&name, 0), Offset(42))]);
    assert_eq!(read(&kafka, &from).offsets(), (42..100).collect::<Vec<_>>());
    let from = Positions::from([(TopicPartition::new(&name, 0), Offset(100))]);
    let read = read(&kafka, &from);
    assert_eq!((read.len(), read.ends.values().next()), (0, Some(&Offset(100))));
}

#[test]
fn aborted_and_open_transactions_are_not_read_and_markers_are_stepped_over() {
    let kafka = kafka();
    let name = topic(&kafka, "transactions", 1);
    let transactional = |id: &str| {
        let p = producer(&[("transactional.id", &format!("{name}-{id}"))]);
        p.init_transactions(Duration::from_secs(20)).unwrap();
        p
    };
    let send = |p: &BaseProducer, n: i32| {
        (0..n).for_each(|i| p.send(BaseRecord::<(), str>::to(&name).partition(0).payload(&format!("{i}"))).unwrap());
        p.flush(Duration::from_secs(10)).unwrap();
    };
    let (x, y) = (transactional("x"), transactional("y"));
    x.begin_transaction().unwrap();
    send(&x, 5); // 0 to 4, marker 5
    x.commit_transaction(Duration::from_secs(10)).unwrap();
    x.begin_transaction().unwrap();
    send(&x, 3); // 6 to 8, marker 9
    x.abort_transaction(Duration::from_secs(10)).unwrap();
    let tp = TopicPartition::new(&name, 0);
    // A coordinator writes markers after it has answered, so the last stable offset may move later.
    let stable_from = |end: i64| {
        let ends = || kafka.describe_topic(&name).unwrap().partitions[0].latest == Offset(end);
        let began = Instant::now();
        while !ends() && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    stable_from(10);
    let committed = read(&kafka, &from_start(&name, 1));
    assert_eq!(committed.offsets(), [0, 1, 2, 3, 4]);
    assert_eq!(committed.ends[&tp], Offset(10), "the aborted ones and both markers lie behind");

    y.begin_transaction().unwrap();
    send(&y, 4); // 10 to 13, open
    x.begin_transaction().unwrap();
    send(&x, 2); // 14 and 15, marker 16: committed, but behind the open one
    x.commit_transaction(Duration::from_secs(10)).unwrap();
    let open = read(&kafka, &from_start(&name, 1));
    assert_eq!(open.offsets(), [0, 1, 2, 3, 4]);
    assert_eq!(open.ends[&tp], Offset(10), "nothing beyond the last stable offset");
    assert_eq!(kafka.describe_topic(&name).unwrap().partitions[0].latest, Offset(10));

    y.abort_transaction(Duration::from_secs(10)).unwrap();
    stable_from(18);
    let closed = read(&kafka, &from_start(&name, 1));
    assert_eq!(closed.offsets(), [0, 1, 2, 3, 4, 14, 15]);
    assert_eq!(closed.ends[&tp], Offset(18));
}

#[test]
fn an_offset_that_does_not_exist_is_reported_and_can_be_started_again_elsewhere() {
    let kafka = kafka();
    let name = topic(&kafka, "range", 2);
    let producer = producer(&[]);
    (0..10).for_each(|_| producer.send(BaseRecord::<(), str>::to(&name).partition(0).payload("x")).unwrap());
    producer.flush(Duration::from_secs(10)).unwrap();
    let tp = TopicPartition::new(&name, 0);
    let from = Positions::from([(tp.clone(), Offset(500)), (TopicPartition::new(&name, 1), Offset(0))]);
    let read = read_with(&kafka, &from, &ReaderOptions::default(), Duration::from_secs(10));
    assert_eq!(read.out_of_range, [(tp.clone(), Offset(500))]);

    let mut reader = Reader::start(&kafka, &from, &ReaderOptions::default()).unwrap();
    let (mut seen, start) = (Vec::new(), Instant::now());
    while seen.len() < 7 && start.elapsed() < Duration::from_secs(10) {
        match reader.next(Duration::from_millis(100)).unwrap() {
            Some(Event::OutOfRange { partition, .. }) => {
                reader.assign(&Positions::from([(partition, Offset(3))])).unwrap()
            }
            Some(Event::Messages(m)) => seen.extend(m.offsets),
            _ => {}
        }
    }
    assert_eq!(seen, [3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn offsets_that_retention_removed_are_reported_and_never_skipped() {
    let kafka = kafka();
    let name = fresh_name("retention");
    let mut new = new_topic(&name, 1);
    new.config.insert("retention.ms".into(), "1000".into());
    kafka.create_topic(&new).unwrap();
    let producer = producer(&[]);
    let old = |i: i32| {
        let value = i.to_string();
        producer.send(BaseRecord::<(), str>::to(&name).timestamp(1_700_000_000_000).payload(&value)).unwrap();
    };
    (0..10).for_each(old);
    producer.flush(Duration::from_secs(10)).unwrap();
    let start = Instant::now();
    while kafka.describe_topic(&name).unwrap().partitions[0].earliest < Offset(10) {
        assert!(start.elapsed() < Duration::from_secs(30), "the broker forgets nothing");
        std::thread::sleep(Duration::from_millis(200));
    }
    let from = Positions::from([(TopicPartition::new(&name, 0), Offset(4))]);
    let read = read(&kafka, &from);
    assert_eq!((read.len(), read.out_of_range), (0, vec![(TopicPartition::new(&name, 0), Offset(4))]));
}

#[test]
fn partitions_can_be_added_while_reading() {
    let kafka = kafka();
    let name = topic(&kafka, "growing", 2);
    let producer = producer(&[]);
    (0..2).for_each(|p| producer.send(BaseRecord::<(), str>::to(&name).partition(p).payload("x")).unwrap());
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut reader = Reader::start(&kafka, &Positions::new(), &ReaderOptions::default()).unwrap();
    assert!(reader.next(Duration::from_millis(50)).unwrap().is_none());
    for p in 0..2 {
        reader.assign(&Positions::from([(TopicPartition::new(&name, p), Offset(0))])).unwrap();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(10));
            if let Some(Event::Messages(m)) = reader.next(Duration::from_millis(100)).unwrap() {
                assert_eq!((m.len(), m.source(0).partition.0), (1, p));
                break;
            }
        }
    }
}

#[test]
fn a_reader_stops_within_a_second_also_while_its_queue_is_full() {
    let kafka = kafka();
    let name = topic(&kafka, "stopping", 1);
    let producer = producer(&[]);
    (0..10_000).for_each(|_| producer.send(BaseRecord::<(), str>::to(&name).payload("x")).unwrap());
    producer.flush(Duration::from_secs(10)).unwrap();
    let options = ReaderOptions { chunk_messages: 10, queue_chunks: 1, ..ReaderOptions::default() };
    let reader = Reader::start(&kafka, &from_start(&name, 1), &options).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    reader.stop();
    println!("stopped in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_damaged_message_is_data_loss_that_names_its_place() {
    let kafka = kafka();
    let name = topic(&kafka, "damaged", 1);
    let producer = producer(&[("linger.ms", "0")]);
    for value in ["first", "second", "third"] {
        producer.send(BaseRecord::<(), str>::to(&name).payload(value)).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
    }
    // The broker sends the file as it is on disk.
    let log = std::path::Path::new(&env("BAYOU_TEST_KAFKA_DATA")).join(format!("{name}-0/00000000000000000000.log"));
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(6).position(|w| w == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();

    let mut reader = Reader::start(&kafka, &from_start(&name, 1), &ReaderOptions::default()).unwrap();
    let (mut seen, start) = (Vec::new(), Instant::now());
    let error = loop {
        assert!(start.elapsed() < Duration::from_secs(10), "{seen:?}");
        match reader.next(Duration::from_millis(100)) {
            Err(error) => break error,
            Ok(Some(Event::Messages(m))) => seen.extend(m.offsets),
            Ok(_) => {}
        }
    };
    println!("{error}");
    assert_eq!(error.kind, bayou::Kind::DataLoss);
    assert!(error.message.contains(&format!("{name}[0] offset 1")), "{error}");
    assert_eq!(seen, [0]);
}

#[test]
#[ignore = "not a test: a process whose reader waits for a user that does not come, and says how much memory it took"]
fn idle_reader() {
    let Ok(name) = std::env::var("BAYOU_TEST_TOPIC") else { return };
    let mut properties = std::collections::BTreeMap::new();
    for pair in std::env::var("BAYOU_TEST_PROPERTIES").unwrap_or_default().split(',').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap();
        properties.insert(key.to_string(), value.to_string());
    }
    let options = ReaderOptions { properties, ..ReaderOptions::default() };
    let reader = Reader::start(&kafka(), &from_start(&name, 6), &options).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    drop(reader);
    let start = Instant::now();
    let mut reader = Reader::start(&kafka(), &from_start(&name, 6), &options).unwrap();
    let (mut count, mut ends) = (0, 0);
    while ends < 6 {
        match reader.next(Duration::from_secs(1)).unwrap() {
            Some(Event::Messages(m)) => count += m.len(),
            Some(Event::EndOfPartition { .. }) => ends += 1,
            _ => {}
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").to_string();
    println!("\npeak {peak} kB, {:.2} M messages/s", count as f64 / start.elapsed().as_secs_f64() / 1e6);
}

#[test]
fn a_reader_whose_user_is_slow_stays_small() {
    let kafka = kafka();
    let name = topic(&kafka, "memory", 6);
    let rows = bayou::testing::simulate::FitnessOptions::new(
        2_000_000,
        1,
        bayou::testing::time::EventTime(1_700_000_000_000_000),
    );
    let mut rows = bayou::testing::simulate::Fitness::new(rows).unwrap();
    let to = bayou::testing::position::Topic::new(&name);
    kafka.produce(&to, &mut rows, &bayou::testing::kafka::ProduceOptions::default(), &mut |_| Ok(())).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "kafka_read::idle_reader"])
        .env("BAYOU_TEST_TOPIC", &name)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said = said.lines().find(|l| l.starts_with("peak")).unwrap();
    println!("{said}");
    let kilobytes: u64 = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 200_000, "{said}");
}

#[test]
fn a_topic_that_is_deleted_while_it_is_read_is_an_error_that_names_it() {
    let kafka = kafka();
    let name = topic(&kafka, "deleted", 1);
    let producer = producer(&[]);
    producer.send(BaseRecord::<(), str>::to(&name).payload("x")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    drop(producer); // it would continue to ask for the topic, and this would create the topic again
    let mut reader = Reader::start(&kafka, &from_start(&name, 1), &ReaderOptions::default()).unwrap();
    let start = Instant::now();
    let mut deleted = false;
    loop {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was said for a minute");
        match reader.next(Duration::from_millis(200)) {
            Ok(Some(Event::EndOfPartition { .. })) if !deleted => {
                kafka.delete_topic(&name).unwrap();
                deleted = true;
            }
            Ok(Some(event)) => println!("{:?} {event:?}", start.elapsed()),
            Ok(None) => {}
            Err(error) => {
                println!("{:?} {error:?}", start.elapsed());
                assert!(error.kind == bayou::Kind::Topic && error.message.contains(&name), "{error:?}");
                break;
            }
        }
    }
}
