//! Topics and offsets, against a real broker.

use crate::support::{env, kafka, name, new_topic, topic};
use bayou::testing::{
    Kind,
    kafka::OffsetSpec,
    position::{Offset, Partition, Topic, TopicPartition},
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::Duration;

#[test]
fn a_topic_is_made_listed_described_and_deleted() {
    let kafka = kafka();
    let name = name("admin");
    let mut new = new_topic(&name, 3);
    new.config.insert("retention.ms".into(), "86400000".into());
    kafka.create_topic(&new).unwrap();
    assert!(kafka.topics(false).unwrap().iter().any(|t| t.name == name && t.partitions == 3));
    assert_eq!(kafka.partitions(&Topic::new(&name)).unwrap(), [Partition(0), Partition(1), Partition(2)]);

    let described = kafka.describe_topic(&name).unwrap();
    assert_eq!(described.partitions.len(), 3);
    assert_eq!(described.config.get("retention.ms").map(String::as_str), Some("86400000"));
    for p in &described.partitions {
        assert_eq!((p.leader, p.replicas.as_slice(), p.isr.as_slice()), (1, &[1][..], &[1][..]));
        assert_eq!((p.earliest, p.latest), (Offset(0), Offset(0)));
    }

    let again = kafka.create_topic(&new).unwrap_err();
    assert_eq!(again.kind, Kind::Topic);
    assert!(again.message.contains("exist_ok"), "{again}");
    new.exist_ok = true;
    kafka.create_topic(&new).unwrap();
    new.partitions = 4;
    assert!(kafka.create_topic(&new).unwrap_err().message.contains("exists with 3 partitions, not 4"));

    kafka.delete_topic(&name).unwrap();
    assert!(!kafka.topics(false).unwrap().iter().any(|t| t.name == name));
}

#[test]
fn a_misspelt_topic_is_an_error_with_the_nearest_name_and_is_not_made() {
    let kafka = kafka();
    let name = topic(&kafka, "fitness-tracker", 1);
    let typo = name.replace("tracker", "traker");
    for error in [
        kafka.partitions(&Topic::new(&typo)).unwrap_err(),
        kafka.describe_topic(&typo).unwrap_err(),
        kafka.delete_topic(&typo).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Topic);
        assert!(error.message.contains(&format!("Did you mean '{name}'")) && error.message.contains(&typo), "{error}");
    }
    assert!(!kafka.topics(false).unwrap().iter().any(|t| t.name == typo));
}

#[test]
fn a_recreated_topic_has_a_different_id() {
    let kafka = kafka();
    let name = topic(&kafka, "reborn", 1);
    let first = kafka.topic_id(&Topic::new(&name)).unwrap().unwrap();
    kafka.delete_topic(&name).unwrap();
    kafka.create_topic(&new_topic(&name, 1)).unwrap();
    let second = kafka.topic_id(&Topic::new(&name)).unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(kafka.topic_id(&Topic::new(&name)).unwrap().unwrap(), second);
}

#[test]
fn what_cannot_be_made_is_refused_with_what_to_do() {
    let kafka = kafka();
    let error = kafka.create_topic(&new_topic("no spaces", 1)).unwrap_err();
    assert_eq!(error.kind, Kind::Topic);
    let mut new = new_topic(&name("many"), 1);
    new.replication_factor = 3;
    let error = kafka.create_topic(&new).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("replication_factor=3"), "{error}");
    let mut new = new_topic(&name("odd"), 1);
    new.config.insert("retention.mss".into(), "1".into());
    let error = kafka.create_topic(&new).unwrap_err();
    assert!(error.kind == Kind::Config && error.message.contains("retention.mss"), "{error:?}");
}

#[test]
fn offsets_are_found_by_time_and_by_name() {
    let kafka = kafka();
    let name = topic(&kafka, "offsets", 2);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", env("BAYOU_TEST_KAFKA")).create().unwrap();
    for second in 0..10 {
        let record =
            BaseRecord::<(), str>::to(&name).partition(0).timestamp(1_700_000_000_000 + second * 1000).payload("x");
        producer.send(record).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let find = |partition, spec| {
        let tp = TopicPartition::new(&name, partition);
        kafka.list_offsets(&[(tp.clone(), spec)]).unwrap()[&tp].0
    };
    assert_eq!(find(0, OffsetSpec::Earliest), 0);
    assert_eq!(find(0, OffsetSpec::Latest), 10);
    assert_eq!(find(0, OffsetSpec::Timestamp(0)), 0);
    assert_eq!(find(0, OffsetSpec::Timestamp(1_700_000_003_000)), 3);
    assert_eq!(find(0, OffsetSpec::Timestamp(1_700_000_003_001)), 4);
    assert_eq!(find(0, OffsetSpec::Timestamp(1_800_000_000_000)), 10, "none after that time: the latest");
    assert_eq!(find(1, OffsetSpec::Timestamp(0)), 0);
    let unknown = kafka.list_offsets(&[(TopicPartition::new(&name, 7), OffsetSpec::Latest)]).unwrap_err();
    assert!(unknown.message.contains(&format!("{name}[7]")), "{unknown}");
}
