//! Where objects stand in a chunk of JSON.
//!
//! In: bytes in order. Out: the place of the next line, or of the next item of a list, once it is
//! complete. A line break always ends a line, since strings hold none; where an item ends depends
//! on the brackets and strings before. It does not know whether what it finds is JSON.

use memchr::memchr;

/// Whether a file is one list of objects: tells by its first byte that is no blank; none when
/// there is no such byte among `bytes`.
pub fn begins_list(bytes: &[u8]) -> Option<bool> {
    bytes.iter().find(|b| !is_blank(**b)).map(|b| *b == b'[')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How the objects of a file stand beside each other.
#[derive(Debug)]
pub(super) enum Walk {
    /// One per line.
    Lines,
    /// As items of a list.
    Items(Items),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A record between two bytes; it and what follows it are done with at `next`.
    Record { start: usize, end: usize, next: usize },
    /// Something between two bytes that is no record.
    Broken { start: usize, end: usize, next: usize, what: &'static str },
    /// More bytes are needed; those before `done` are of no use any more.
    More { done: usize },
    /// Nothing is left.
    End,
}

/// The state of a walk over the items of a list.
#[derive(Debug, Default)]
pub(super) struct Items {
    place: Place,
    /// Bytes of the item at hand that were looked at.
    scanned: usize,
    depth: u32,
    string: bool,
    escape: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Before the list.
    #[default]
    Before,
    /// Before its first item, or its end.
    First,
    /// Before an item.
    Item,
    /// Behind an item.
    Behind,
    /// Behind the list.
    After,
    /// Behind everything that is looked at.
    Done,
}

impl Walk {
    /// The next step in `bytes`, which begin where the last step ended.
    pub(super) fn next(&mut self, bytes: &[u8], ended: bool) -> Step {
        match self {
            Walk::Lines => line(bytes, ended),
            Walk::Items(items) => items.next(bytes, ended),
        }
    }

    /// Where the record at hand ends, of which all before `bytes` was let go; none if not there.
    pub(super) fn skip(&mut self, bytes: &[u8], ended: bool) -> Option<usize> {
        let end = match self {
            Walk::Lines => memchr(b'\n', bytes).map(|line| line + 1),
            Walk::Items(items) => items.skip(bytes),
        };
        end.or(ended.then_some(bytes.len()))
    }
}

fn line(bytes: &[u8], ended: bool) -> Step {
    let blanks = bytes.iter().take_while(|b| is_blank(**b)).count();
    let rest = &bytes[blanks..];
    if rest.is_empty() {
        return if ended { Step::End } else { Step::More { done: blanks } };
    }
    let (length, next) = match memchr(b'\n', rest) {
        Some(line) => (line, line + 1),
        None if ended => (rest.len(), rest.len()),
        None => return Step::More { done: blanks },
    };
    let end = blanks + rest[..length].trim_ascii_end().len();
    Step::Record { start: blanks, end, next: blanks + next }
}

impl Items {
    fn next(&mut self, bytes: &[u8], ended: bool) -> Step {
        if self.scanned > 0 {
            return self.item(bytes, 0, ended);
        }
        let mut at = 0;
        loop {
            at += bytes[at..].iter().take_while(|b| is_blank(**b)).count();
            let Some(byte) = bytes.get(at) else { return self.dry(at, ended) };
            match (self.place, byte) {
                (Place::Before, b'[') => self.place = Place::First,
                (Place::First | Place::Behind, b']') => self.place = Place::After,
                (Place::Behind, b',') => self.place = Place::Item,
                (Place::First | Place::Item, _) => return self.item(bytes, at, ended),
                _ if !ended => return Step::More { done: at },
                _ => {
                    self.place = Place::Done;
                    let (end, what) = (bytes.len(), "text outside of the list");
                    return Step::Broken { start: at, end, next: end, what };
                }
            }
            at += 1;
        }
    }

    /// The bytes are at an end between items.
    fn dry(&mut self, at: usize, ended: bool) -> Step {
        match (ended, self.place) {
            (false, _) => Step::More { done: at },
            (true, Place::After | Place::Done) => Step::End,
            (true, _) => {
                self.place = Place::Done;
                Step::Broken { start: at, end: at, next: at, what: "the file ends inside the list" }
            }
        }
    }

    /// The item that begins at `at`.
    fn item(&mut self, bytes: &[u8], at: usize, ended: bool) -> Step {
        let found = self.end(&bytes[at..]);
        if found.is_none() && !ended {
            return Step::More { done: at };
        }
        let next = at + found.unwrap_or(bytes.len() - at);
        let end = at + bytes[at..next].trim_ascii_end().len();
        *self = Self { place: Place::Behind, ..Self::default() };
        Step::Record { start: at, end, next }
    }

    fn skip(&mut self, bytes: &[u8]) -> Option<usize> {
        if !matches!(self.place, Place::First | Place::Item) {
            return None;
        }
        self.scanned = 0;
        let end = self.end(bytes);
        self.scanned = 0;
        if end.is_some() {
            *self = Self { place: Place::Behind, ..Self::default() };
        }
        end
    }

    /// Where the item ends with which `item` begins: at a comma or a bracket outside of its own.
    fn end(&mut self, item: &[u8]) -> Option<usize> {
        for (i, byte) in item.iter().enumerate().skip(self.scanned) {
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' if self.string => self.escape = true,
                b'"' => self.string = !self.string,
                _ if self.string => {}
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 0 => return Some(i),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.scanned = item.len();
        None
    }
}
