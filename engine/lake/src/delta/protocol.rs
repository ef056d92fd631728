//! Which Delta tables we write to, and the name of the feature for those we do not.
//!
//! Old protocol versions name features only by number, so for those the table's properties and
//! columns say whether a feature is in use.

use serde_json::Value;

use sluice_core::{Error, Result};

use super::action::{Metadata, Protocol};

/// Tables we create ask for nothing that old clients do not know.
pub(super) const READER_VERSION: i32 = 1;

/// See [`READER_VERSION`].
pub(super) const WRITER_VERSION: i32 = 2;

/// The newest protocol: beyond it nothing is known.
const READER_VERSION_MAX: i32 = 3;
const WRITER_VERSION_MAX: i32 = 7;

/// Named features that ask nothing of a writer like ours, or only when [`active`] finds them.
const WRITABLE: &[&str] = &[
    "appendOnly",
    "invariants",
    "checkConstraints",
    "generatedColumns",
    "changeDataFeed",
    "columnMapping",
    "identityColumns",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Features that are in use when a column's metadata has the key.
const COLUMN_KEYS: &[(&str, &str)] = &[
    ("delta.invariants", "invariants"),
    ("delta.generationExpression", "generatedColumns"),
    ("delta.identity.start", "identityColumns"),
    ("delta.columnMapping.id", "columnMapping"),
];

/// Features that are in use when a property is `true`.
const SWITCHES: &[(&str, &str)] = &[
    ("delta.enableChangeDataFeed", "changeDataFeed"),
    ("delta.enableDeletionVectors", "deletionVectors"),
    ("delta.enableRowTracking", "rowTracking"),
    ("delta.enableInCommitTimestamps", "inCommitTimestamp"),
    ("delta.enableTypeWidening", "typeWidening"),
    ("delta.enableIcebergCompatV1", "icebergCompatV1"),
    ("delta.enableIcebergCompatV2", "icebergCompatV2"),
];

/// Reader features that we know, or that [`check_readable`] and the files' entries decide on.
const READABLE: &[&str] =
    &["columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"];

/// An error of kind `Conflict` that names the feature when we cannot read the table. Deletion
/// vectors are refused where a file has one.
pub(super) fn check_readable(protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    check_protocol(protocol)?;
    check_definition(metadata)
}

/// What [`check_readable`] says of a `protocol` line alone.
pub(super) fn check_protocol(protocol: &Protocol) -> Result<()> {
    if protocol.min_reader_version > READER_VERSION_MAX {
        return Err(refused(&format!("protocol({})", protocol.min_reader_version)));
    }
    let features = protocol.reader_features.iter().flatten();
    if let Some(feature) = features.into_iter().find(|f| !READABLE.contains(&f.as_str())) {
        return Err(refused(feature));
    }
    Ok(())
}

/// What [`check_readable`] says of a `metaData` line alone.
pub(super) fn check_definition(metadata: &Metadata) -> Result<()> {
    match metadata.configuration.get("delta.columnMapping.mode") {
        Some(mode) if mode != "none" => Err(refused("columnMapping")),
        _ => Ok(()),
    }
}

/// An error of kind `Conflict` that names the feature when we must not write to the table.
pub(super) fn check(protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    if protocol.min_reader_version > READER_VERSION_MAX
        || protocol.min_writer_version > WRITER_VERSION_MAX
    {
        let (reader, writer) = (protocol.min_reader_version, protocol.min_writer_version);
        return Err(refused(&format!("protocol({reader},{writer})")));
    }
    let named = [&protocol.writer_features, &protocol.reader_features];
    for feature in named.into_iter().flatten().flatten() {
        if !WRITABLE.contains(&feature.as_str()) {
            return Err(refused(feature));
        }
    }
    match active(metadata)? {
        Some(feature) => Err(refused(feature)),
        None => Ok(()),
    }
}

/// The error for a table that uses `feature`.
pub(super) fn refused(feature: &str) -> Error {
    Error::conflict(format!(
        "this delta table uses a feature that is not supported feature={feature}"
    ))
    .hint("switch the feature off with the client that set it, or use another table")
}

/// The feature that the table's properties or columns use.
fn active(metadata: &Metadata) -> Result<Option<&'static str>> {
    let property = |key: &str| metadata.configuration.get(key).map(String::as_str);
    for (key, feature) in SWITCHES {
        if property(key).is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            return Ok(Some(feature));
        }
    }
    if property("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return Ok(Some("columnMapping"));
    }
    if metadata.configuration.keys().any(|key| key.starts_with("delta.constraints.")) {
        return Ok(Some("checkConstraints"));
    }
    let schema: Value = serde_json::from_str(&metadata.schema_string)
        .map_err(|e| Error::data("a table's schema is not JSON").because(e))?;
    let used = |(key, _): &&(&str, &str)| has_key(&schema, key);
    Ok(COLUMN_KEYS.iter().find(used).map(|(_, feature)| *feature))
}

/// Whether a field at any depth has the key in its metadata.
fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(object) => {
            let here = object.get("metadata").and_then(|m| m.get(key)).is_some();
            here || object.values().any(|v| has_key(v, key))
        }
        Value::Array(items) => items.iter().any(|v| has_key(v, key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(column: &str, properties: &[(&str, &str)]) -> Metadata {
        let field = r#"{"name":"x","type":"long","nullable":true,"metadata":META}"#;
        let field = field.replace("META", column);
        let own = |(k, v): &(&str, &str)| (k.to_string(), v.to_string());
        Metadata {
            id: "t".into(),
            name: None,
            description: None,
            format: Default::default(),
            schema_string: format!(r#"{{"type":"struct","fields":[{field}]}}"#),
            partition_columns: vec![],
            configuration: properties.iter().map(own).collect(),
            created_time: None,
        }
    }

    fn protocol(reader: i32, writer: i32, features: &[&str]) -> Protocol {
        let features = features.iter().map(|f| f.to_string()).collect();
        Protocol {
            min_reader_version: reader,
            min_writer_version: writer,
            reader_features: None,
            writer_features: Some(features),
        }
    }

    #[test]
    fn features_are_refused_by_name() {
        let on = |key| metadata("{}", &[(key, "true")]);
        let column = |key: &str| metadata(&format!(r#"{{"{key}":"1"}}"#), &[]);
        let none = || metadata("{}", &[]);
        let cases = [
            (protocol(3, 7, &["deletionVectors"]), none(), "deletionVectors"),
            (protocol(1, 7, &["rowTracking"]), none(), "rowTracking"),
            (protocol(1, 7, &["clustering"]), none(), "clustering"),
            (protocol(1, 7, &["inCommitTimestamp"]), none(), "inCommitTimestamp"),
            (protocol(4, 7, &[]), none(), "protocol(4,7)"),
            (protocol(1, 4, &[]), on("delta.enableChangeDataFeed"), "changeDataFeed"),
            (protocol(1, 3, &[]), on("delta.constraints.positive"), "checkConstraints"),
            (protocol(2, 5, &[]), on("delta.columnMapping.mode"), "columnMapping"),
            (protocol(1, 6, &[]), column("delta.identity.start"), "identityColumns"),
            (protocol(1, 4, &[]), column("delta.generationExpression"), "generatedColumns"),
            (protocol(1, 2, &[]), column("delta.invariants"), "invariants"),
        ];
        for (protocol, metadata, feature) in cases {
            let error = check(&protocol, &metadata).unwrap_err();
            assert!(error.message().ends_with(&format!("feature={feature}")), "{error:?}");
        }
    }

    #[test]
    fn features_that_sleep_are_fine() {
        let quiet = protocol(1, 7, &["appendOnly", "changeDataFeed", "checkConstraints"]);
        let mode = metadata("{}", &[("delta.columnMapping.mode", "none")]);
        check(&quiet, &mode).unwrap();
        check(&protocol(2, 6, &[]), &metadata("{}", &[("delta.appendOnly", "true")])).unwrap();
    }
}
