//! Converts a page in HTML to text in the style of Markdown, in one pass and in linear time.
//!
//! This is not a parser of HTML: it reads tags one after another and builds no tree, so a malformed page can't make it
//! fail or use much memory.

mod entities;
mod writer;

use entities::decode_entities;
use writer::TextWriter;

/// Elements whose contents are not shown.
const HIDDEN_ELEMENTS: &[&str] = &["script", "style", "template", "svg", "iframe", "noscript", "object"];
/// Elements that begin and end on lines of their own.
const LINE_ELEMENTS: &[&str] = &[
    "address",
    "article",
    "aside",
    "body",
    "dd",
    "details",
    "div",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "html",
    "head",
    "main",
    "nav",
    "option",
    "section",
    "summary",
    "tbody",
    "tfoot",
    "thead",
    "title",
    "tr",
];
/// Elements with an empty line before and after them.
const PARAGRAPH_ELEMENTS: &[&str] =
    &["blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "p", "pre", "table", "ul"];

/// A tag of a page.
#[derive(Debug, PartialEq, Eq)]
struct HtmlTag<'a> {
    /// The name in lower case.
    name: String,
    is_end: bool,
    /// The text of the attributes.
    attributes: &'a str,
}

/// Converts a page to text.
pub(super) fn html_to_text(html: &str) -> String {
    let mut converter = HtmlConverter { writer: TextWriter::default(), links: Vec::new(), is_first_cell: true };
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let (text, markup) = rest.split_at(start);
        converter.writer.push_text(&decode_entities(text));
        rest = match read_markup(markup) {
            Markup::Tag(tag, after) => converter.apply(&tag, after),
            Markup::Skipped(after) => after,
            Markup::Text(after) => {
                converter.writer.push_text("<");
                after
            }
        };
    }
    converter.writer.push_text(&decode_entities(rest));
    converter.writer.finish()
}

/// What begins at a `<`, and the text after it.
enum Markup<'a> {
    Tag(HtmlTag<'a>, &'a str),
    /// A comment or a declaration, or a tag that does not end.
    Skipped(&'a str),
    /// A `<` that begins no tag.
    Text(&'a str),
}

fn read_markup(markup: &str) -> Markup<'_> {
    let after_bracket = markup.get(1..).unwrap_or_default();
    if let Some(comment) = after_bracket.strip_prefix("!--") {
        return Markup::Skipped(comment.split_once("-->").map_or("", |(_, after)| after));
    }
    let (is_end, name_start) = match after_bracket.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (false, after_bracket),
    };
    match name_start.chars().next() {
        Some(c) if c.is_ascii_alphabetic() => {}
        Some('!' | '?') => return Markup::Skipped(after_bracket.split_once('>').map_or("", |(_, after)| after)),
        _ => return Markup::Text(after_bracket),
    }
    let Some(end) = tag_end(name_start) else { return Markup::Skipped("") };
    let (tag, after) = (name_start.get(..end).unwrap_or_default(), name_start.get(end + 1..).unwrap_or_default());
    let name_end = tag.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(tag.len());
    let (name, attributes) = tag.split_at(name_end);
    Markup::Tag(HtmlTag { name: name.to_ascii_lowercase(), is_end, attributes }, after)
}

/// The position of the `>` that ends a tag. The value of an attribute in quotes may contain `>`.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_value = false;
    for (index, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(index),
            (None, b'"' | b'\'') if is_value => quote = Some(byte),
            (None, _) => is_value = byte == b'=' || (is_value && byte.is_ascii_whitespace()),
        }
    }
    None
}

struct HtmlConverter<'a> {
    writer: TextWriter,
    /// The addresses of the open links; `None` for a link that is not shown.
    links: Vec<Option<&'a str>>,
    /// Whether the next cell is the first one of its row.
    is_first_cell: bool,
}

impl<'a> HtmlConverter<'a> {
    /// Writes what a tag stands for. Returns the text to continue with.
    fn apply(&mut self, tag: &HtmlTag<'a>, after: &'a str) -> &'a str {
        let name = tag.name.as_str();
        if !tag.is_end && HIDDEN_ELEMENTS.contains(&name) && !tag.attributes.ends_with('/') {
            return after_end_tag(after, name);
        }
        if PARAGRAPH_ELEMENTS.contains(&name) {
            self.writer.break_lines(2);
        } else if LINE_ELEMENTS.contains(&name) {
            self.writer.break_lines(1);
        }
        match (name, tag.is_end) {
            ("br", _) => self.writer.break_lines(1),
            ("hr", false) => {
                self.writer.push_text("---");
                self.writer.break_lines(2);
            }
            ("h1" | "h2" | "h3" | "h4" | "h5" | "h6", false) => {
                let level = name.bytes().next_back().map_or(1, |digit| usize::from(digit - b'0'));
                self.writer.push_text(&format!("{} ", "#".repeat(level)));
            }
            ("ul" | "ol", is_end) => self.writer.change_list_depth(is_end),
            ("li", false) => self.writer.begin_item(),
            ("pre", false) => self.writer.begin_code_block(),
            ("pre", true) => self.writer.end_code_block(),
            ("code" | "kbd" | "samp", _) => self.writer.push_inline_mark("`"),
            ("tr", _) => self.is_first_cell = true,
            ("td" | "th", false) if !std::mem::take(&mut self.is_first_cell) => self.writer.push_text(" | "),
            ("img", false) => {
                if let Some(alt) = attribute(tag.attributes, "alt").filter(|alt| !alt.trim().is_empty()) {
                    self.writer.push_text(&format!("[image: {}]", decode_entities(alt.trim())));
                }
            }
            ("a", false) => {
                let is_shown = |href: &&str| !href.starts_with(['#', ' ']) && !href.starts_with("javascript:");
                let href = attribute(tag.attributes, "href").filter(|href| !href.is_empty()).filter(is_shown);
                if href.is_some() {
                    self.writer.push_inline_mark("[");
                }
                self.links.push(href);
            }
            ("a", true) => {
                if let Some(Some(href)) = self.links.pop() {
                    self.writer.push_inline_mark(&format!("]({})", decode_entities(href)));
                }
            }
            _ => {}
        }
        after
    }
}

/// The text after the end tag of an element whose contents are not shown.
fn after_end_tag<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("</") {
        let is_end = after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        if is_end {
            return after.split_once('>').map_or("", |(_, after)| after);
        }
        rest = after;
    }
    ""
}

/// The value of an attribute.
fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = attributes.trim_start();
    while !rest.is_empty() {
        let name_end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(rest.len());
        let (found, after) = rest.split_at(name_end);
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=') else {
            // An attribute without a value.
            rest = after;
            continue;
        };
        let value = value.trim_start();
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let value = value.get(1..).unwrap_or_default();
                value.split_once(quote).unwrap_or((value, ""))
            }
            _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after.trim_start();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_text_with_headings_lists_tables_and_links() {
        let html = "<!doctype html><html><head><title>The page</title><style>p > a { color: red }</style></head>
            <body><!-- <p>hidden --><h1>Heading  <em>one</em></h1><p>First&nbsp;line<br>second &lt;line&gt;
            <a href=\"/x?a=1&amp;b=2\" title='a > b'>a link</a> and <a href=\"#top\">top</a></p>
            <ul><li>one<li>two<ul><li>deep</ul></ul><script>if (a < b) { \"</p>\" }</script>
            <table><tr><th>A<th>B<tr><td>1<td>2</table><p>end <code>x</code> <img alt='a cat' src=x></body></html>";
        let expected = "The page\n\n# Heading one\n\nFirst line\nsecond <line> [a link](/x?a=1&b=2) and top\n\n\
            - one\n- two\n\n  - deep\n\nA | B\n1 | 2\n\nend `x` [image: a cat]\n";
        assert_eq!(html_to_text(html), expected);
    }

    #[test]
    fn preformatted_text_keeps_its_lines() {
        let html = "<p>Run:</p><pre><code>fn main() {\n    let a = 1 &lt; 2;\n}\n</code></pre><p>Done";
        assert_eq!(html_to_text(html), "Run:\n\n```\nfn main() {\n    let a = 1 < 2;\n}\n```\n\nDone\n");
    }

    #[test]
    fn malformed_markup_is_never_an_error_and_takes_linear_time() {
        for (html, expected) in [
            ("1 < 2 && 3 > 2", "1 < 2 && 3 > 2\n"),
            ("a <b", "a\n"),
            ("a <!-- b", "a\n"),
            ("a<script>b", "a\n"),
            ("<", "<\n"),
            ("</", "</\n"),
            ("a</>b", "a</>b\n"),
            ("&unknown; &#x41; &#0; &", "&unknown; A \u{fffd} &\n"),
            ("", ""),
        ] {
            assert_eq!(html_to_text(html), expected, "{html}");
        }
        let pieces =
            ["<a href='", "<", "<!--", "<script>", "</script", "&", "&#", "<p a=\"", "<ul><li>", "<pre>", "</a>"];
        for piece in pieces {
            html_to_text(&piece.repeat(100_000));
        }
    }

    #[test]
    fn attributes_are_found_with_any_quotes() {
        let attributes = " disabled data-href=no HREF = 'x y' alt=z/";
        assert_eq!(attribute(attributes, "href"), Some("x y"));
        assert_eq!(attribute(attributes, "alt"), Some("z/"));
        assert_eq!(attribute(attributes, "src"), None);
        assert_eq!(attribute(" href=\"a", "href"), Some("a"));
    }
}
