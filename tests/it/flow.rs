//! A flow as JSON: every step in the user's words, and back.

use crate::support::{kafka, name, new_topic};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use bayou::testing::batch::Messages;
use bayou::testing::decode::{DecodeOptions, Format, Given};
use bayou::testing::expect::Action;
use bayou::testing::expr::{AggregateItem, Dialect, GroupFunction, parse_ddl};
use bayou::testing::flow::json::Parts;
use bayou::testing::flow::source::{KafkaSource, MAX_TRIGGER_DELAY, MessagesSource, Offsets, OnMalformed, RowsSource};
use bayou::testing::flow::static_join::{Foreign, StaticSide};
use bayou::testing::flow::stream::{JoinOptions, parse_how, watermark_spec};
use bayou::testing::flow::subscription::Subscription;
use bayou::testing::flow::{Flow, Output, Stream, Trigger, identity};
use bayou::testing::kafka::Connection;
use bayou::testing::position::TopicPartition;
use bayou::testing::sink::delta::DeltaOptions;
use bayou::testing::sink::function::{ForEach, FunctionOptions};
use bayou::testing::sink::topic::{Create, TopicOptions};
use bayou::testing::sink::{OutputMode, To};
use bayou::testing::storage::{Location, StorageOptions};
use bayou::testing::transform::map::{BatchFunction, Failure};
use bayou::testing::window::{Emit, SessionSpec, WindowSpec, Windowing};
use bayou::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

struct Twice;

impl BatchFunction for Twice {
    fn name(&self) -> &str {
        "twice"
    }
    fn identity(&self) -> String {
        "twice at some address".into()
    }
    fn call(&self, rows: &RecordBatch, _schema: &SchemaRef) -> std::result::Result<RecordBatch, Failure> {
        Ok(rows.clone())
    }
}

impl GroupFunction for Twice {
    fn name(&self) -> &str {
        "twice"
    }
    fn call(&self, _groups: &[RecordBatch]) -> Result<ArrayRef> {
        Err(Error::internal("not called"))
    }
}

impl ForEach for Twice {
    fn name(&self) -> &str {
        "twice"
    }
    fn call(&self, _schema: &SchemaRef, _rows: &[RecordBatch], _epoch: i64) -> Result<()> {
        Ok(())
    }
}

/// A table that a different engine reads.
struct Models;

impl Foreign for Models {
    fn name(&self) -> &str {
        "main.heart.models"
    }
    fn version(&self) -> Result<u64> {
        Ok(3)
    }
    fn columns(&self, _version: u64) -> Result<SchemaRef> {
        Ok(rows().schema())
    }
    fn read(&self, _version: u64, _columns: &[String]) -> Result<Vec<RecordBatch>> {
        Ok(vec![rows()])
    }
}

/// The cluster of the tests, whatever address is asked for.
struct Tests(Connection);

impl Parts for Tests {
    fn connection(&self, address: &str) -> Result<Connection> {
        assert_eq!(address, self.0.address());
        Ok(self.0.clone())
    }
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|t| t.to_string()).collect()
}

fn rows() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
    ])
    .unwrap()
}

/// A flow with every step, every source, and every kind of output.
fn everything(connection: &Connection, topic: &str, root: &Location) -> Flow {
    let d = Dialect::Databricks;
    let source = KafkaSource {
        connection: connection.clone(),
        topics: Subscription::named([topic]),
        schema: Some(Arc::new(
            parse_ddl(
                "n BIGINT NOT NULL, `my time` TIMESTAMP, s STRUCT<a: INT, b: ARRAY<STRING>>, mm MAP<STRING, INT>",
            )
            .unwrap(),
        )),
        decode: DecodeOptions { include_metadata: true, ..DecodeOptions::default() },
        on_malformed: Some(OnMalformed::Drop),
        max_malformed: 0.25,
        starting: Offsets::Exact([(topic.to_string(), [(0, -2)].into())].into()),
        ending: Some(Offsets::Latest),
        max_offsets_per_trigger: Some(7),
        min_offsets_per_trigger: None,
        max_trigger_delay: MAX_TRIGGER_DELAY,
        fail_without_message: false,
        fail_on_data_loss: false,
    };
    let raw = Stream::kafka(source).unwrap();
    let clean = raw
        .rename(&[("my time".into(), "t".into())])
        .unwrap()
        .drop(&texts(&["_headers"]))
        .unwrap()
        .with_columns(&texts(&["n + 1 AS m", "upper(s.b[0]) AS `ü \"x\"`"]), d)
        .unwrap()
        .filter("n > 0 AND `ü \"x\"` <> 'it''s'", d)
        .unwrap()
        .expect("n is small", "n < 100", Action::Quarantine, d)
        .unwrap()
        .with_watermark(watermark_spec("t", "1500 milliseconds", "5 minutes", "2 hours", "advance", "drop").unwrap())
        .unwrap()
        .named("clean")
        .unwrap();
    let lines = Format::read("jsonl", Given { timezone: Some("Europe/Berlin".into()), ..Given::default() }).unwrap();
    let exploded = clean
        .with_columns(&texts(&["posexplode_outer(s.b) AS (at, b)"]), d)
        .unwrap()
        .select(&texts(&["n", "t, explode(mm) AS (k, v)", "b"]), d)
        .unwrap()
        .decode("b", Some(Arc::new(parse_ddl("x INT, y ARRAY<INT>").unwrap())), lines, Some("d"))
        .unwrap()
        .drop_duplicates(&texts(&["n", "k"]), Duration::from_secs(5))
        .unwrap();
    let distinct = clean.drop_duplicates(&texts(&["n", "m"]), Duration::from_micros(1_500_001)).unwrap();
    let on = |l: &str, r: &str| JoinOptions {
        on: vec![(l.into(), r.into())],
        how: parse_how("left").unwrap(),
        suffix: "_r".into(),
    };
    let joined = distinct
        .select(&texts(&["n", "t", "m AS `a b`"]), d)
        .unwrap()
        .join_stream(
            &clean.select(&texts(&["n", "t"]), d).unwrap(),
            &on("n", "n"),
            Duration::from_secs(60),
            Duration::ZERO,
        )
        .unwrap();
    let side = StaticSide::Rows { rows: rows(), identity: "a hash".into(), told: None };
    let named = clean.of_table("clean").unwrap().join_table(side, &rows().schema(), &on("n", "n")).unwrap();
    let models = StaticSide::Foreign(Arc::new(Models));
    let named = named.join_table(models, &rows().schema(), &on("n", "n")).unwrap();
    let other = named.filter("n = 2", Dialect::DataFusion).unwrap();
    let both = named.union(&other).unwrap().select(&texts(&["n", "t", "name"]), d).unwrap();
    let sql =
        |alias: Option<&str>, text: &str| AggregateItem::Sql { alias: alias.map(str::to_string), text: text.into() };
    let window =
        |size: &str, slide, offset, zone| Windowing::Fixed(WindowSpec::new("t", size, slide, offset, zone).unwrap());
    let function = AggregateItem::Function {
        alias: Some("f".into()),
        function: Arc::new(Twice),
        columns: texts(&["n"]),
        data_type: DataType::Float64,
        order_by: None,
    };
    let hourly = clean
        .aggregate(
            window("1 hour", Some("30 minutes"), Some("5 minutes"), "UTC"),
            &texts(&["n % 3 AS k"]),
            &[sql(Some("c"), "count(*)"), function],
            d,
        )
        .unwrap();
    let monthly =
        clean.aggregate(window("1 month", None, None, "Europe/Berlin"), &[], &[sql(None, "sum(n)")], d).unwrap();
    let session = Windowing::Session(SessionSpec::new("t", "90 seconds").unwrap());
    let sessions = clean.aggregate(session, &texts(&["n"]), &[sql(Some("c"), "count(*)")], d).unwrap();
    let totals = clean
        .aggregate(Windowing::None, &texts(&["n"]), &[sql(Some("c"), "count(*) FILTER (WHERE n > 1)")], d)
        .unwrap();
    let mapped = both.map_batches(Arc::new(Twice), Some(Arc::new(parse_ddl("x DOUBLE").unwrap()))).unwrap();
    let at_hand = Stream::rows(RowsSource::new(rows().schema(), vec![rows()]));
    let mut messages = Messages::new(vec![TopicPartition::new("t", 0)].into());
    messages.push(
        bayou::testing::batch::Message { value: Some(b"{\"a\":1}"), ..bayou::testing::batch::Message::default() },
        1 << 20,
    );
    let text = Stream::messages(MessagesSource {
        messages: Arc::new(messages),
        schema: Some(Arc::new(parse_ddl("a INT").unwrap())),
        decode: DecodeOptions::default(),
        on_malformed: None,
        told: None,
    })
    .unwrap();
    let delta = |name: &str| {
        To::Delta(DeltaOptions {
            location: root.join(name),
            partition_by: texts(&["n"]),
            table_name: Some(name.into()),
            comment: Some("what it is".into()),
            merge_schema: name == "both",
        })
    };
    let output = |name: &str, stream: &Stream, mode, to| Output {
        name: name.into(),
        stream: stream.clone(),
        mode,
        start: Some("now".into()),
        to,
    };
    let call = || To::Function(FunctionOptions { function: Arc::new(Twice) });
    let alerts = To::Topic(TopicOptions {
        cluster: Arc::new(connection.clone()),
        topic: "alerts".into(),
        key: vec!["model".into()],
        headers_column: Some("h".into()),
        partition_column: None,
        timestamp: Some("time".into()),
        create: Some(Create {
            partitions: 3,
            replication_factor: -1,
            config: [("retention.ms".to_string(), "-1".to_string())].into(),
        }),
    });
    Flow {
        name: "q".into(),
        outputs: vec![
            output("clean", &clean, OutputMode::Append, delta("clean")),
            output("exploded", &exploded, OutputMode::Append, delta("exploded")),
            output("joined", &joined, OutputMode::Append, delta("joined")),
            output("both", &both, OutputMode::Append, delta("both")),
            output("hourly", &hourly, OutputMode::Append, call()),
            output("monthly", &monthly, OutputMode::Append, delta("monthly")),
            output("sessions", &sessions, OutputMode::Append, delta("sessions")),
            output("totals", &totals, OutputMode::Update, delta("totals")),
            output("mapped", &mapped, OutputMode::Append, call()),
            output("at_hand", &at_hand, OutputMode::Append, delta("at_hand")),
            output("text", &text, OutputMode::Append, delta("text")),
            output("alerts", &clean, OutputMode::Append, alerts),
        ],
        quarantine: root.join("q_quarantine").into(),
        checkpoint: root.join("_bayou").join("q"),
        trigger: Trigger::Interval(Duration::from_millis(1500)),
        full_refresh: true,
        accept_changes: true,
        close_windows: true,
        optimize_every: Some(5),
        clean_log: Some(false),
        start: None,
        commit_to_group: None,
        memory_limit: Some(1 << 30),
    }
}

#[test]
fn a_flow_with_every_step_is_equal_after_json_and_its_state_has_the_same_names() {
    let connection = kafka();
    let topic = name("flow");
    connection.create_topic(&new_topic(&topic, 1)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = Location::parse(dir.path().to_str().unwrap(), &StorageOptions::new()).unwrap();
    let flow = everything(&connection, &topic, &root);
    let json = flow.to_json().unwrap();
    let text = serde_json::to_string_pretty(&json).unwrap();
    let again = Flow::from_json(&serde_json::from_str(&text).unwrap(), &Tests(connection)).unwrap();
    assert_eq!(serde_json::to_string_pretty(&again.to_json().unwrap()).unwrap(), text);
    for (a, b) in flow.outputs.iter().zip(&again.outputs) {
        assert_eq!(a.stream.schema(), b.stream.schema(), "{}", a.name);
        assert_eq!(a.stream.steps(), b.stream.steps(), "{}", a.name);
        for emit in [None, Some(Emit::OnClose), Some(Emit::Update), Some(Emit::Complete)] {
            assert_eq!(identity::operator(&a.name, &a.stream, emit), identity::operator(&b.name, &b.stream, emit));
        }
    }
    // Shared steps are written once, and every kind of step is among them.
    let steps = json["steps"].as_array().unwrap();
    let of = |kind: &str| steps.iter().filter(|s| s["step"] == kind).count();
    assert_eq!((of("named"), of("table"), of("watermark")), (1, 1, 1));
    let found: BTreeSet<&str> = steps.iter().map(|s| s["step"].as_str().unwrap()).collect();
    let all = [
        "aggregate",
        "decode",
        "drop",
        "drop_duplicates",
        "expect",
        "join_stream",
        "join_table",
        "map_batches",
        "named",
        "rename",
        "select",
        "source",
        "table",
        "union",
        "watermark",
        "where",
        "with_columns",
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), all);
    assert!(text.contains("\"foreign\": \"main.heart.models\""), "{text}");
    // The user's own text, not what it was bound to.
    assert!(text.contains("n > 0 AND `ü \\\"x\\\"` <> 'it''s'"), "{text}");
    assert!(text.contains("\"datafusion\"") && text.contains("Europe/Berlin"), "{text}");
}

#[test]
fn the_json_of_another_format_is_refused_and_damage_is_told_by_its_field() {
    let connection = kafka();
    let topic = name("flow");
    connection.create_topic(&new_topic(&topic, 1)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = Location::parse(dir.path().to_str().unwrap(), &StorageOptions::new()).unwrap();
    let json = everything(&connection, &topic, &root).to_json().unwrap();
    let parts = Tests(connection);
    let read = |change: &dyn Fn(&mut Value)| {
        let mut changed = json.clone();
        change(&mut changed);
        Flow::from_json(&changed, &parts).map(|_| ()).unwrap_err().message
    };
    assert!(read(&|j| j["format"] = 2.into()).contains("format 2"));
    assert!(read(&|j| j["outputs"][0]["mode"] = "replace".into()).contains("'replace'"));
    assert!(read(&|j| j["steps"][1]["inputs"] = Value::Array(vec![99.into()])).contains("an input of"));
    assert!(read(&|j| j["trigger"] = "sometimes".into()).contains("trigger"));
}
