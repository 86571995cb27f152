//! Cuts a stream of JSON into its records without reading ahead and without holding more than one.
//!
//! A parser of the whole document would stop at its first bad record, and would hold a record of any size before it
//! could refuse it. This module looks at brackets and strings only; the text between them is parsed record by record.

use std::io::{BufRead as _, BufReader, ErrorKind, Read};

use crate::service::catalog::import::EndedEarly;

/// The form of a source of JSON, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An array, a wrapper of an array, or one object.
    Document,
    /// A record per line.
    Lines,
}

/// The bytes of one record, and its position in the source.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// The index of the record in the source, from 0.
    pub index: u64,
    /// The line that it starts on, from 1.
    pub line: u64,
    /// Its text, cut at the limit.
    pub raw: Vec<u8>,
    /// Whether it is larger than the limit.
    pub too_large: bool,
    /// Whether it is a last line without a line break. If it cannot be parsed, the source broke off.
    pub unterminated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Start(Option<Shape>),
    /// In an array. `first` is true until the first record; `bare` is true if the array is the whole document.
    Array {
        first: bool,
        bare: bool,
    },
    Lines,
    /// Objects that follow each other, over several lines each.
    Sequence,
    Done,
}

/// Why a record does not end.
enum Broken {
    /// The source ends or fails, and nothing can follow.
    Ended(EndedEarly),
    /// The text at the current position is not JSON.
    Malformed(&'static str),
}

/// The deepest nesting that is followed; serde_json allows 128 levels.
const MAX_NESTING: usize = 512;

/// The names of the arrays that wrap records of products and categories.
pub(in super::super) const CATALOG: &[&str] = &["products", "categories"];
/// The names of the arrays that wrap records of customers.
pub(in super::super) const CUSTOMERS: &[&str] = &["users", "customers"];
/// The names of the arrays that wrap records of carts.
pub(in super::super) const CARTS: &[&str] = &["carts"];

pub(super) struct Framer<R> {
    source: BufReader<R>,
    /// The names of members that wrap the records, if the source is an object.
    wrappers: &'static [&'static str],
    mode: Mode,
    limit: usize,
    index: u64,
    line: u64,
    offset: u64,
}

impl<R: Read> Framer<R> {
    pub fn new(source: R, wrappers: &'static [&'static str], format: Option<Shape>, limit: usize) -> Self {
        Self {
            source: BufReader::new(source),
            wrappers,
            mode: Mode::Start(format),
            limit,
            index: 0,
            line: 1,
            offset: 0,
        }
    }

    /// Returns the current position, with the reason to stop there.
    fn stop(&self, reason: impl Into<String>) -> EndedEarly {
        EndedEarly { reason: reason.into(), index: self.index, line: self.line, byte: self.offset }
    }

    /// Returns where the source broke off, after its last record could not be parsed.
    pub fn broke_off_at(&self, frame: &Frame) -> EndedEarly {
        let mut stop = self.stop(format!("the source ends within the record that starts on line {}", frame.line));
        stop.index = frame.index;
        stop
    }

    fn peek(&mut self) -> Result<Option<u8>, EndedEarly> {
        loop {
            match self.source.fill_buf() {
                Ok(b) => return Ok(b.first().copied()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.stop(super::unreadable(&e))),
            }
        }
    }

    fn bump(&mut self, byte: u8) {
        self.source.consume(1);
        self.offset += 1;
        if byte == b'\n' {
            self.line += 1;
        }
    }

    /// Skips white space and returns the next byte.
    fn skip_space(&mut self) -> Result<Option<u8>, EndedEarly> {
        while let Some(b) = self.peek()? {
            if !b.is_ascii_whitespace() {
                return Ok(Some(b));
            }
            self.bump(b);
        }
        Ok(None)
    }

    fn keep(&self, byte: u8, frame: &mut Frame) {
        if frame.raw.len() < self.limit {
            frame.raw.push(byte);
        } else {
            frame.too_large = true;
        }
    }

    fn frame(&self) -> Frame {
        Frame { index: self.index, line: self.line, raw: Vec::new(), too_large: false, unterminated: false }
    }

    /// Returns the next record, or `None` at the regular end.
    pub fn next(&mut self) -> Result<Option<Frame>, EndedEarly> {
        let found = match self.mode {
            Mode::Start(format) => self.start(format)?,
            Mode::Array { first, bare } => self.element(first, bare)?,
            Mode::Lines => self.text_line()?,
            Mode::Sequence => match self.skip_space()? {
                None => None,
                Some(_) => Some(self.whole_value()?),
            },
            Mode::Done => None,
        };
        match found {
            Some(frame) => {
                self.index += 1;
                Ok(Some(frame))
            }
            None => {
                self.mode = Mode::Done;
                Ok(None)
            }
        }
    }

    fn start(&mut self, format: Option<Shape>) -> Result<Option<Frame>, EndedEarly> {
        for bom in [0xef, 0xbb, 0xbf] {
            if self.peek()? == Some(bom) {
                self.source.consume(1);
                self.offset += 1;
            }
        }
        match (format, self.skip_space()?) {
            (_, None) => Ok(None),
            (Some(Shape::Lines), Some(_)) => {
                self.mode = Mode::Lines;
                self.text_line()
            }
            (_, Some(b'[')) => {
                self.bump(b'[');
                self.mode = Mode::Array { first: true, bare: true };
                self.element(true, true)
            }
            (_, Some(b'{')) => self.first_object(format.is_none()),
            (_, Some(_)) => {
                let shapes = "neither JSON (an array, an object, or one object per line) nor CSV with a known header";
                Err(self.stop(format!("the source is {shapes}")))
            }
        }
    }

    fn element(&mut self, first: bool, bare: bool) -> Result<Option<Frame>, EndedEarly> {
        let mut next = self.skip_space()?;
        if !first && next == Some(b',') {
            self.bump(b',');
            next = self.skip_space()?;
            if next == Some(b']') {
                return Err(self.stop("malformed JSON: a record is expected after the comma"));
            }
        } else if !first && next.is_some_and(|b| b != b']') {
            return Err(self.stop("malformed JSON: a comma or the end of the array is expected"));
        }
        match next {
            None => Err(self.stop("the source ends before the end of its array")),
            Some(b']') => {
                self.bump(b']');
                self.mode = Mode::Done;
                if bare && self.skip_space()?.is_some() {
                    return Err(self.stop("malformed JSON: something follows the end of the array"));
                }
                Ok(None)
            }
            Some(_) => {
                self.mode = Mode::Array { first: false, bare };
                self.whole_value().map(Some)
            }
        }
    }

    fn text_line(&mut self) -> Result<Option<Frame>, EndedEarly> {
        if self.skip_space()?.is_none() {
            return Ok(None);
        }
        let mut frame = self.frame();
        self.rest_of_line(&mut frame)?;
        Ok(Some(frame))
    }

    fn rest_of_line(&mut self, frame: &mut Frame) -> Result<(), EndedEarly> {
        loop {
            match self.peek()? {
                None => {
                    frame.unterminated = true;
                    return Ok(());
                }
                Some(b'\n') => {
                    self.bump(b'\n');
                    return Ok(());
                }
                Some(b) => {
                    self.bump(b);
                    self.keep(b, frame);
                }
            }
        }
    }

    fn whole_value(&mut self) -> Result<Frame, EndedEarly> {
        let mut frame = self.frame();
        match self.value(&mut frame, Vec::new()) {
            Ok(()) => Ok(frame),
            Err(e) => Err(self.why(e, frame.line)),
        }
    }

    fn why(&self, broken: Broken, record_line: u64) -> EndedEarly {
        match broken {
            Broken::Ended(e) => e,
            Broken::Malformed(why) => {
                self.stop(format!("malformed JSON in the record that starts on line {record_line}: {why}"))
            }
        }
    }

    fn broke_off(&self, frame: &Frame) -> Broken {
        Broken::Ended(self.stop(format!("the source ends within the record that starts on line {}", frame.line)))
    }

    /// Reads one value, by its brackets and strings. `open` are the closing brackets that are already expected.
    fn value(&mut self, frame: &mut Frame, mut open: Vec<u8>) -> Result<(), Broken> {
        let mut started = !open.is_empty();
        loop {
            let Some(b) = self.peek().map_err(Broken::Ended)? else {
                return if open.is_empty() && started { Ok(()) } else { Err(self.broke_off(frame)) };
            };
            // A number or a word ends at the next delimiter.
            if open.is_empty() && started && (b.is_ascii_whitespace() || matches!(b, b',' | b']' | b'}')) {
                return Ok(());
            }
            started = true;
            match b {
                b'"' => {
                    self.string(frame)?;
                    if open.is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                b'{' | b'[' if open.len() >= MAX_NESTING => return Err(Broken::Malformed("it is nested too deeply")),
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                b'}' | b']' => {
                    if open.pop() != Some(b) {
                        return Err(Broken::Malformed("a bracket does not match"));
                    }
                    self.bump(b);
                    self.keep(b, frame);
                    if open.is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                _ => {}
            }
            self.bump(b);
            self.keep(b, frame);
        }
    }

    /// Reads a string with its quotes.
    fn string(&mut self, frame: &mut Frame) -> Result<(), Broken> {
        let mut escaped = false;
        let mut first = true;
        loop {
            let Some(b) = self.peek().map_err(Broken::Ended)? else {
                return Err(self.broke_off(frame));
            };
            if b == b'\n' {
                return Err(Broken::Malformed("a line ends within a string"));
            }
            self.bump(b);
            self.keep(b, frame);
            match b {
                b'\\' if !escaped => escaped = true,
                b'"' if !escaped && !first => return Ok(()),
                _ => escaped = false,
            }
            first = false;
        }
    }

    /// Reads an object at the start of the document: the only record, the first of several, or the wrapper of the
    /// array. With `guess`, lines that are not JSON are taken for bad lines of NDJSON.
    fn first_object(&mut self, guess: bool) -> Result<Option<Frame>, EndedEarly> {
        let mut frame = self.frame();
        match self.members(&mut frame) {
            Ok(true) => self.element(true, false),
            Ok(false) => {
                let one_line = !frame.raw.contains(&b'\n');
                self.mode = if one_line { Mode::Lines } else { Mode::Sequence };
                Ok(Some(frame))
            }
            Err(Broken::Malformed(_)) if guess && !frame.raw.contains(&b'\n') => {
                self.rest_of_line(&mut frame)?;
                self.mode = Mode::Lines;
                Ok(Some(frame))
            }
            // The line before ended too early, and the next record begins.
            Err(Broken::Malformed(_)) if guess && frame.raw.ends_with(b"\n") && self.peek()? == Some(b'{') => {
                self.mode = Mode::Lines;
                Ok(Some(frame))
            }
            Err(e) => Err(self.why(e, frame.line)),
        }
    }

    /// Reads the members of the object that starts here. Returns true after the start of the array of records, if one
    /// of the members is that array.
    fn members(&mut self, frame: &mut Frame) -> Result<bool, Broken> {
        self.bump(b'{');
        self.keep(b'{', frame);
        let mut first = true;
        loop {
            match self.space_into(frame)? {
                b'}' => {
                    self.bump(b'}');
                    self.keep(b'}', frame);
                    return Ok(false);
                }
                b',' if !first => {
                    self.bump(b',');
                    self.keep(b',', frame);
                    if self.space_into(frame)? != b'"' {
                        return Err(Broken::Malformed("a name is expected"));
                    }
                }
                b'"' if first => {}
                _ => return Err(Broken::Malformed("a comma or the end of the object is expected")),
            }
            first = false;
            let start = frame.raw.len();
            self.string(frame)?;
            let name = frame.raw.get(start + 1..frame.raw.len().saturating_sub(1)).unwrap_or_default();
            let wraps = self.wrappers.iter().any(|w| w.as_bytes() == name);
            let categories = name == b"categories";
            if self.space_into(frame)? != b':' {
                return Err(Broken::Malformed("a colon is expected"));
            }
            self.bump(b':');
            self.keep(b':', frame);
            if self.space_into(frame)? == b'[' && wraps {
                self.bump(b'[');
                self.keep(b'[', frame);
                let next = self.space_into(frame)?;
                // The `categories` of a product contain texts, those of a wrapper contain objects.
                if next == b'{' || (!categories && next == b']') {
                    self.mode = Mode::Array { first: true, bare: false };
                    return Ok(true);
                }
                self.value(frame, vec![b']'])?;
            } else {
                self.value(frame, Vec::new())?;
            }
        }
    }

    fn space_into(&mut self, frame: &mut Frame) -> Result<u8, Broken> {
        loop {
            match self.peek().map_err(Broken::Ended)? {
                None => return Err(self.broke_off(frame)),
                Some(b) if b.is_ascii_whitespace() => {
                    self.bump(b);
                    self.keep(b, frame);
                }
                Some(b) => return Ok(b),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn frames(text: &[u8], limit: usize) -> (Vec<Vec<u8>>, Option<EndedEarly>) {
        let mut framer = Framer::new(text, CATALOG, None, limit);
        let mut found = Vec::new();
        loop {
            match framer.next() {
                Ok(Some(frame)) => {
                    assert_eq!(frame.index, found.len() as u64);
                    assert!(frame.raw.len() <= limit);
                    found.push(frame.raw);
                }
                Ok(None) => return (found, None),
                Err(stop) => return (found, Some(stop)),
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[\\]}{\\[,:\"\\\\ \n]{0,6}", ".{0,4}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from)
        ];
        let tree = leaf.prop_recursive(3, 12, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4).prop_map(|m| json!(m)),
            ]
        });
        prop::collection::btree_map("[a-z]{1,3}", tree, 0..4).prop_map(|m| json!(m))
    }

    proptest! {
        #[test]
        fn records_are_cut_where_a_parser_cuts_them(
            records in prop::collection::vec(value(), 0..5),
            pretty: bool,
            shape in 0..3,
            cut in 0.0..1.0,
        ) {
            let print = |v: &Value| if pretty { serde_json::to_string_pretty(v) } else { serde_json::to_string(v) }.unwrap();
            let text = match shape {
                0 => print(&json!(records)),
                1 => print(&json!({"total": [[1]], "products": records})),
                _ => records.iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect(),
            };
            let (found, ended) = frames(text.as_bytes(), 1 << 20);
            prop_assert_eq!(ended, None);
            let found: Vec<Value> = found.iter().map(|f| serde_json::from_slice(f).unwrap()).collect();
            prop_assert_eq!(&found, &records);

            // If the source is cut anywhere, exactly the records before the cut are found.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
            let at = (text.len() as f64 * cut) as usize;
            let (mut part, ended) = frames(&text.as_bytes()[..at], 1 << 20);
            if shape == 2 && part.last().is_some_and(|l| serde_json::from_slice::<Value>(l).is_err()) {
                part.pop();
            } else if shape < 2 && at > 0 {
                prop_assert!(ended.is_some() || at + 2 > text.trim_end().len() || part.len() == records.len());
            }
            let part: Vec<Value> = part.iter().map(|f| serde_json::from_slice(f).unwrap()).collect();
            prop_assert_eq!(&part[..], &records[..part.len()]);
        }

        #[test]
        fn no_text_is_too_strange(text in "[\\]}{\\[,:\"\\\\ \n1a]{0,40}", limit in 1_usize..50) {
            frames(text.as_bytes(), limit);
        }
    }
}
