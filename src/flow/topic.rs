//! The interface between Kafka and the sink of topics. Stages do not import each other, so this module implements the traits of `sink` with `kafka`.

use crate::Result;
use crate::kafka::{
    Connection, Failed as KafkaFailed, MessageEncoder, MessageOptions, NewTopic, Number as KafkaNumber, TopicLimits,
    Transactions,
};
use crate::position::Topic;
use crate::sink::topic::{Cluster, Create, Encoder, Facts, Failed, GoOn, Number, Producer, ProducerOf, Sent, Shape};
use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

impl Cluster for Connection {
    fn address(&self) -> &str {
        Connection::address(self)
    }

    fn unfit(&self) -> Option<String> {
        self.is_embedded().then(|| {
            "the embedded broker has no real transactions: readers of committed messages would see messages of epochs that were aborted. So exactly \
             once is not possible. Write to a real Kafka, or send rows with foreach_batch and produce, which is at least once."
                .into()
        })
    }

    fn topic(&self, name: &str, create: Option<&Create>) -> Result<Facts> {
        let topic = Topic::new(name);
        if let Some(create) = create {
            let there = self.topics(false)?.into_iter().any(|t| t.name == name);
            if !there {
                let new = NewTopic {
                    name: name.into(),
                    partitions: create.partitions,
                    replication_factor: create.replication_factor,
                    config: create.config.clone(),
                    // A different run may have created the topic meanwhile.
                    exist_ok: true,
                };
                self.create_topic(&new)?;
            }
        }
        let partitions = self.partitions(&topic)?.len();
        let TopicLimits { max_message_bytes, compacted, earlier, later } = self.topic_limits(name)?;
        let id = self.topic_id(&topic)?;
        Ok(Facts { name: name.into(), id, partitions, max_message_bytes, compacted, earlier, later })
    }

    fn encoder(&self, schema: &SchemaRef, facts: &Facts, shape: &Shape) -> Result<Arc<dyn Encoder>> {
        let shape = shape.clone();
        let options = MessageOptions {
            topic: facts.name.clone(),
            keys: shape.keys,
            upsert: shape.upsert,
            headers_column: shape.headers_column,
            partition_column: shape.partition_column,
            timestamp: shape.timestamp,
            partitions: facts.partitions,
            limits: TopicLimits {
                max_message_bytes: facts.max_message_bytes,
                compacted: facts.compacted,
                earlier: facts.earlier,
                later: facts.later,
            },
        };
        Ok(Arc::new(MessageEncoder::new(schema, options)?))
    }

    fn tombstones(&self, keys: &BinaryArray) -> Result<RecordBatch> {
        MessageEncoder::tombstones(keys)
    }

    fn number(&self, group: &str, topic: &str, settled: bool, go_on: GoOn<'_>) -> Result<Option<Number>> {
        let found = self.committed_number(group, topic, settled, go_on)?;
        Ok(found.map(|KafkaNumber { epoch, metadata }| Number { epoch, metadata }))
    }

    fn producer(&self, of: &ProducerOf<'_>, go_on: GoOn<'_>) -> Result<Box<dyn Producer>, Failed> {
        let ProducerOf { id, group, topic, timeout } = of;
        let made = self.transactions(id, group, &topic.name, *timeout, topic.max_message_bytes, go_on);
        Ok(Box::new(made.map_err(failed)?))
    }

    fn id(&self, topic: &str) -> Result<Option<String>> {
        self.topic_id(&Topic::new(topic))
    }

    fn read_back(
        &self,
        topic: &str,
        since: Option<i64>,
        go_on: GoOn<'_>,
        each: &mut dyn FnMut(Sent<'_>) -> Result<bool>,
    ) -> Result<bool> {
        Connection::read_back(self, topic, since, go_on, &mut |m| {
            each(Sent { key: m.key, value: m.value, headers: m.headers })
        })
    }
}

fn failed(KafkaFailed { error, again }: KafkaFailed) -> Failed {
    Failed { error, again }
}

impl Encoder for MessageEncoder {
    fn encode(&self, rows: &RecordBatch, now: i64) -> Result<Vec<RecordBatch>> {
        MessageEncoder::encode(self, rows, now)
    }
    fn refused(&self, rows: &RecordBatch, now: i64) -> Vec<(u32, String)> {
        MessageEncoder::refused(self, rows, now)
    }
    fn keys(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        MessageEncoder::keys(self, rows)
    }
}

impl Producer for Transactions {
    fn send(
        &self,
        messages: &[RecordBatch],
        number: &Number,
        headers: &[(String, Option<Vec<u8>>)],
        name: &str,
        go_on: GoOn<'_>,
    ) -> Result<(), Failed> {
        let number = KafkaNumber { epoch: number.epoch, metadata: number.metadata.clone() };
        Transactions::send(self, messages, &number, headers, name, go_on).map_err(failed)
    }
}
