//! Parses the JSON text of a reply while the model generates it. Detects repeated items of a list, so that the decoder
//! can end the list, and file contents, so that the model can write them between code fences.
//!
//! Small models often do not end a list. This module detects two kinds of repetition: an object with the same `path` as
//! an earlier object of its list that has `content` (the model writes a file again), and three equal objects in a row.
//! The sampler detects shorter cycles of tokens. A path that differs only in case is not a repetition: the caller can
//! report the conflict and name both files, whereas ending the list would also remove the files after it.

mod prose;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use prose::{is_prose_language, is_prose_path};

/// A position in a reply: after a number of complete tokens, and a number of bytes of the next token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReplyPosition {
    pub(crate) tokens: usize,
    pub(crate) bytes: usize,
}

/// An incremental parser of the JSON text that a model generates.
#[derive(Debug, Clone, Default)]
pub(crate) struct IncrementalJson {
    text: Vec<u8>,
    token_count: usize,
    /// The open objects and lists, innermost last.
    frames: Vec<JsonFrame>,
    open_string: Option<Vec<u8>>,
    /// The position of the opening quote, while a string is open and when it closes.
    open_quote: ReplyPosition,
    is_escaped: bool,
    /// The end of the last line of the open string that ends with `\n`.
    last_line_end: Option<ReplyPosition>,
    /// The token with the opening quote of a complete file content that is prose according to the `language` after it.
    prose_content_token: Option<usize>,
}

/// A file content that is still open: the string `content` of an object whose `path` precedes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenContent {
    /// The position of the opening quote.
    pub(crate) quote: ReplyPosition,
    /// The language in lower case: the object's `language` or the extension of its path; empty unless alphanumeric.
    pub(crate) language: String,
}

#[derive(Debug, Clone)]
enum JsonFrame {
    Object(ObjectFrame),
    List(ListFrame),
}

#[derive(Debug, Clone, Default)]
struct ObjectFrame {
    /// The offset of the opening brace in the text.
    start: usize,
    /// The last key, without quotes.
    key: Vec<u8>,
    /// Whether the parser is at the value of the last key.
    after_colon: bool,
    path: Option<String>,
    language: Option<String>,
    has_content: bool,
    /// The token with the opening quote of the content.
    content_token: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct ListFrame {
    /// The hash and the end of each complete object.
    objects: Vec<(u64, ReplyPosition)>,
    /// The paths of the objects that have `content`.
    paths: HashSet<String>,
}

/// Decodes a JSON string that is given without its quotes.
fn decode_string(string: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", string, b"\""].concat()).ok()
}

/// Removes empty parts and `.` from a path: `./a//b` becomes `a/b`.
fn normalize_path(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

impl IncrementalJson {
    /// Parses the next token. If it completes a repetition, returns the end of the last item before the repetition.
    pub(crate) fn push_token(&mut self, bytes: &[u8]) -> Option<ReplyPosition> {
        let mut repetition = None;
        for (index, byte) in bytes.iter().enumerate() {
            self.text.push(*byte);
            let position = match bytes.len() - index {
                1 => ReplyPosition { tokens: self.token_count + 1, bytes: 0 },
                _ => ReplyPosition { tokens: self.token_count, bytes: index + 1 },
            };
            if self.open_string.is_none() {
                self.open_quote = ReplyPosition { tokens: self.token_count, bytes: index };
            }
            repetition = repetition.or(self.push_byte(*byte, position));
        }
        self.token_count += 1;
        repetition
    }

    /// The number of tokens up to and including the token with the opening quote of the open string; `None` outside
    /// strings.
    pub(crate) fn string_start(&self) -> Option<usize> {
        self.open_string.as_ref().map(|_| self.open_quote.tokens + 1)
    }

    /// The end of the last complete line of the open string; `None` outside strings and in a string without a line end.
    pub(crate) fn last_line_end(&self) -> Option<ReplyPosition> {
        self.open_string.as_ref().and(self.last_line_end)
    }

    /// The open file content; `None` if none is open, or if it is prose, which may contain fences itself.
    pub(crate) fn open_content(&self) -> Option<OpenContent> {
        let Some(JsonFrame::Object(object)) = self.frames.last() else { return None };
        let path = object.path.as_ref().filter(|_| object.after_colon && object.key == b"content")?;
        self.open_string.as_ref()?;
        let language = object.language.as_deref();
        if is_prose_path(path) || language.is_some_and(is_prose_language) {
            return None;
        }
        let extension =
            path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
        let language = language.unwrap_or(extension).to_ascii_lowercase();
        let is_word = language.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some(OpenContent { quote: self.open_quote, language: if is_word { language } else { String::new() } })
    }

    /// Returns the token with the opening quote of a complete file content, if the `language` after the content shows
    /// that it is prose. Returns each token only once.
    pub(crate) fn take_prose_content_token(&mut self) -> Option<usize> {
        self.prose_content_token.take()
    }

    fn push_byte(&mut self, byte: u8, position: ReplyPosition) -> Option<ReplyPosition> {
        if let Some(string) = &mut self.open_string {
            match byte {
                _ if self.is_escaped => {
                    self.is_escaped = false;
                    if byte == b'n' {
                        self.last_line_end = Some(position);
                    }
                }
                b'\\' => self.is_escaped = true,
                b'"' => {
                    let string = self.open_string.take().unwrap_or_default();
                    return self.close_string(string);
                }
                _ => {}
            }
            string.push(byte);
            return None;
        }
        match byte {
            b'"' => (self.open_string, self.last_line_end) = (Some(Vec::new()), None),
            b'{' => self
                .frames
                .push(JsonFrame::Object(ObjectFrame { start: self.text.len() - 1, ..ObjectFrame::default() })),
            b'[' => self.frames.push(JsonFrame::List(ListFrame::default())),
            b'}' | b']' => {
                if let Some(JsonFrame::Object(object)) = self.frames.pop() {
                    return self.close_object(object, position);
                }
            }
            b':' | b',' => {
                if let Some(JsonFrame::Object(object)) = self.frames.last_mut() {
                    object.after_colon = byte == b':';
                }
            }
            _ => {}
        }
        None
    }

    fn close_string(&mut self, string: Vec<u8>) -> Option<ReplyPosition> {
        let (frame, outer_frames) = self.frames.split_last_mut()?;
        let JsonFrame::Object(object) = frame else { return None };
        if !object.after_colon {
            object.has_content |= string == b"content";
            object.key = string;
            return None;
        }
        match object.key.as_slice() {
            b"content" => object.content_token = Some(self.open_quote.tokens),
            b"language" => {
                object.language = decode_string(&string);
                if object.language.as_deref().is_some_and(is_prose_language) {
                    self.prose_content_token = object.content_token;
                }
            }
            b"path" => {
                let path = normalize_path(&decode_string(&string)?);
                let repetition = match outer_frames.last() {
                    Some(JsonFrame::List(list)) if list.paths.contains(&path) => {
                        list.objects.last().map(|(_, end)| *end)
                    }
                    _ => None,
                };
                object.path = Some(path);
                return repetition;
            }
            _ => {}
        }
        None
    }

    fn close_object(&mut self, object: ObjectFrame, position: ReplyPosition) -> Option<ReplyPosition> {
        let Some(JsonFrame::List(list)) = self.frames.last_mut() else { return None };
        let mut hasher = DefaultHasher::new();
        self.text.get(object.start..).hash(&mut hasher);
        let digest = hasher.finish();
        list.paths.extend(object.path.filter(|_| object.has_content));
        list.objects.push((digest, position));
        match list.objects.as_slice() {
            [.., (first, end), (second, _), (third, _)] if first == second && second == third => Some(*end),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of `text` before the repetition, if items repeat. Parses `text` in tokens of `token_len` bytes.
    fn before_repetition(text: &str, token_len: usize) -> Option<String> {
        let mut json = IncrementalJson::default();
        let tokens: Vec<&[u8]> = text.as_bytes().chunks(token_len).collect();
        let end = tokens.iter().find_map(|token| json.push_token(token))?;
        let bytes = end.tokens * token_len + end.bytes;
        Some(text[..bytes].to_owned())
    }

    #[test]
    fn a_list_ends_before_a_repeated_file() {
        let first = r#"{"files":[{"path":"a.py","content":"x \"}],"},{"path":"b.py","content":"y"}"#;
        for path in ["a.py", "./a.py", ".//b.py", r"b\u002epy"] {
            let text = format!(r#"{first},{{"path":"{path}","content":"z"}}]}}"#);
            for token_len in 1..9 {
                assert_eq!(before_repetition(&text, token_len).as_deref(), Some(first), "{path} {token_len}");
            }
        }
    }

    #[test]
    fn a_list_ends_after_the_first_of_three_equal_objects() {
        let text = r#"[{"n":[1,2]},{"n":3},{"n":3},{"n":3},{"n":4}]"#;
        for token_len in 1..7 {
            assert_eq!(before_repetition(text, token_len).as_deref(), Some(r#"[{"n":[1,2]},{"n":3}"#), "{token_len}");
        }
    }

    #[test]
    fn an_open_content_has_the_language_of_its_object_or_path() {
        let open_content = |text: &str, token_len: usize| {
            let mut json = IncrementalJson::default();
            for token in text.as_bytes().chunks(token_len) {
                let _ = json.push_token(token);
            }
            json.open_content()
                .map(|content| (content.quote.tokens * token_len + content.quote.bytes, content.language))
        };
        for token_len in 1..9 {
            for (prefix, language) in [
                (r#"{"files":[{"path":"src/a.PY","#, "py"),
                (r#"{"files":[{"path":"a.rs"},{"path":"b/c","language":"Rust","#, "rust"),
                (r#"{"path":"Makefile","#, ""),
                (r#"{"language":"C++ 20","path":"a.cc","#, ""),
            ] {
                for content in ["", "x", r#"x\" y"#] {
                    let text = format!(r#"{prefix}"content":"{content}"#);
                    let quote = text.len() - content.len() - 1;
                    let expected = Some((quote, language.to_owned()));
                    assert_eq!(open_content(&text, token_len), expected, "{text} {token_len}");
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
                assert_eq!(open_content(text, token_len), None, "{text} {token_len}");
            }
        }
    }

    #[test]
    fn lists_without_repetition_do_not_end() {
        for text in [
            r#"{"files":[{"path":"a","content":"x"},{"path":"b","content":"x"}]}"#,
            r#"{"issues":[{"path":"a","message":"x"},{"path":"a","message":"y"}]}"#,
            r#"{"a":[{"path":"a","content":"x"}],"b":[{"path":"a","content":"x"}]}"#,
            r#"[{"n":3},{"n":3},{"n":4},{"n":3}]"#,
            r#"["x","x","x","x",1,1,1,{},[],"path"]"#,
            r#"{"path":"a","content":"{\"path\":\"a\"}","path":"a"}"#,
            r#"{"files":[{"path":"Makefile","content":"x"},{"path":"makefile","content":"x"},{"path":"b","content":""}]}"#,
        ] {
            for token_len in 1..7 {
                assert_eq!(before_repetition(text, token_len), None, "{text} {token_len}");
            }
        }
    }
}
