//! Which topics and partitions a source reads: named topics, all topics that match a pattern, or chosen partitions.

use crate::expr::JavaRegex;
use crate::kafka::Connection;
use crate::position::{Partition, Topic, TopicPartition};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub enum Subscription {
    Topics(Vec<Topic>),
    /// Topics that match later join a run.
    Pattern(Arc<TopicPattern>),
    Partitions(BTreeMap<Topic, BTreeSet<Partition>>),
}

/// A regular expression of Java that a topic's whole name must match.
#[derive(Debug)]
pub struct TopicPattern {
    text: String,
    regex: JavaRegex,
}

impl TopicPattern {
    pub fn new(text: &str) -> Result<Self> {
        let whole = JavaRegex::new(text).and_then(|_| JavaRegex::new(&format!("^(?:{text})\\z")));
        match whole {
            Ok(regex) if !text.is_empty() => Ok(Self { text: text.into(), regex }),
            Ok(_) => Err(Error::config("subscribe_pattern: the pattern is empty")),
            Err(why) => Err(Error::config(format!(
                "subscribe_pattern='{text}' is not a regular expression of Java: {why}. Write it as \"orders_.*\"."
            ))),
        }
    }

    /// Kafka's internal topics match no pattern.
    fn matches(&self, topic: &str) -> bool {
        !topic.starts_with("__") && self.regex.is_match(topic)
    }
}

impl Subscription {
    pub fn named<'a>(topics: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Topics(topics.into_iter().map(Topic::new).collect())
    }

    /// Whether the topic's messages are read, if it exists.
    pub fn reads(&self, topic: &Topic) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(topic),
            Self::Pattern(pattern) => pattern.matches(topic.as_str()),
            Self::Partitions(chosen) => chosen.contains_key(topic),
        }
    }

    pub fn has(&self, tp: &TopicPartition) -> bool {
        match self {
            Self::Partitions(chosen) => chosen.get(&tp.topic).is_some_and(|ps| ps.contains(&tp.partition)),
            _ => self.reads(&tp.topic),
        }
    }

    pub fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }

    /// The topics that exist now. A named topic that does not exist is an error elsewhere.
    pub fn topics(&self, connection: &Connection) -> Result<Vec<Topic>> {
        Ok(match self {
            Self::Topics(topics) => topics.clone(),
            Self::Pattern(pattern) => {
                let all = connection.topics(false)?;
                all.iter().filter(|t| pattern.matches(&t.name)).map(|t| Topic::new(&t.name)).collect()
            }
            Self::Partitions(chosen) => chosen.keys().cloned().collect(),
        })
    }

    /// The partitions that exist now.
    pub fn partitions(&self, connection: &Connection) -> Result<Vec<TopicPartition>> {
        let mut out = vec![];
        for topic in self.topics(connection)? {
            let found = match connection.partitions(&topic) {
                // A topic may be deleted between the two questions.
                Err(e) if self.is_pattern() && e.kind == crate::Kind::Topic => continue,
                found => found?,
            };
            if let Self::Partitions(chosen) = self
                && let Some(missing) = chosen[&topic].iter().find(|p| !found.contains(p))
            {
                return Err(Error::topic(format!(
                    "{topic}[{}] does not exist. The topic has {} partitions, counted from 0.",
                    missing.0,
                    found.len()
                ))
                .in_partition(topic.as_str(), missing.0));
            }
            let of_topic = found.into_iter().map(|partition| TopicPartition { topic: topic.clone(), partition });
            out.extend(of_topic.filter(|tp| self.has(tp)));
        }
        Ok(out)
    }

    /// Names for people and for names of state: a pattern is written between slashes, and chosen partitions count as their topics.
    pub fn labels(&self) -> Vec<String> {
        match self {
            Self::Topics(topics) => topics.iter().map(Topic::to_string).collect(),
            Self::Pattern(pattern) => vec![format!("/{}/", pattern.text)],
            Self::Partitions(chosen) => chosen.keys().map(Topic::to_string).collect(),
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Self::Partitions(chosen) => {
                let of = |ps: &BTreeSet<Partition>| ps.iter().map(|p| p.0.to_string()).collect::<Vec<_>>().join(", ");
                chosen.iter().map(|(t, ps)| format!("{t}[{}]", of(ps))).collect::<Vec<_>>().join(", ")
            }
            _ => self.labels().join(", "),
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Topics(_) => json!(self.labels()),
            Self::Pattern(pattern) => json!({ "pattern": pattern.text }),
            Self::Partitions(chosen) => {
                let of = |ps: &BTreeSet<Partition>| ps.iter().map(|p| p.0).collect::<Vec<_>>();
                json!({ "assign": chosen.iter().map(|(t, ps)| (t.to_string(), of(ps))).collect::<BTreeMap<_, _>>() })
            }
        }
    }

    pub fn from_json(of: &Value) -> Result<Self> {
        let wrong = || Error::config(format!("a flow does not name topics so: {of}"));
        if let Some(topics) = of.as_array() {
            let names = topics.iter().map(|t| t.as_str().ok_or_else(wrong)).collect::<Result<Vec<_>>>()?;
            return Ok(Self::named(names));
        }
        if let Some(pattern) = of.get("pattern").and_then(Value::as_str) {
            return Ok(Self::Pattern(Arc::new(TopicPattern::new(pattern)?)));
        }
        Self::assigned(of.get("assign").ok_or_else(wrong)?)
    }

    /// Chosen partitions as Spark's `assign` has them: {"topic": [0, 1]}.
    pub fn assigned(of: &Value) -> Result<Self> {
        let chosen: BTreeMap<String, BTreeSet<i32>> = serde_json::from_value(of.clone())
            .map_err(|e| Error::config(format!("assign: {e}. Write it as {{\"topic\": [0, 1]}}.")))?;
        if chosen.is_empty() || chosen.values().any(BTreeSet::is_empty) {
            return Err(Error::config("assign needs at least one partition of each topic: {\"topic\": [0, 1]}"));
        }
        let partitions = |ps: BTreeSet<i32>| ps.into_iter().map(Partition).collect();
        Ok(Self::Partitions(chosen.into_iter().map(|(t, ps)| (Topic::new(t), partitions(ps))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_javas_and_matches_whole_names() {
        let matches = |pattern: &str, topic: &str| TopicPattern::new(pattern).is_ok_and(|p| p.matches(topic));
        for (pattern, topic, wanted) in [
            ("orders_.*", "orders_eu", true),
            ("orders_.*", "my_orders_eu", false),
            ("orders_.*", "orders", false),
            ("a|ab", "ab", true), // Java tries the next alternative, too.
            ("a|b", "ab", false),
            (".*", "__consumer_offsets", false),
            ("(?i)ORDERS", "orders", true),
            ("t-\\d+", "t-12", true),
            ("t.a", "txa", true),
        ] {
            assert_eq!(matches(pattern, topic), wanted, "{pattern} {topic}");
        }
        assert!(TopicPattern::new("orders_(").is_err() && TopicPattern::new("").is_err());
        assert!(TopicPattern::new("a)|(b").is_err(), "the brackets of the whole are not the pattern's");
    }

    #[test]
    fn a_subscription_is_read_back_as_it_was_written() {
        let assigned = Subscription::assigned(&json!({"a": [1, 0], "b": [2]})).unwrap();
        assert_eq!(assigned.describe(), "a[0, 1], b[2]");
        for s in
            [Subscription::named(["x", "y"]), Subscription::Pattern(TopicPattern::new("x.*").unwrap().into()), assigned]
        {
            let again = Subscription::from_json(&s.to_json()).unwrap();
            assert_eq!((again.to_json(), again.describe()), (s.to_json(), s.describe()));
        }
        assert!(Subscription::assigned(&json!({"a": []})).is_err());
    }
}
