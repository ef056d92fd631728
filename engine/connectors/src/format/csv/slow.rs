//! A slow reader of CSV that is obviously right, and what must be the same through both.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::datatypes::Int64Type;
use sluice_core::Rejected;

use super::tests::{decode_as, positions, schema};
use super::*;

/// What files are made of.
const FRAGMENTS: [&[u8]; 22] = [
    b"a",
    b"\"",
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b"\\",
    b"1",
    b" ",
    b"\"\"",
    b"a,1\n",
    b"\"a\",2\n",
    b"\xc3\xa9",
    b"\xff",
    b"x,\"-3\"\r\n",
    b"\"a\nb\",",
    b"12",
    b"\\\"",
    b"\\\n,",
    b"-",
    // Stretches without quotes that are long enough to be read 64 bytes at a time.
    b"text without any quote,1\nanother such line,-22\r\nxx,3\n,4\n\nabcdefghijklmnopqrstuvwxyz,5\n",
    b"one field that is longer than what is looked at in one step of the quick way of reading, and",
];

const DIALECTS: [Dialect; 3] = {
    let usual =
        Dialect { delimiter: b',', quote: Some(b'"'), escape: None, encoding: Encoding::Utf8 };
    [usual, Dialect { escape: Some(b'\\'), ..usual }, Dialect { quote: None, ..usual }]
};

type Row = (Option<String>, Option<i64>);

fn bytes(choices: &[u8]) -> Vec<u8> {
    let fragments = choices.iter().map(|choice| FRAGMENTS[usize::from(*choice) % FRAGMENTS.len()]);
    fragments.flatten().copied().collect()
}

/// A byte after the other.
struct Slow<'a> {
    dialect: Dialect,
    rest: &'a [u8],
}

impl Slow<'_> {
    /// The rows, and where the records begin that are none.
    fn read(mut self) -> (Vec<Row>, Vec<u64>) {
        let (whole, mut rows, mut bad) = (self.rest.len(), Vec::new(), Vec::new());
        loop {
            match self.rest {
                [] | [b'\r'] => return (rows, bad),
                [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => self.rest = rest,
                rest => {
                    let at = (whole - rest.len()) as u64;
                    match self.record() {
                        Some(row) => rows.push(row),
                        None => bad.push(at),
                    }
                }
            }
        }
    }

    fn record(&mut self) -> Option<Row> {
        let (mut fields, mut good, mut more) = (Vec::new(), true, true);
        while more {
            let (field, fine, next) = self.field();
            fields.push(field);
            good &= fine;
            more = next;
        }
        let [text, number]: [Option<Vec<u8>>; 2] = fields.try_into().ok().filter(|_| good)?;
        let text = text.map(String::from_utf8).transpose().ok()?;
        let number = number.map(String::from_utf8).transpose().ok()?;
        let number = number.filter(|n| !n.is_empty());
        let trimmed = |n: &str| match n.starts_with([' ', '\t']) || n.ends_with([' ', '\t']) {
            true => n.trim_ascii().parse(),
            false => n.parse(),
        };
        let number = number.map(|n| trimmed(&n)).transpose().ok()?;
        Some((text, number))
    }

    /// A value, whether it is one, and whether another follows in the record.
    fn field(&mut self) -> (Option<Vec<u8>>, bool, bool) {
        let Some(quote) = self.dialect.quote.filter(|q| self.rest.first() == Some(q)) else {
            let (value, next) = self.plain();
            return (Some(value).filter(|v| !v.is_empty()), true, next);
        };
        let mut value = Vec::new();
        self.rest = &self.rest[1..];
        loop {
            match self.rest {
                [] => return (None, false, false),
                [a, b, rest @ ..] if *a == quote && *b == quote => {
                    value.push(quote);
                    self.rest = rest;
                }
                [a, b, rest @ ..] if Some(*a) == self.dialect.escape => {
                    value.push(*b);
                    self.rest = rest;
                }
                [a, rest @ ..] if *a == quote => {
                    self.rest = rest;
                    break;
                }
                [a, rest @ ..] => {
                    value.push(*a);
                    self.rest = rest;
                }
            }
        }
        match self.rest {
            [] | [b'\r'] => {
                self.rest = &[];
                (Some(value), true, false)
            }
            [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => {
                self.rest = rest;
                (Some(value), true, false)
            }
            [a, rest @ ..] if *a == self.dialect.delimiter => {
                self.rest = rest;
                (Some(value), true, true)
            }
            _ => (None, false, self.plain().1),
        }
    }

    /// Text up to a delimiter or the end of the record, and whether it was a delimiter.
    fn plain(&mut self) -> (Vec<u8>, bool) {
        let (mut value, mut last) = (Vec::new(), 0);
        let next = loop {
            match self.rest {
                [] => break false,
                [a, b, rest @ ..] if Some(*a) == self.dialect.escape => {
                    value.push(*b);
                    last = 0;
                    self.rest = rest;
                }
                [b'\n', rest @ ..] => {
                    self.rest = rest;
                    break false;
                }
                [a, rest @ ..] if *a == self.dialect.delimiter => {
                    self.rest = rest;
                    break true;
                }
                [a, rest @ ..] => {
                    value.push(*a);
                    last = *a;
                    self.rest = rest;
                }
            }
        };
        if !next && last == b'\r' {
            value.pop();
        }
        (value, next)
    }
}

/// What the decoder makes of it, in pieces.
fn quickly(dialect: Dialect, bytes: &[u8], piece: usize) -> (Vec<Row>, Vec<Rejected>, Vec<i64>) {
    let fields = schema(&[("text", "string"), ("number", "int64")]);
    let layout = Arc::new(Layout::new(dialect, &fields).unwrap());
    let (rows, rejected) = decode_as(&layout, bytes, piece);
    let (text, number) = (rows.column(0).as_string::<i32>(), rows.column(1));
    let number = number.as_primitive::<Int64Type>();
    let found = text.iter().zip(number).map(|(t, n)| (t.map(str::to_string), n)).collect();
    (found, rejected, positions(&rows))
}

#[test]
fn it_reads_what_a_slow_reader_reads() {
    let good = std::sync::atomic::AtomicUsize::new(0);
    bolero::check!().with_iterations(20_000).with_max_len(40).for_each(|choices: &[u8]| {
        let bytes = bytes(choices);
        for dialect in DIALECTS {
            let (rows, rejected, _) = quickly(dialect, &bytes, 1 << 20);
            let (wanted, bad) = Slow { dialect, rest: &bytes }.read();
            let shown = String::from_utf8_lossy(&bytes);
            assert_eq!(rows, wanted, "{dialect:?} {shown:?}");
            let found: Vec<u64> = rejected.iter().map(|r| r.position).collect();
            assert_eq!(found, bad, "{dialect:?} {shown:?} {rejected:?}");
            good.fetch_add(rows.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    let good = good.into_inner();
    assert!(good > 1000, "only {good} good rows were compared");
}

/// A piece of a file that more follows, or not; none where it was cut in the wrong place.
fn piece(dialect: Dialect, bytes: &[u8], followed: bool) -> Option<(Vec<Row>, usize)> {
    let fields = schema(&[("text", "string"), ("number", "int64")]);
    let layout = Arc::new(Layout::new(dialect, &fields).unwrap());
    let mapping = Mapping { width: 2, fields: vec![Some(0), Some(1)], rescued: Vec::new() };
    let origin = Origin { object: "a.csv".into(), file: 0, start: 0 };
    let mut decoder = Decoder::new(layout, mapping, origin).followed(followed);
    decoder.push(bytes);
    let (mut rows, mut bad) = (Vec::new(), 0);
    while let Some(decoded) = decoder.next(true).ok()? {
        bad += decoded.rejected.len();
        let (text, number) = (decoded.rows.column(0), decoded.rows.column(1));
        let (text, number) = (text.as_string::<i32>(), number.as_primitive::<Int64Type>());
        rows.extend(text.iter().zip(number).map(|(t, n)| (t.map(str::to_string), n)));
    }
    Some((rows, bad))
}

#[test]
fn a_guessed_cut_gives_the_same_rows_or_is_found_out() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    let (right, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    bolero::check!().with_iterations(10_000).with_max_len(40).for_each(|choices: &[u8]| {
        let bytes = bytes(choices);
        for (dialect, step) in DIALECTS.into_iter().flat_map(|d| [(d, 17), (d, 40)]) {
            // As in files, less is looked at than there is to the next cut: cuts stay in order.
            let behind = |at: usize| &bytes[at..bytes.len().min(at + 16)];
            let cuts = (step..bytes.len()).step_by(step);
            let cuts = cuts.filter_map(|at| guess(dialect, behind(at)).map(|border| at + border));
            let mut cuts: Vec<usize> = cuts.filter(|at| *at < bytes.len()).collect();
            cuts.dedup();
            let (mut found, mut from) = (Some((Vec::new(), 0)), 0);
            for to in cuts.iter().copied().chain([bytes.len()]) {
                let read = piece(dialect, &bytes[from..to], to < bytes.len());
                found = found.zip(read).map(|((mut rows, bad), (more, worse))| {
                    rows.extend(more);
                    (rows, bad + worse)
                });
                from = to;
            }
            let count = if found.is_some() { &right } else { &wrong };
            count.fetch_add(cuts.len(), Relaxed);
            if let Some(found) = found {
                let shown = String::from_utf8_lossy(&bytes);
                let (rows, bad) = Slow { dialect, rest: &bytes }.read();
                assert_eq!(found, (rows, bad.len()), "{shown:?} {cuts:?}");
            }
        }
    });
    let (right, wrong) = (right.into_inner(), wrong.into_inner());
    assert!(right > 1000 && wrong > 100, "{right} right guesses, {wrong} wrong ones");
}

#[test]
fn every_border_cuts_a_file_into_the_same_rows() {
    bolero::check!().with_iterations(5_000).with_max_len(40).for_each(|choices: &[u8]| {
        let Some((cut, choices)) = choices.split_first() else { return };
        let bytes = bytes(choices);
        for dialect in DIALECTS {
            let whole = quickly(dialect, &bytes, 1 + usize::from(*cut) % 30);
            let at = usize::from(*cut) % (bytes.len() + 1);
            let (head, tail) = bytes.split_at(at);
            let mut scan = Scan::new(dialect, 0);
            scan.push(head);
            let (state, _) = scan.from(State::Field);
            let mut scan = Scan::new(dialect, at as u64);
            scan.push(tail);
            let border = scan.from(state).1.map_or(bytes.len(), |border| border as usize);
            let (mut rows, mut rejected, mut places) = quickly(dialect, &bytes[..border], 1 << 20);
            let (more, bad, others) = quickly(dialect, &bytes[border..], 1 << 20);
            rows.extend(more);
            places.extend(others.iter().map(|place| place + border as i64));
            let moved = |r: Rejected| Rejected { position: r.position + border as u64, ..r };
            rejected.extend(bad.into_iter().map(moved));
            assert_eq!((rows, rejected, places), whole, "{dialect:?} {bytes:?} at {border}");
        }
    });
}
