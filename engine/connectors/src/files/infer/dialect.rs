//! Which characters separate and surround the fields of a text, and whether its first line holds
//! names.
//!
//! In: the beginning of a file as text. Out: a [`Shape`]. It splits roughly, also where lines are
//! of different widths; decoders do it exactly, and have the last word.

use std::collections::BTreeMap;

use super::profile::Profile;

/// What may separate fields, the most usual first.
const DELIMITERS: [char; 6] = [',', ';', '\t', '|', '^', '~'];

/// Signs that hardly ever stand within fields: where they do, something else separates.
const SEPARATORS: [char; 3] = [';', '\t', '|'];

/// Records that are looked at: enough to see a pattern, few enough to look six times.
const RECORDS_MAX: usize = 1000;

/// How a text is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) delimiter: char,
    pub(super) quote: char,
    pub(super) header: bool,
    /// Lines before the first record of the usual width.
    pub(super) above: usize,
    /// Fields per record.
    pub(super) width: usize,
    /// Fields of the first record.
    pub(super) first: Vec<String>,
}

/// The layout of `text`; none when it holds no record. `ended` says that it is the whole file.
pub(super) fn shape(text: &str, ended: bool) -> Option<Shape> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let quote = quote(text);
    let split = |delimiter| Split::new(text, delimiter, quote, ended);
    let splits: Vec<Split> = DELIMITERS.iter().map(|d| split(*d)).collect();
    // Of equal ones the first, which is the more usual.
    let best = splits.into_iter().rev().max_by_key(Split::score)?;
    let above = best.records.iter().take_while(|r| r.len() != best.width).count();
    let rows = best.records.get(above..)?;
    let first = rows.first()?.clone();
    Some(Shape {
        delimiter: best.delimiter,
        quote,
        header: is_header(rows),
        above,
        width: best.width,
        first,
    })
}

/// The quote: `'` only where fields begin and end with it and none does with `"`.
fn quote(text: &str) -> char {
    let around = |quote: char| {
        let opens = DELIMITERS.iter().map(|d| text.matches(&format!("{d}{quote}")).count());
        let closes = DELIMITERS.iter().map(|d| text.matches(&format!("{quote}{d}")).count());
        opens.sum::<usize>().min(closes.sum())
    };
    let lines = text.lines().take(RECORDS_MAX).count();
    if around('"') == 0 && around('\'') * 2 > lines { '\'' } else { '"' }
}

/// A text split by one delimiter.
struct Split {
    delimiter: char,
    records: Vec<Vec<String>>,
    /// The most usual number of fields.
    width: usize,
    /// Records of this width.
    regular: usize,
    /// Fields in which another separator stands.
    foreign: usize,
}

impl Split {
    fn new(text: &str, delimiter: char, quote: char, ended: bool) -> Self {
        let records = records(text, delimiter, quote, ended);
        let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
        for record in &records {
            *widths.entry(record.len()).or_default() += 1;
        }
        let most = widths.iter().max_by_key(|(width, count)| (**count, **width));
        let (width, regular) = most.map_or((0, 0), |(width, count)| (*width, *count));
        let other = |c: char| c != delimiter && SEPARATORS.contains(&c);
        let foreign = records.iter().flatten().filter(|f| f.contains(other)).count();
        Self { delimiter, records, width, regular, foreign }
    }

    /// Larger is better: several fields, regular, without other separators inside, many.
    fn score(&self) -> (bool, usize, usize, usize) {
        let all = self.records.len().max(1);
        let fields = self.records.iter().map(Vec::len).sum::<usize>().max(1);
        let clean = 10 - 10 * self.foreign / fields;
        (self.width > 1, 20 * self.regular / all, clean, self.width)
    }
}

/// The records of a text as decoders split them, but for what is odd.
fn records(text: &str, delimiter: char, quote: char, ended: bool) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let mut record: Vec<String> = Vec::new();
    let mut field = String::new();
    let (mut quoted, mut fresh) = (false, true);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            match c {
                c if c == quote && chars.peek() == Some(&quote) => {
                    field.push(quote);
                    chars.next();
                }
                c if c == quote => quoted = false,
                c => field.push(c),
            }
        } else if c == quote && fresh {
            (quoted, fresh) = (true, false);
        } else if c == delimiter {
            record.push(std::mem::take(&mut field));
            fresh = true;
        } else if c == '\n' {
            let blank = record.is_empty() && fresh;
            record.push(std::mem::take(&mut field));
            let full = std::mem::take(&mut record);
            records.extend((!blank).then_some(full));
            fresh = true;
            if records.len() == RECORDS_MAX {
                return records;
            }
        } else if c != '\r' {
            field.push(c);
            fresh = false;
        }
    }
    if ended && !(record.is_empty() && fresh) {
        record.push(field);
        records.push(record);
    }
    records
}

/// Whether the first of `rows` holds names: no number or time is in it, none comes twice, and the
/// rows below are of another kind or at least never repeat it.
fn is_header(rows: &[Vec<String>]) -> bool {
    let Some((first, below)) = rows.split_first() else { return false };
    let kind = |texts: &mut dyn Iterator<Item = &String>| {
        let mut profile = Profile::default();
        texts.for_each(|text| profile.add(Some(text)));
        profile
    };
    let is_value = |text: &String| {
        let one = kind(&mut std::iter::once(text));
        let times = one.iso_days + one.iso_times;
        one.values > 0 && (one.most_numbers() + times > 0 || fits_time(&one))
    };
    let column = |i: usize| below.iter().filter_map(move |row| row.get(i));
    // Years stand above columns of other figures.
    let is_name = |i: usize, text: &String| is_year(text) && !column(i).any(|t| is_year(t));
    let is_value = |(i, text): (usize, &String)| is_value(text) && !is_name(i, text);
    let values = first.iter().enumerate().filter(|one| is_value(*one)).count();
    if below.is_empty() {
        return values == 0;
    }
    let named = first.iter().filter(|text| !text.trim().is_empty()).count();
    if named * 2 < first.len() || values * 2 > first.len() {
        return false;
    }
    let mut says = (0, 0);
    for (i, name) in first.iter().enumerate() {
        let texts = kind(&mut column(i));
        let numbers = texts.most_numbers();
        let typed = texts.values > 0
            && (numbers * 10 > texts.values * 9
                || (texts.iso_days + texts.iso_times) * 10 > texts.values * 9
                || fits_time(&texts));
        match (typed, is_value((i, name))) {
            (true, true) => says.1 += 1,
            (true, false) if !name.trim().is_empty() => says.0 += 1,
            // A value that comes again below is no name.
            (false, _) if column(i).any(|text| text == name && !text.is_empty()) => says.1 += 1,
            _ => {}
        }
    }
    says.0 > says.1 || (says == (0, 0) && values == 0)
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && text.parse().is_ok_and(|year: u32| (1900..=2100).contains(&year))
}

fn fits_time(profile: &Profile) -> bool {
    profile.times.iter().any(|t| t.fits == profile.values && t.pattern.text != "%Y%m%d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_seen_in_the_text() {
        let cases = [
            ("a,b\n1,2\n", ',', '"', true, 2),
            ("a;b;c\n1,5;2,5;x\n3,5;4,5;y\n", ';', '"', true, 3),
            ("1,5;2,5;3,5\n1,5;2,5;3,5\n", ';', '"', false, 3),
            ("a\tb\n1\tx, y\n", '\t', '"', true, 2),
            ("a|b\n\"x|y\"|2\n", '|', '"', true, 2),
            ("name,text\n'x','a, b'\n'y','c'\n", ',', '\'', true, 2),
            ("1,2024-01-01\n2,2024-01-02\n", ',', '"', false, 2),
            ("name\nAnna\nBerta\n", ',', '"', true, 1),
            ("anna,berlin\nanna,rome\n", ',', '"', false, 2),
            ("id,text\n1,\"two\nlines, here\"\n2,b\n", ',', '"', true, 2),
            ("2023,2024,name\n1,2,x\n3,4,y\n", ',', '"', true, 3),
            ("\u{feff}a;b\r\n1;2\r\n", ';', '"', true, 2),
            ("id,2023,2024\na,2,3\nb,4,5\n", ',', '"', true, 3),
            ("a,2023\nb,2022\n", ',', '"', false, 2),
        ];
        for (text, delimiter, quote, header, width) in cases {
            let shape = shape(text, true).unwrap();
            let seen = (shape.delimiter, shape.quote, shape.header, shape.width);
            assert_eq!(seen, (delimiter, quote, header, width), "{text:?}");
        }
        assert_eq!(shape("", true), None);
        assert_eq!(shape("\n\n", true), None);
    }

    #[test]
    fn titles_above_a_table_are_counted() {
        let shape = shape("Report 2024\n\na;b;c\n1;2;3\n4;5;6\n", true).unwrap();
        assert_eq!((shape.above, shape.width, shape.header), (1, 3, true));
        assert_eq!(shape.first, ["a", "b", "c"]);
    }
}
