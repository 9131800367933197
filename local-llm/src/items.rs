//! Notices when the items of a list in a JSON text repeat, so that the list can be ended there.
//!
//! Small models fill lists until something stops them. Two ways of repeating are told here: an object that has the same
//! `path` as an earlier one of its list that had `content` too (a file that is written again), and three equal objects in
//! a row. A shorter circle of tokens is told by [`repeats`](crate::sampler::repeats).

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A place in a reply: so many whole tokens, then so many bytes of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) tokens: usize,
    pub(crate) bytes: usize,
}

/// Reads a JSON text as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Items {
    text: Vec<u8>,
    tokens: usize,
    open: Vec<Frame>,
    string: Option<Vec<u8>>,
    escaped: bool,
    line_end: Option<Mark>,
}

#[derive(Debug, Clone)]
enum Frame {
    Object(Object),
    List(List),
}

#[derive(Debug, Clone, Default)]
struct Object {
    start: usize,
    key: Vec<u8>,
    after_colon: bool,
    path: Option<Vec<u8>>,
    has_content: bool,
}

#[derive(Debug, Clone, Default)]
struct List {
    /// The objects so far: what they are, and where they end.
    ends: Vec<(u64, Mark)>,
    /// The paths of those with content.
    paths: HashSet<Vec<u8>>,
}

impl Items {
    /// Reads one token more. When it shows that items repeat: the end of the last item before they do.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Mark> {
        let mut found = None;
        for (place, byte) in bytes.iter().enumerate() {
            self.text.push(*byte);
            let here = match bytes.len() - place {
                1 => Mark { tokens: self.tokens + 1, bytes: 0 },
                _ => Mark { tokens: self.tokens, bytes: place + 1 },
            };
            found = found.or(self.byte(*byte, here));
        }
        self.tokens += 1;
        found
    }

    /// Where the last whole line of the open string ends. `None` outside of strings, and when the string has one line.
    pub(crate) fn line_end(&self) -> Option<Mark> {
        self.string.as_ref().and(self.line_end)
    }

    /// Whether the text of a file is open that can't end here: in the middle of a quoted text, or right after a bracket or
    /// a comma. Small models forget to escape a quote there.
    pub(crate) fn is_amid_code(&self) -> bool {
        let is_content =
            matches!(self.open.last(), Some(Frame::Object(object)) if object.after_colon && object.key == b"content");
        let Some(text) = self.string.as_ref().filter(|_| is_content && !self.escaped) else { return false };
        let line = text.windows(2).rposition(|pair| pair == b"\\n").map_or(0, |at| at + 2);
        let quotes = text[line..].windows(2).filter(|pair| *pair == b"\\\"").count();
        quotes % 2 == 1 || text.last().is_some_and(|last| b"([{,".contains(last))
    }

    fn byte(&mut self, byte: u8, here: Mark) -> Option<Mark> {
        if let Some(string) = &mut self.string {
            match byte {
                _ if self.escaped => {
                    self.escaped = false;
                    if byte == b'n' {
                        self.line_end = Some(here);
                    }
                }
                b'\\' => self.escaped = true,
                b'"' => {
                    let string = self.string.take().unwrap_or_default();
                    return self.ended_string(string);
                }
                _ => {}
            }
            string.push(byte);
            return None;
        }
        match byte {
            b'"' => (self.string, self.line_end) = (Some(Vec::new()), None),
            b'{' => self.open.push(Frame::Object(Object { start: self.text.len() - 1, ..Object::default() })),
            b'[' => self.open.push(Frame::List(List::default())),
            b'}' | b']' => {
                if let Some(Frame::Object(object)) = self.open.pop() {
                    return self.ended_object(object, here);
                }
            }
            b':' | b',' => {
                if let Some(Frame::Object(object)) = self.open.last_mut() {
                    object.after_colon = byte == b':';
                }
            }
            _ => {}
        }
        None
    }

    fn ended_string(&mut self, string: Vec<u8>) -> Option<Mark> {
        let (last, rest) = self.open.split_last_mut()?;
        let Frame::Object(object) = last else { return None };
        if !object.after_colon {
            object.has_content |= string == b"content";
            object.key = string;
            return None;
        }
        if object.key != b"path" {
            return None;
        }
        let path = string.strip_prefix(b"./").unwrap_or(&string).to_ascii_lowercase();
        let mark = match rest.last() {
            Some(Frame::List(list)) if list.paths.contains(&path) => list.ends.last().map(|(_, mark)| *mark),
            _ => None,
        };
        object.path = Some(path);
        mark
    }

    fn ended_object(&mut self, object: Object, here: Mark) -> Option<Mark> {
        let Some(Frame::List(list)) = self.open.last_mut() else { return None };
        let mut hasher = DefaultHasher::new();
        self.text.get(object.start..).hash(&mut hasher);
        let digest = hasher.finish();
        list.paths.extend(object.path.filter(|_| object.has_content));
        list.ends.push((digest, here));
        match list.ends.as_slice() {
            [.., (one, mark), (two, _), (three, _)] if one == two && two == three => Some(*mark),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told when a text is read in tokens of so many bytes: the text that is left.
    fn left(text: &str, size: usize) -> Option<String> {
        let mut items = Items::default();
        let tokens: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let mark = tokens.iter().find_map(|token| items.read(token))?;
        let bytes = mark.tokens * size + mark.bytes;
        Some(text[..bytes].to_owned())
    }

    #[test]
    fn a_file_that_is_written_again_ends_the_list_before_it() {
        let first = r#"{"files":[{"path":"a.py","content":"x \"}],"},{"path":"b.py","content":"y"}"#;
        for again in ["a.py", "./A.py", "b.py"] {
            let text = format!(r#"{first},{{"path":"{again}","content":"z"}}]}}"#);
            for size in 1..9 {
                assert_eq!(left(&text, size).as_deref(), Some(first), "{again} {size}");
            }
        }
    }

    #[test]
    fn three_equal_objects_in_a_row_are_one() {
        let text = r#"[{"n":[1,2]},{"n":3},{"n":3},{"n":3},{"n":4}]"#;
        for size in 1..7 {
            assert_eq!(left(text, size).as_deref(), Some(r#"[{"n":[1,2]},{"n":3}"#), "{size}");
        }
    }

    #[test]
    fn the_text_of_a_file_does_not_end_amid_code() {
        let amid = |text: &str| {
            let mut items = Items::default();
            let _ = items.read(text.as_bytes());
            items.is_amid_code()
        };
        for code in [r"print(", r"a = [1,", r#"print(\"{}"#, r#"x = \"\"\"Doc"#, r#"f(\"a\", \"b"#] {
            assert!(amid(&format!(r#"{{"files":[{{"content":"{code}"#)), "{code}");
        }
        for code in [r"x = 1", r"print()\n", r#"print(\"{}\")"#, r#"\"\"\"Doc\n"#, r"a\", ""] {
            assert!(!amid(&format!(r#"{{"files":[{{"content":"{code}"#)), "{code}");
        }
        for text in [r#"{"summary":"say ("#, r#"{"content":"f(","notes":["#, r#"{"content"#, r#"["content","f("#] {
            assert!(!amid(text), "{text}");
        }
    }

    #[test]
    fn other_lists_are_left_alone() {
        for text in [
            r#"{"files":[{"path":"a","content":"x"},{"path":"b","content":"x"}]}"#,
            r#"{"issues":[{"path":"a","message":"x"},{"path":"a","message":"y"}]}"#,
            r#"{"a":[{"path":"a","content":"x"}],"b":[{"path":"a","content":"x"}]}"#,
            r#"[{"n":3},{"n":3},{"n":4},{"n":3}]"#,
            r#"["x","x","x","x",1,1,1,{},[],"path"]"#,
            r#"{"path":"a","content":"{\"path\":\"a\"}","path":"a"}"#,
        ] {
            for size in 1..7 {
                assert_eq!(left(text, size), None, "{text} {size}");
            }
        }
    }
}
