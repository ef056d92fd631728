//! The little CSV that the tests read: what `sluice sql --format csv` prints.

/// Rows of text, header included; RFC 4180 quotes.
pub fn parse(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

#[test]
fn quotes_and_newlines_are_read() {
    let rows = parse("a,b\r\n\"x,\"\"y\"\"\n\",\n1,2");
    assert_eq!(rows, [["a", "b"], ["x,\"y\"\n", ""], ["1", "2"]]);
}
