//! Finds the comments and the strings of a YAML file.

use std::ops::Range;

use serde_json::Value;

use super::spans::Document;

impl Document {
    /// The comments of a YAML file that contain a word, each from its `#` to the end of its line, in order. `word` is in
    /// lower case; the case of ASCII letters in the comments does not count.
    pub fn comments_with(&self, word: &str) -> Vec<Range<usize>> {
        let text = &self.file.text;
        let contains_word = |text: &str| text.to_ascii_lowercase().contains(word);
        if !contains_word(text) {
            return Vec::new();
        }
        let scalars = self.scalar_ranges();
        let is_content = |offset: usize| scalars.iter().any(|range| range.contains(&offset));
        let mut comments = Vec::new();
        let mut line_start = 0;
        for line in text.split_inclusive('\n') {
            let begins_comment = |offset: &usize| {
                let before = line.get(..*offset).unwrap_or_default();
                (before.is_empty() || before.ends_with([' ', '\t'])) && !is_content(line_start + offset)
            };
            if let Some(offset) = line.match_indices('#').map(|(offset, _)| offset).find(begins_comment) {
                let comment = line.get(offset..).unwrap_or_default().trim_end();
                if contains_word(comment) {
                    let start = line_start + offset;
                    comments.push(start..start + comment.len());
                }
            }
            line_start += line.len();
        }
        comments
    }

    /// The ranges of the strings among the values, in order. The range of a block text begins below its `|` or `>`.
    pub fn string_ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = self.string_pointers().map(|pointer| self.spans.value(pointer)).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// The end of the last string whose key or value begins in `line`; the end of `line` if there is none.
    pub fn end_of_strings(&self, line: &Range<usize>) -> usize {
        let begins_in_line = |pointer: &&str| {
            [self.spans.key(pointer), self.spans.value(pointer)].iter().any(|range| line.contains(&range.start))
        };
        let ends = self.string_pointers().filter(begins_in_line).map(|pointer| self.spans.value(pointer).end);
        ends.fold(line.end, usize::max)
    }

    fn string_pointers(&self) -> impl Iterator<Item = &str> {
        self.spans.pointers().filter(|pointer| self.value.pointer(pointer).is_some_and(Value::is_string))
    }

    /// The ranges in which a `#` is content: keys and scalar values.
    fn scalar_ranges(&self) -> Vec<Range<usize>> {
        let is_scalar =
            |pointer: &&str| self.value.pointer(pointer).is_some_and(|value| !value.is_object() && !value.is_array());
        let values = self.spans.pointers().filter(is_scalar).map(|pointer| self.spans.value(pointer));
        values.chain(self.spans.key_ranges().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use crate::diagnostic::SourceFile;

    #[test]
    fn comments_are_found_and_text_that_looks_like_one_is_not() {
        let text = "# x 1\na: b # x 2\n\"# x\": '# x'\nc: |  # x 3\n  # x\n  d # x\n# x 4\ne: [f, # x 5\n  g#x]\nh: \"i\n  # x\"\n  # x 6";
        let document = parse(&SourceFile::new("p.yaml", text)).unwrap();
        let comments = document.comments_with("x");
        let found: Vec<&str> = comments.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["# x 1", "# x 2", "# x 3", "# x 4", "# x 5", "# x 6"]);
        assert!(document.comments_with("y").is_empty());
        let strings: Vec<&str> = document.string_ranges().into_iter().map(|range| &text[range]).collect();
        assert_eq!(strings, ["b", "'# x'", "# x\n  d # x", "f", "g#x", "\"i\n  # x\""]);
        let line = text.find("c: |").unwrap()..text.find("\n  # x\n  d").unwrap();
        assert_eq!(&text[line.start..document.end_of_strings(&line)], "c: |  # x 3\n  # x\n  d # x");
    }
}
