//! Where records end, in any part of a file, without having read what stands before it.
//!
//! In: bytes in order. Out: the state after them and the first record border among them, for each
//! state the bytes may begin in. Whether a line break ends a record depends on the quotes before
//! it; so each part is scanned for all beginnings at once, and once the parts are known in
//! order the right answer of each is picked. This is exact: nothing is guessed.
//!
//! ```text
//!  Field ──quote──► Quoted ──quote──► Closed ──delimiter, line break──► Field
//!    │                ▲                 │ │
//!    │                └─────quote───────┘ └──other──► Plain
//!    └──other──► Plain ──delimiter, line break──► Field
//! ```
//! A line break is a record border in every state but `Quoted`. Dialects with an escape have two more
//! states, behind an escape in and out of quotes, which no character leaves but for where it came from.

use memchr::memchr;

use super::Dialect;

/// Where in a record a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// At the beginning of a field.
    Field,
    /// Inside a field without quotes.
    Plain,
    /// Inside a quoted field.
    Quoted,
    /// After a quote inside a quoted field.
    Closed,
    /// After an escape outside of quotes.
    Escaped,
    /// After an escape inside a quoted field.
    QuotedEscaped,
}

const STATES: [State; 6] = [
    State::Field,
    State::Plain,
    State::Quoted,
    State::Closed,
    State::Escaped,
    State::QuotedEscaped,
];

/// A scan of one part of a file, for every state it may begin in.
#[derive(Debug, Clone)]
pub struct Scan {
    dialect: Dialect,
    at: u64,
    lanes: [Lane; 6],
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    state: State,
    border: Option<u64>,
}

impl Scan {
    /// A scan that begins at byte `start` of the file.
    pub fn new(dialect: Dialect, start: u64) -> Self {
        let lanes = STATES.map(|state| match state {
            // Never met: they go with another, which is looked at anyway.
            State::Escaped | State::QuotedEscaped if dialect.escape.is_none() => State::Plain,
            state => state,
        });
        Self { dialect, at: start, lanes: lanes.map(|state| Lane { state, border: None }) }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // After a few bytes most beginnings have come to the same state; each state is run once.
        let ends = STATES.map(|state| {
            let needed = self.lanes.iter().any(|lane| lane.state == state);
            needed.then(|| run(self.dialect, state, bytes))
        });
        for lane in &mut self.lanes {
            if let Some((state, border)) = ends[lane.state as usize] {
                lane.state = state;
                lane.border = lane.border.or(border.map(|b| self.at + b as u64));
            }
        }
        self.at += bytes.len() as u64;
    }

    /// If the part began in `state`: the state after it, and where the first record begins that
    /// follows a line break of this part.
    pub fn from(&self, state: State) -> (State, Option<u64>) {
        let lane = self.lanes[state as usize];
        (lane.state, lane.border)
    }
}

/// Where the first record begins in `bytes` that were taken out of the middle of a file, judged by
/// these bytes alone; none when they do not say. It may be wrong: bytes inside of quotes can look
/// like records. Whoever reads up to there finds out, since the quotes do not end there.
pub fn guess(dialect: Dialect, bytes: &[u8]) -> Option<usize> {
    let Some(quote) = dialect.quote else { return memchr(b'\n', bytes).map(|at| at + 1) };
    if dialect.escape.is_some() {
        return None;
    }
    let outside = likely(dialect, State::Plain, bytes);
    if memchr(quote, bytes).is_none() {
        return outside?;
    }
    match (outside, likely(dialect, State::Quoted, bytes)) {
        (Some(border), None) | (None, Some(border)) => border,
        _ => None,
    }
}

/// The place after the first line break that ends a record if `bytes` begin in `state`; none if they
/// would have quotes where nobody writes them.
fn likely(dialect: Dialect, from: State, bytes: &[u8]) -> Option<Option<usize>> {
    let (mut state, mut border) = (from, None);
    for (i, byte) in bytes.iter().enumerate() {
        let is_quote = dialect.quote == Some(*byte);
        state = match state {
            State::Quoted if is_quote => State::Closed,
            State::Quoted => State::Quoted,
            State::Field | State::Closed if is_quote => State::Quoted,
            State::Plain if is_quote => return None,
            State::Closed if !ends_field(dialect, *byte) && *byte != b'\r' => return None,
            _ if ends_field(dialect, *byte) => State::Field,
            State::Closed => State::Closed,
            _ => State::Plain,
        };
        if *byte == b'\n' && state == State::Field && border.is_none() {
            border = Some(i + 1);
        }
    }
    Some(border)
}

/// The state after `bytes`, and the place after the first line break that ends a record.
pub(super) fn run(dialect: Dialect, from: State, bytes: &[u8]) -> (State, Option<usize>) {
    match (dialect.quote, dialect.escape) {
        (Some(quote), None) => between_quotes(dialect, quote, from, bytes),
        _ => stepwise(dialect, from, bytes),
    }
}

/// [`run`] for the usual dialects: from quote to quote.
fn between_quotes(
    dialect: Dialect,
    quote: u8,
    from: State,
    bytes: &[u8],
) -> (State, Option<usize>) {
    let (mut state, mut at, mut border) = (from, 0, None);
    while at < bytes.len() {
        state = match state {
            State::Quoted => match memchr(quote, &bytes[at..]) {
                None => return (State::Quoted, border),
                Some(place) => {
                    at += place + 1;
                    State::Closed
                }
            },
            State::Closed if bytes[at] == quote => {
                at += 1;
                State::Quoted
            }
            _ => {
                let (next, end) = plain(dialect, quote, (state, at), bytes);
                if border.is_none() {
                    border = memchr(b'\n', &bytes[at..end]).map(|line| at + line + 1);
                }
                at = end;
                next
            }
        };
    }
    (state, border)
}

/// [`run`] for all dialects, a byte at a time.
fn stepwise(dialect: Dialect, from: State, bytes: &[u8]) -> (State, Option<usize>) {
    let (mut state, mut border) = (from, None);
    for (i, byte) in bytes.iter().enumerate() {
        let plain = matches!(state, State::Field | State::Plain | State::Closed);
        if *byte == b'\n' && plain && border.is_none() {
            border = Some(i + 1);
        }
        let quote = dialect.quote == Some(*byte);
        let escape = dialect.escape == Some(*byte);
        state = match state {
            State::Escaped => State::Plain,
            State::QuotedEscaped => State::Quoted,
            State::Quoted if quote => State::Closed,
            State::Quoted if escape => State::QuotedEscaped,
            State::Quoted => State::Quoted,
            State::Field | State::Closed if quote => State::Quoted,
            _ if escape => State::Escaped,
            _ if ends_field(dialect, *byte) => State::Field,
            _ => State::Plain,
        };
    }
    (state, border)
}

/// Goes on from a place to behind the next quote that opens a field, or to the end.
fn plain(dialect: Dialect, quote: u8, (state, at): (State, usize), bytes: &[u8]) -> (State, usize) {
    let begins = |place: usize| {
        if place == at { state == State::Field } else { ends_field(dialect, bytes[place - 1]) }
    };
    let mut from = at;
    while let Some(quote) = memchr(quote, &bytes[from..]).map(|q| from + q) {
        if begins(quote) {
            return (State::Quoted, quote + 1);
        }
        from = quote + 1;
    }
    match begins(bytes.len()) {
        true => (State::Field, bytes.len()),
        false => (State::Plain, bytes.len()),
    }
}

fn ends_field(dialect: Dialect, byte: u8) -> bool {
    byte == dialect.delimiter || byte == b'\n'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_guess_goes_by_where_quotes_stand() {
        let cases: [(&str, Option<usize>); 12] = [
            ("lo,1\nmorning,2\n", Some(5)),
            ("lo,1", None),
            ("lo,\"1\"\nmorning,2\n", Some(7)),
            ("lo\r\n\"a\nb\",1\r\n", Some(4)),
            // Within quotes.
            ("a\nb\",1\nx,2\n", Some(7)),
            ("a\nb\"\r\nx,\"2\"\n", Some(6)),
            ("a, \"\"b\"\"\nc\",1\nx,\"y\"\n", Some(14)),
            // Both ways look right, or none does.
            ("\",\"\n\",\"\n", None),
            ("a \"b\" c\nd\n", None),
            ("\n", Some(1)),
            ("", None),
            (",\"x\ny\",\"z\"\n1,2\n", Some(11)),
        ];
        for (text, expected) in cases {
            assert_eq!(guess(Dialect::default(), text.as_bytes()), expected, "{text:?}");
        }
        let plain = Dialect { quote: None, ..Dialect::default() };
        assert_eq!(guess(plain, b"a \"b\nc"), Some(5));
        let escapes = Dialect { escape: Some(b'\\'), ..Dialect::default() };
        assert_eq!(guess(escapes, b"a\nb\n"), None);
    }

    proptest! {
        #[test]
        fn a_scan_in_pieces_agrees_with_the_picture(
            text in "[a\",\n\r\\\\]{0,60}",
            piece in 1_usize..20,
        ) {
            let usual = Dialect::default();
            let escapes = Dialect { escape: Some(b'\\'), ..usual };
            for dialect in [usual, escapes, Dialect { quote: None, ..usual }] {
                let mut scan = Scan::new(dialect, 100);
                for bytes in text.as_bytes().chunks(piece) {
                    scan.push(bytes);
                }
                for state in STATES {
                    if dialect.escape.is_none() && state as usize > State::Closed as usize {
                        continue;
                    }
                    let (end, border) = stepwise(dialect, state, text.as_bytes());
                    prop_assert_eq!(scan.from(state), (end, border.map(|b| 100 + b as u64)));
                }
            }
        }
    }
}
