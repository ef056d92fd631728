//! CSV from end to end: what is read, what is rejected, and that writing and reading agree.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use sluice_core::{DataSchema, FieldSpec, FileEncoder, Rejected};

use super::*;
use crate::format::compress::Codec;
use crate::format::encoding::Encoding;

const ALL_TYPES: [(&str, &str); 12] = [
    ("text", "string"),
    ("tiny", "int8"),
    ("small", "int16"),
    ("medium", "int32"),
    ("large", "int64"),
    ("single", "float32"),
    ("double", "float64"),
    ("truth", "bool"),
    ("day", "date"),
    ("instant", "timestamp"),
    ("money", "decimal(18, 3)"),
    ("raw", "binary"),
];

pub(super) fn schema(fields: &[(&str, &str)]) -> DataSchema {
    let fields = fields.iter().map(|(name, data_type)| FieldSpec {
        name: name.trim_end_matches('!').to_string(),
        data_type: data_type.to_string(),
        required: name.ends_with('!'),
        ..FieldSpec::default()
    });
    DataSchema { schema: None, doc: None, fields: fields.collect() }
}

/// Rows without a header, pushed in pieces.
fn decode(fields: &[(&str, &str)], bytes: &[u8], piece: usize) -> (RecordBatch, Vec<Rejected>) {
    let layout = Layout::new(Dialect::default(), &schema(fields)).unwrap();
    decode_as(&Arc::new(layout), bytes, piece)
}

pub(super) fn decode_as(
    layout: &Arc<Layout>,
    bytes: &[u8],
    piece: usize,
) -> (RecordBatch, Vec<Rejected>) {
    let width = layout.columns().len();
    let mapping = Mapping { width, fields: (0..width).map(Some).collect(), rescued: Vec::new() };
    let origin = Origin { object: "a.csv".into(), file: 0, start: 0 };
    let mut decoder = Decoder::new(layout.clone(), mapping, origin);
    let (mut batches, mut rejected) = (Vec::new(), Vec::new());
    let mut pieces = bytes.chunks(piece);
    loop {
        let next = pieces.next();
        decoder.push(next.unwrap_or_default());
        while let Some(decoded) = decoder.next(next.is_none()).unwrap() {
            batches.push(decoded.rows);
            rejected.extend(decoded.rejected);
        }
        if next.is_none() {
            return (concat_batches(layout.schema(), &batches).unwrap(), rejected);
        }
    }
}

fn shown(rows: &RecordBatch) -> Vec<String> {
    let cell = |column: &ArrayRef, row| match column.is_null(row) {
        true => "NULL".to_string(),
        false => array_value_to_string(column, row).unwrap(),
    };
    let columns = rows.num_columns() - 1;
    (0..rows.num_rows())
        .map(|row| {
            let cells: Vec<String> =
                rows.columns()[..columns].iter().map(|c| cell(c, row)).collect();
            cells.join("|")
        })
        .collect()
}

pub(super) fn positions(rows: &RecordBatch) -> Vec<i64> {
    let last = rows.columns().last().unwrap();
    last.as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn records_and_fields_stand_where_rfc_4180_says() {
    let cases: [(&str, &[&str]); 14] = [
        ("a,1\nb,2\n", &["a|1", "b|2"]),
        ("a,1\r\nb,2", &["a|1", "b|2"]),
        ("a,1\nb,2\r\n\r\n\n", &["a|1", "b|2"]),
        ("\n\r\na,1\n\n\nb,2\n", &["a|1", "b|2"]),
        ("\"a,b\",1\n", &["a,b|1"]),
        ("\"a\nb\",1\r\nc,2\n", &["a\nb|1", "c|2"]),
        ("\"a\"\"b\",\"1\"\r\n", &["a\"b|1"]),
        ("\"\"\"\"\"\",1\n", &["\"\"|1"]),
        ("5\" pipe,1\n", &["5\" pipe|1"]),
        (",\n", &["NULL|NULL"]),
        ("\"\",\"\"\n", &["|NULL"]),
        ("a,", &["a|NULL"]),
        ("\"a\",\"7\"", &["a|7"]),
        (" a , 7 \n", &[" a |7"]),
    ];
    for (text, rows) in cases {
        for piece in [1, 2, 3, 100] {
            let fields = [("text", "string"), ("number", "int64")];
            let (found, rejected) = decode(&fields, text.as_bytes(), piece);
            assert_eq!(shown(&found), rows, "{text:?}");
            assert_eq!(rejected, [], "{text:?}");
        }
    }
}

#[test]
fn a_bad_row_is_set_aside_with_bytes_position_and_reason() {
    let text =
        b"a,1,1.5\nb,x,1.5\n\nc,3\nd,4,1.5,9\n\"e\"f,5,1\ng,6,1.2345\n\xff,7,1\n,8,1\ni,9,9\n\"j,1";
    let fields = [("name!", "string"), ("number", "int32"), ("price", "decimal(5, 3)")];
    for piece in [1, 7, 1000] {
        let (rows, rejected) = decode(&fields, text, piece);
        assert_eq!(shown(&rows), ["a|1|1.500", "i|9|9.000"]);
        assert_eq!(positions(&rows), [0, 62]);
        let found: Vec<(u64, &[u8], &str)> =
            rejected.iter().map(|r| (r.position, r.bytes.as_slice(), r.reason.as_str())).collect();
        let expected: [(u64, &[u8], &str); 8] = [
            (8, b"b,x,1.5", "column number: not an int32 text=\"x\""),
            (17, b"c,3", "wrong number of fields expected=3 found=2"),
            (21, b"d,4,1.5,9", "wrong number of fields expected=3 found=4"),
            (31, b"\"e\"f,5,1", "text after a closing quote"),
            (40, b"g,6,1.2345", "column price: not a decimal(5, 3) text=\"1.2345\""),
            (51, b"\xff,7,1", "column name: not valid UTF-8 text=\"\u{fffd}\""),
            (57, b",8,1", "column name: required but empty"),
            (68, b"\"j,1", "a quote is never closed"),
        ];
        assert_eq!(found, expected);
        assert!(rejected.iter().all(|r| r.object == "a.csv"));
    }
}

#[test]
fn every_type_reads_its_own_way_of_writing() {
    let text = "é,-128,32767,-7,9007199254740993,1.5,-2.5e-3,Yes,\
                2024-02-29,2024-02-29T12:00:00.5Z,12.5,x\n\
                ,,,,,,,,,,,\n";
    let (rows, rejected) = decode(&ALL_TYPES, text.as_bytes(), 1000);
    assert_eq!(rejected, []);
    let null = ["NULL"; 12].join("|");
    let first = "é|-128|32767|-7|9007199254740993|1.5|-0.0025|true|2024-02-29|\
                 2024-02-29T12:00:00.500Z|12.500|78";
    assert_eq!(shown(&rows), [first, &null]);
    let wrong = "a,128,1,1,1,1,1,1,2024-01-01,2024-01-01,1,x\n\
                 a,1,1,1,9223372036854775808,1,1,1,2024-01-01,2024-01-01,1,x\n\
                 a,1,1,1,1,1.x,1,1,2024-01-01,2024-01-01,1,x\n\
                 a,1,1,1,1,1,1,maybe,2024-01-01,2024-01-01,1,x\n\
                 a,1,1,1,1,1,1,1,2024-02-30,2024-01-01,1,x\n\
                 a,1,1,1,1,1,1,1,2024-01-01,yesterday,1,x\n\
                 a,1,1,1,1,1,1,1,2024-01-01,2024-01-01,1.0001,x\n\
                 a,1.0,1,1,1,1,1,1,2024-01-01,2024-01-01,1,x\n";
    let (rows, rejected) = decode(&ALL_TYPES, wrong.as_bytes(), 1000);
    assert_eq!(rows.num_rows(), 0);
    let columns: Vec<&str> =
        rejected.iter().map(|r| r.reason.split([' ', ':']).nth(1).unwrap()).collect();
    assert_eq!(columns, ["tiny", "large", "single", "truth", "day", "instant", "money", "tiny"]);
}

#[test]
fn the_header_is_the_first_record_and_knows_where_it_ends() {
    let read = |text: &str, ended| Header::read(Dialect::default(), text.as_bytes(), ended);
    let header =
        |names: &[&str], end| Header { names: names.iter().map(|n| n.to_string()).collect(), end };
    assert_eq!(read("a,b\n1,2\n", false).unwrap(), Some(header(&["a", "b"], 4)));
    assert_eq!(read("\u{feff}\"a\nx\",b \r\n", false).unwrap(), Some(header(&["a\nx", "b"], 13)));
    assert_eq!(read("\n\na", true).unwrap(), Some(header(&["a"], 3)));
    assert_eq!(read("a,b", false).unwrap(), None);
    assert_eq!(read("", true).unwrap(), Some(header(&[], 0)));
    assert!(read("a,b,a\n", false).unwrap_err().message().contains("column=\"a\""));
    assert!(read("a,\"b", true).is_err());
}

#[test]
fn a_record_too_large_to_hold_is_rejected_and_the_next_one_read() {
    let mut text = b"a,1\n\"".to_vec();
    text.resize(RECORD_BYTES_MAX + 100, b'x');
    text.extend_from_slice(b"\n\",2\nb,3\n");
    for piece in [4 * 1024 * 1024, RECORD_BYTES_MAX - 7, 2 * RECORD_BYTES_MAX] {
        let (rows, rejected) = decode(&[("text", "string"), ("number", "int64")], &text, piece);
        assert_eq!(shown(&rows), ["a|1", "b|3"]);
        assert_eq!(positions(&rows), [0, RECORD_BYTES_MAX as i64 + 105]);
        assert_eq!(rejected.len(), 1);
        assert_eq!((rejected[0].position, rejected[0].bytes.len()), (4, 64 * 1024));
        assert_eq!(rejected[0].reason, "the record is larger than 16.0 MiB");
    }
}

#[test]
fn people_write_as_they_were_taught() {
    let spelling = Spelling {
        nulls: vec![b"NA".to_vec(), b"\\N".to_vec()],
        empty_is_null: false,
        decimal: b',',
        thousands: Some(b'.'),
        encoding: Encoding::Windows1252,
    };
    let dialect = Dialect {
        delimiter: b';',
        quote: Some(b'\''),
        escape: Some(b'\\'),
        encoding: Encoding::Windows1252,
    };
    let fields = schema(&[("text", "string"), ("number", "decimal(12, 2)"), ("whole", "int32")]);
    let layout = Layout::new(dialect, &fields).unwrap().spelled(spelling);
    let text = b"caf\xe9 \x80;1.234,5;1.000\n;;\n\\N;'NA';NA\n'\\N';-7,25;\n\
                 a\\;b\\\nc;1;1\nd;1,5;1,5\ne;1.5;1\nf;1e3;1\n";
    let (rows, rejected) = decode_as(&Arc::new(layout), text, 7);
    let wanted =
        ["café €|1234.50|1000", "|NULL|NULL", "NULL|NULL|NULL", "N|-7.25|NULL", "a;b\nc|1.00|1"];
    assert_eq!(shown(&rows), wanted);
    let reasons: Vec<&str> = rejected.iter().map(|r| r.reason.as_str()).collect();
    let wanted = [
        "column whole: not an int32 text=\"1,5\"",
        "column number: not a decimal(12, 2) text=\"1.5\"",
        "column number: not a decimal(12, 2) text=\"1e3\"",
    ];
    assert_eq!(reasons, wanted);
    assert_eq!(rejected[0].position, 59);
}

#[test]
fn days_that_are_none_and_numbers_too_large_are_rejected() {
    let mut fields = schema(&[("day", "date"), ("rate", "float64")]);
    fields.fields[0].format = Some("%d/%m/%Y".into());
    let layout = Arc::new(Layout::new(Dialect::default(), &fields).unwrap());
    let text = b"29/02/2024,0.5\n31/02/2024,1\n30/02/2023,1\n01/13/2024,1\n01/12/2024,1e999\n";
    let (rows, rejected) = decode_as(&layout, text, 100);
    assert_eq!(shown(&rows), ["2024-02-29|0.5"]);
    assert_eq!(rejected.len(), 4);
    assert_eq!(rejected[3].reason, "column rate: not a float64 text=\"1e999\"");
}

#[test]
fn batches_hold_no_more_rows_than_readers_promise() {
    let text = b"1\n".repeat(200_000);
    let layout = Arc::new(Layout::new(Dialect::default(), &schema(&[("n", "int8")])).unwrap());
    let mapping = Mapping { width: 1, fields: vec![Some(0)], rescued: Vec::new() };
    let origin = Origin { object: "a.csv".into(), file: 0, start: 0 };
    let mut decoder = Decoder::new(layout, mapping, origin);
    decoder.push(&text);
    let mut rows = Vec::new();
    while let Some(decoded) = decoder.next(true).unwrap() {
        rows.push(decoded.rows.num_rows());
    }
    assert_eq!(rows.iter().sum::<usize>(), 200_000);
    assert!(rows.iter().all(|n| *n <= crate::format::BATCH_ROWS_MAX));
}

/// The rows of `fields` without their positions, written and gzipped or not.
fn encode(rows: &RecordBatch, gzip: bool) -> Vec<u8> {
    let gzip = gzip.then_some(Codec::Gzip);
    let mut encoder = Encoder::new(rows.schema(), Dialect::default(), false, gzip).unwrap();
    encoder.write(rows).unwrap();
    let mut bytes = encoder.take();
    bytes.extend(Box::new(encoder).finish().unwrap());
    bytes
}

fn without_positions(rows: &RecordBatch) -> RecordBatch {
    let columns: Vec<usize> = (0..rows.num_columns() - 1).collect();
    rows.project(&columns).unwrap()
}

#[test]
fn what_is_written_reads_back_as_the_same_rows() {
    let text = "\" a,\"\"b\"\"\n\",-128,32767,-7,-9007199254740993,1.5,-2.5e-300,no,0001-01-01,\
                1969-12-31 23:59:59.999999,-0.005,\"x\"\"\ny\"\n\
                \"\",1,2,3,4,NaN,inf,true,9999-12-31,9999-12-31 23:59:59,999999999999999.999,\"\"\n\
                ,,,,,,,,,,,\n\
                \u{feff}x,0,0,0,0,0,0,false,1970-01-01,1970-01-01,0,z\n";
    let (rows, rejected) = decode(&ALL_TYPES, text.as_bytes(), 1000);
    assert_eq!((rows.num_rows(), rejected.len()), (4, 0));
    let rows = without_positions(&rows);
    let plain = encode(&rows, false);
    let (again, rejected) = decode(&ALL_TYPES, &plain, 1000);
    assert_eq!(rejected, []);
    assert_eq!(format!("{:?}", without_positions(&again)), format!("{rows:?}"));
    let gzipped = encode(&rows, true);
    let mut gunzipped = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(gzipped.as_slice());
    std::io::Read::read_to_end(&mut decoder, &mut gunzipped).unwrap();
    assert_eq!(gunzipped, plain);
}

#[test]
fn a_type_without_text_is_refused_by_name() {
    use arrow::datatypes::{DataType, Field, Schema};
    let list = DataType::new_list(DataType::new_list(DataType::Int64, true), true);
    let wide = DataType::Struct(vec![Field::new("x", list, true)].into());
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("deep", wide, true)]));
    let error = Encoder::new(schema, Dialect::default(), true, None).unwrap_err();
    assert!(error.message().contains("column=deep"), "{error}");
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_rows(text in "[ab1\",\n\r]{0,80}", piece in 1_usize..40) {
        let fields = [("text", "string"), ("number", "int64")];
        let whole = decode(&fields, text.as_bytes(), 1000);
        prop_assert_eq!(decode(&fields, text.as_bytes(), piece), whole);
    }

    #[test]
    fn any_text_survives_writing_and_reading(
        texts in prop::collection::vec(prop::option::of("[a\",\n\r é]{0,6}"), 1..8),
    ) {
        let array: ArrayRef = Arc::new(arrow::array::StringArray::from(texts));
        let layout = Layout::new(Dialect::default(), &schema(&[("a", "string"), ("b", "string")]));
        let schema = layout.unwrap().schema().project(&[0, 1]).unwrap();
        let options = RecordBatchOptions::new();
        let columns = vec![array.clone(), array];
        let rows = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).unwrap();
        let (again, rejected) =
            decode(&[("a", "string"), ("b", "string")], &encode(&rows, false), 1000);
        prop_assert_eq!(rejected, vec![]);
        let again = without_positions(&again);
        prop_assert_eq!(again.columns(), rows.columns());
    }
}
