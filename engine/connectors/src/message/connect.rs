//! Names that Kafka Connect and Debezium give to types which JSON and Avro have no word for.
//!
//! In: a name. Out: what the numbers of such a field count. Names that mean what they say, such as
//! times of a day or texts with a zone, are none of them.

use crate::format::json::{Meaning, Unit};

/// What values of a type of this name are; none when they are what they look like.
pub(super) fn meaning(name: &str) -> Option<Meaning> {
    Some(match name {
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Meaning::Days,
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
            Meaning::Time(Unit::Millis)
        }
        "io.debezium.time.MicroTimestamp" => Meaning::Time(Unit::Micros),
        "io.debezium.time.NanoTimestamp" => Meaning::Time(Unit::Nanos),
        _ => return None,
    })
}
