//! The only home of rdkafka.
