//! Avro files as other writers make them: whole, in pieces, broken in the middle.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::array::{Decimal128Array, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use arrow::json::LineDelimitedWriter;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroOcfFormat;
use sluice_core::{DataSchema, Rejected};

use super::*;
use crate::format::Decode;
use crate::format::parquet::Layout;

const ROWS: i64 = 300;

/// A file with three blocks of rows.
fn file(codec: Option<CompressionCodec>) -> Vec<u8> {
    let lists = (0..ROWS).map(|n| (n % 3 > 0).then(|| vec![Some(n as i32), None]));
    let place = Fields::from(vec![Field::new("city", DataType::Utf8, true)]);
    let cities: ArrayRef =
        Arc::new(StringArray::from_iter((0..ROWS).map(|n| (n % 2 > 0).then_some("Ulm"))));
    let price = Decimal128Array::from_iter_values((0..ROWS).map(|n| i128::from(n) * 10 + 5));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Id", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        (
            "text",
            Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| "é".repeat(n as usize % 5)))),
        ),
        (
            "at",
            Arc::new(TimestampMillisecondArray::from_iter_values(0..ROWS).with_timezone("+00:00")),
        ),
        ("price", Arc::new(price.with_precision_and_scale(10, 2).unwrap())),
        ("sizes", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ("place", Arc::new(StructArray::new(place, vec![cities], None))),
        ("unused", Arc::new(Int64Array::from_iter_values(0..ROWS))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let builder = WriterBuilder::new(rows.schema().as_ref().clone()).with_compression(codec);
    let mut writer = builder.build::<_, AvroOcfFormat>(Vec::new()).unwrap();
    for from in [0, 100, 200] {
        writer.write(&rows.slice(from, 100)).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner()
}

fn layout() -> Arc<Layout> {
    let fields = serde_json::json!({"fields": [
        {"name": "id", "from": "Id", "type": "int16"},
        {"name": "text", "type": "string"},
        {"name": "at", "type": "timestamp"},
        {"name": "price", "type": "decimal(18, 3)"},
        {"name": "sizes", "type": "list(int64)"},
        {"name": "place", "type": "struct", "fields": [{"name": "city", "type": "string"}]},
        {"name": "more", "type": "string"},
    ]});
    let schema: DataSchema = serde_json::from_value(fields).unwrap();
    Arc::new(Layout::new(&schema).unwrap())
}

fn read(bytes: &[u8], piece: usize) -> sluice_core::Result<(Vec<String>, Vec<Rejected>)> {
    let mut decoder = Decoder::new(layout(), "a.avro".into(), 0);
    let mut writer = LineDelimitedWriter::new(Vec::new());
    let mut rejected = Vec::new();
    let mut pieces = bytes.chunks(piece);
    loop {
        let next = pieces.next();
        decoder.push(next.unwrap_or_default());
        while let Some(decoded) = decoder.next(next.is_none())? {
            writer.write(&decoded.rows)?;
            rejected.extend(decoded.rejected);
        }
        if next.is_none() {
            break;
        }
    }
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).unwrap();
    Ok((text.lines().map(str::to_string).collect(), rejected))
}

#[test]
fn every_codec_is_read_by_name_in_pieces_of_any_size() {
    let codecs = [
        None,
        Some(CompressionCodec::Deflate),
        Some(CompressionCodec::Snappy),
        Some(CompressionCodec::ZStandard),
    ];
    let mut first = None;
    for codec in codecs {
        let bytes = file(codec);
        for piece in [7, 1000, 1 << 20] {
            let (rows, rejected) = read(&bytes, piece).unwrap();
            assert_eq!((rows.len(), rejected.len()), (300, 0));
            assert_eq!(first.get_or_insert(rows.clone()), &rows);
        }
    }
    let wanted = r#"{"id":1,"text":"é","at":"1970-01-01T00:00:00.001Z","price":0.150,"sizes":[1,null],"place":{"city":"Ulm"},"_position":1}"#;
    assert_eq!(first.unwrap()[1], wanted);
}

#[test]
fn a_broken_block_is_one_rejected_row_and_the_next_ones_are_read() {
    let whole = file(Some(CompressionCodec::Deflate));
    let sync: [u8; 16] = whole[whole.len() - 16..].try_into().unwrap();
    let markers: Vec<usize> = memchr::memmem::find_iter(&whole, &sync).collect();
    assert_eq!(markers.len(), 4, "one behind the header and one behind each block");
    let second = markers[1] + 16;
    type Harm = (&'static str, fn(&mut Vec<u8>, usize, usize));
    let harms: [Harm; 3] = [
        ("rows cannot be read", |bytes, from, to| bytes[from + 8..to].fill(0xAA)),
        ("length is beyond any block", |bytes, from, _| {
            bytes[from..from + 6].copy_from_slice(&[2, 0xFE, 0xFF, 0xFF, 0xFF, 0x7F])
        }),
        ("no sync marker follows it", |bytes, _, to| bytes[to] ^= 1),
    ];
    for (reason, harm) in harms {
        let mut bytes = whole.clone();
        harm(&mut bytes, second, markers[2]);
        let at_once = read(&bytes, 1 << 20).unwrap().1;
        for piece in [5, 1 << 20] {
            let (rows, rejected) = read(&bytes, piece).unwrap();
            assert_eq!(rejected, at_once, "{reason}");
            let reasons: Vec<&str> = rejected.iter().map(|r| r.reason.as_str()).collect();
            assert!(reasons.len() == 1 && reasons[0].contains(reason), "{reasons:?}");
            assert_eq!(rejected[0].position, 100);
            // Without its marker a block reaches to the end of the next one.
            let kept = if reason.starts_with("no sync") { 100 } else { 200 };
            assert_eq!(rows.len(), kept, "{reason}");
        }
    }
}

#[test]
fn what_is_cut_or_no_avro_is_told() {
    let whole = file(None);
    let (rows, rejected) = read(&whole[..whole.len() - 3], 100).unwrap();
    assert_eq!((rows.len(), rejected[0].reason.as_str()), (200, "the file ends inside a block"));
    for bytes in [&whole[..50], b"Obj", b"id,text\n1,x\n", b""] {
        let error = read(bytes, 10).unwrap_err();
        assert_eq!(error.kind(), sluice_core::Kind::Unreadable, "{error}");
        assert!(error.message().ends_with("path=a.avro"), "{error}");
    }
}
