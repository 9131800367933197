//! Notices when the items of a list in a JSON text repeat, so that the list can be ended there.
//!
//! Small models fill lists until something stops them. Two kinds of repetition are detected here: an object with the
//! same `path` as an earlier one of its list that also had `content` (a file that is written again), and three equal
//! objects in a row. [`repeats`](crate::sampler::repeats) detects shorter cycles of tokens.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A position in a reply: a number of whole tokens, then a number of bytes of the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReplyPosition {
    pub(crate) tokens: usize,
    pub(crate) bytes: usize,
}

/// Parses a JSON text while it is being generated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Items {
    text: Vec<u8>,
    tokens: usize,
    open: Vec<ItemsFrame>,
    string: Option<Vec<u8>>,
    /// Where the opening quote of the string is.
    quote: ReplyPosition,
    escaped: bool,
    line_end: Option<ReplyPosition>,
}

/// An open string that holds the text of a file: the `content` beside a `path`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenFile {
    /// Where its opening quote is.
    pub(crate) quote: ReplyPosition,
    /// Its language in lower case: the entry's `language`, or else the extension of its path; empty if that is not a
    /// plain word.
    pub(crate) language: String,
}

/// Extensions and languages of files in which a line of three backquotes may be text.
const PROSE: [&str; 7] = ["md", "mdx", "markdown", "rst", "adoc", "txt", "qmd"];

#[derive(Debug, Clone)]
enum ItemsFrame {
    Object(Object),
    List(List),
}

#[derive(Debug, Clone, Default)]
struct Object {
    start: usize,
    key: Vec<u8>,
    after_colon: bool,
    path: Option<Vec<u8>>,
    language: Option<Vec<u8>>,
    has_content: bool,
}

#[derive(Debug, Clone, Default)]
struct List {
    /// The objects so far: a hash of each, and where it ends.
    ends: Vec<(u64, ReplyPosition)>,
    /// The paths of those that have content.
    paths: HashSet<Vec<u8>>,
}

impl Items {
    /// Reads one more token. If it shows that items repeat, returns the end of the last item before they do.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<ReplyPosition> {
        let mut found = None;
        for (place, byte) in bytes.iter().enumerate() {
            self.text.push(*byte);
            let here = match bytes.len() - place {
                1 => ReplyPosition { tokens: self.tokens + 1, bytes: 0 },
                _ => ReplyPosition { tokens: self.tokens, bytes: place + 1 },
            };
            if self.string.is_none() {
                self.quote = ReplyPosition { tokens: self.tokens, bytes: place };
            }
            found = found.or(self.byte(*byte, here));
        }
        self.tokens += 1;
        found
    }

    /// Where the last complete line of the open string ends. `None` outside strings, and in a string without a line
    /// end.
    pub(crate) fn line_end(&self) -> Option<ReplyPosition> {
        self.string.as_ref().and(self.line_end)
    }

    /// The open string, if it is the text of a file whose path is known. Files whose text may hold fences are left out.
    pub(crate) fn open_file(&self) -> Option<OpenFile> {
        let Some(ItemsFrame::Object(object)) = self.open.last() else { return None };
        let path = object.path.as_ref().filter(|_| object.after_colon && object.key == b"content")?;
        self.string.as_ref()?;
        let path = std::str::from_utf8(path).ok()?;
        let end = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, end)| end);
        let named = object.language.as_ref().and_then(|language| std::str::from_utf8(language).ok());
        let language = named.unwrap_or(end).to_ascii_lowercase();
        let is_word = !language.is_empty() && language.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let language = if is_word { language } else { String::new() };
        let is_prose = [end, &language].iter().any(|word| PROSE.contains(word));
        (!is_prose).then_some(OpenFile { quote: self.quote, language })
    }

    fn byte(&mut self, byte: u8, here: ReplyPosition) -> Option<ReplyPosition> {
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
            b'{' => self.open.push(ItemsFrame::Object(Object { start: self.text.len() - 1, ..Object::default() })),
            b'[' => self.open.push(ItemsFrame::List(List::default())),
            b'}' | b']' => {
                if let Some(ItemsFrame::Object(object)) = self.open.pop() {
                    return self.ended_object(object, here);
                }
            }
            b':' | b',' => {
                if let Some(ItemsFrame::Object(object)) = self.open.last_mut() {
                    object.after_colon = byte == b':';
                }
            }
            _ => {}
        }
        None
    }

    fn ended_string(&mut self, string: Vec<u8>) -> Option<ReplyPosition> {
        let (last, rest) = self.open.split_last_mut()?;
        let ItemsFrame::Object(object) = last else { return None };
        if !object.after_colon {
            object.has_content |= string == b"content";
            object.key = string;
            return None;
        }
        if object.key == b"language" {
            object.language = Some(string);
            return None;
        }
        if object.key != b"path" {
            return None;
        }
        let path = string.strip_prefix(b"./").unwrap_or(&string).to_ascii_lowercase();
        let mark = match rest.last() {
            Some(ItemsFrame::List(list)) if list.paths.contains(&path) => list.ends.last().map(|(_, mark)| *mark),
            _ => None,
        };
        object.path = Some(path);
        mark
    }

    fn ended_object(&mut self, object: Object, here: ReplyPosition) -> Option<ReplyPosition> {
        let Some(ItemsFrame::List(list)) = self.open.last_mut() else { return None };
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

    /// The text that remains if items repeat when `text` is read in tokens of `size` bytes.
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
    fn the_text_of_a_file_is_told_by_its_path_and_language() {
        let open = |text: &str, size: usize| {
            let mut items = Items::default();
            for token in text.as_bytes().chunks(size) {
                let _ = items.read(token);
            }
            items.open_file().map(|file| (file.quote.tokens * size + file.quote.bytes, file.language))
        };
        for size in 1..9 {
            for (before, language) in [
                (r#"{"files":[{"path":"src/a.PY","#, "py"),
                (r#"{"files":[{"path":"a.rs"},{"path":"b/c","language":"Rust","#, "rust"),
                (r#"{"path":"Makefile","#, ""),
                (r#"{"language":"C++ 20","path":"a.cc","#, ""),
            ] {
                for begun in ["", "x", r#"x\" y"#] {
                    let text = format!(r#"{before}"content":"{begun}"#);
                    let quote = text.len() - begun.len() - 1;
                    assert_eq!(open(&text, size), Some((quote, language.to_owned())), "{text} {size}");
                }
            }
            for text in [
                r#"{"path":"README.md","content":""#,
                r#"{"path":"a","language":"Markdown","content":""#,
                r#"{"path":"a.py","content":"x""#,
                r#"{"path":"a.py","content""#,
                r#"{"path":"a.py","notes":""#,
                r#"{"path":"a.py","content":[""#,
                r#"{"content":""#,
                r#"["path","content",""#,
            ] {
                assert_eq!(open(text, size), None, "{text} {size}");
            }
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
