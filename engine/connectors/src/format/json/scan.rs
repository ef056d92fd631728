//! JSON text, token by token, as RFC 8259 has it.
//!
//! In: the UTF-8 bytes of one value. Out: its tokens; or what is wrong, and where. It knows no
//! columns and keeps nothing but its place.

/// Objects and lists within each other at most: no stack is to be used up by brackets.
const DEPTH_MAX: usize = 128;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The field it is in, from the outside in; empty when the row as a whole is meant.
    path: String,
    what: String,
}

impl Wrong {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { path: String::new(), what: what.into() }
    }

    /// The same, told from outside of the field `name` or the item `[n]`.
    pub(crate) fn within(self, name: &str) -> Self {
        Self { path: joined(name, &self.path), ..self }
    }

    /// For people: what is wrong with which column.
    pub(crate) fn reason(self) -> String {
        match self.path.is_empty() {
            true => self.what,
            false => format!("column {}: {}", self.path, self.what),
        }
    }
}

/// `a` and `b` to `a.b`, `a` and `[0]` to `a[0]`.
pub(crate) fn joined(name: &str, rest: &str) -> String {
    match rest.as_bytes().first() {
        None => name.to_string(),
        Some(b'[') => format!("{name}{rest}"),
        Some(_) => format!("{name}.{rest}"),
    }
}

/// A place in the text of one value.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte that is no blank; none at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
        None
    }

    /// Passes over `byte` if it comes next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Passes over `byte`, which has to come next.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.wrong(&format!("expected {:?}", char::from(byte))))
    }

    /// The next value as people write it: text without quotes and escapes, everything else as it
    /// stands; none for `null`. `scratch` is where escapes are resolved.
    #[inline]
    pub(crate) fn scalar<'t>(&mut self, scratch: &'t mut Vec<u8>) -> Result<Option<&'t [u8]>, Wrong>
    where
        'a: 't,
    {
        match self.peek() {
            Some(b'"') => self.string(scratch).map(Some),
            Some(b'n') => self.word(b"null").map(|_| None),
            _ => self.raw().map(Some),
        }
    }

    /// Passes over the next value and gives it as it stands.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8], Wrong> {
        self.peek();
        let start = self.at;
        self.skip(0)?;
        Ok(&self.bytes[start..self.at])
    }

    /// The text of the string that comes next.
    #[inline]
    pub(crate) fn string<'t>(&mut self, scratch: &'t mut Vec<u8>) -> Result<&'t [u8], Wrong>
    where
        'a: 't,
    {
        self.expect(b'"')?;
        let start = self.at;
        let end = self.plain()?;
        if self.bytes[end] == b'"' {
            self.at = end + 1;
            return Ok(&self.bytes[start..end]);
        }
        scratch.clear();
        scratch.extend_from_slice(&self.bytes[start..end]);
        self.at = end;
        loop {
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Ok(scratch);
            }
            let character = self.escape()?;
            scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            let start = self.at;
            self.at = self.plain()?;
            scratch.extend_from_slice(&self.bytes[start..self.at]);
        }
    }

    /// Whether only blanks are left.
    pub(crate) fn end(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("text after the object")),
        }
    }

    pub(crate) fn wrong(&self, what: &str) -> Wrong {
        Wrong::new(format!("not JSON: {what} at={}", self.at))
    }

    /// Where the quote or backslash stands that ends plain text.
    #[inline]
    fn plain(&self) -> Result<usize, Wrong> {
        let special = |b: &u8| *b < b' ' || *b == b'"' || *b == b'\\';
        match self.bytes[self.at..].iter().position(special) {
            Some(length) if self.bytes[self.at + length] >= b' ' => Ok(self.at + length),
            Some(_) => Err(self.wrong("a control character in a string")),
            None => Err(self.wrong("a string without end")),
        }
    }

    /// The character of the escape that comes next.
    fn escape(&mut self) -> Result<char, Wrong> {
        let Some(kind) = self.bytes.get(self.at + 1) else {
            return Err(self.wrong("a string without end"));
        };
        let character = match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.wrong("an unknown escape")),
        };
        self.at += 2;
        Ok(character)
    }

    /// The character of an escape with four hex digits, or of two of them.
    fn unicode(&mut self) -> Result<char, Wrong> {
        let unit = |at: usize| {
            let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
            let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
            u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let wrong = || self.wrong("an escape that is no character");
        let high = unit(self.at).ok_or_else(wrong)?;
        if let Some(character) = char::from_u32(u32::from(high)) {
            self.at += 6;
            return Ok(character);
        }
        let low = unit(self.at + 6).ok_or_else(wrong)?;
        match char::decode_utf16([high, low]).next() {
            Some(Ok(character)) => {
                self.at += 12;
                Ok(character)
            }
            _ => Err(wrong()),
        }
    }

    fn skip(&mut self, depth: usize) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err(self.wrong("brackets nest too deep")),
            Some(b'{') => self.skip_inside(depth, b'}'),
            Some(b'[') => self.skip_inside(depth, b']'),
            Some(b'"') => self.skip_string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("a value is missing")),
        }
    }

    fn skip_inside(&mut self, depth: usize, close: u8) -> Result<(), Wrong> {
        self.at += 1;
        if self.take(close) {
            return Ok(());
        }
        loop {
            if close == b'}' {
                if self.peek() != Some(b'"') {
                    return Err(self.wrong("expected a key"));
                }
                self.skip_string()?;
                self.expect(b':')?;
            }
            self.skip(depth + 1)?;
            if !self.take(b',') {
                return self.expect(close);
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            self.at = self.plain()?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Ok(());
            }
            self.escape()?;
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Wrong> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over `-0.5e+10` and the like.
    #[inline]
    fn number(&mut self) -> Result<(), Wrong> {
        self.at += usize::from(self.bytes[self.at] == b'-');
        let whole = self.digits()?;
        if whole > 1 && self.bytes[self.at - whole] == b'0' {
            return Err(self.wrong("a number that begins with 0"));
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Passes over digits, of which there has to be one, and counts them.
    #[inline]
    fn digits(&mut self) -> Result<usize, Wrong> {
        let count = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.wrong("a digit is missing"));
        }
        self.at += count;
        Ok(count)
    }
}
