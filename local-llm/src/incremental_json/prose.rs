//! Recognizes prose: files that may contain a code fence of three backticks, such as Markdown, other markup for
//! documents, and plain text.

/// Markup languages: extensions of their files, and words in their names.
const MARKUP: [&str; 22] = [
    "md",
    "mdx",
    "mdc",
    "mdown",
    "mkd",
    "mkdn",
    "markdown",
    "gfm",
    "rmd",
    "qmd",
    "livemd",
    "rst",
    "rest",
    "restructuredtext",
    "adoc",
    "asciidoc",
    "asciidoctor",
    "org",
    "textile",
    "wiki",
    "mediawiki",
    "commonmark",
];

/// Plain text: extensions of its files, and words. A language name that contains any other word, such as
/// `text/javascript`, does not mean plain text.
const PLAIN_TEXT: [&str; 4] = ["txt", "text", "plain", "plaintext"];

/// Names of documents that often have no extension.
const DOCUMENT_NAMES: [&str; 6] = ["readme", "changelog", "contributing", "notes", "todo", "faq"];

/// Extensions of templates. The extension before one of these, as in `a.md.j2`, is that of the rendered file.
const TEMPLATE_EXTENSIONS: [&str; 12] =
    ["j2", "jinja", "jinja2", "tmpl", "tpl", "template", "mustache", "hbs", "erb", "liquid", "ejs", "in"];

/// Whether the file at this path is prose.
pub(super) fn is_prose_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().trim().to_lowercase();
    let name = name
        .rsplit_once('.')
        .filter(|(_, extension)| TEMPLATE_EXTENSIONS.contains(extension))
        .map_or(&*name, |(name, _)| name);
    match name.rsplit_once('.') {
        Some((_, extension)) => MARKUP.contains(&extension) || PLAIN_TEXT.contains(&extension),
        None => DOCUMENT_NAMES.contains(&name),
    }
}

/// Whether a file in this language is prose.
pub(super) fn is_prose_language(language: &str) -> bool {
    let language = language.to_lowercase();
    let words = || language.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_plain_text = words().next().is_some() && words().all(|word| PLAIN_TEXT.contains(&word));
    is_plain_text || words().any(|word| MARKUP.contains(&word) || word.ends_with("markdown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_prose_and_code_is_not() {
        for path in [
            "README",
            "docs/Readme",
            "CHANGELOG",
            "a.md",
            "docs/A.MD",
            "a.md ",
            "a.Rmd",
            "a.mdc",
            "a.org",
            "a.asciidoc",
            "a.mkd",
            "a.livemd",
            "a.txt",
            "a.text",
            "a.rest",
            "a.md.j2",
            "README.tmpl",
            "a.b.markdown",
        ] {
            assert!(is_prose_path(path), "{path}");
        }
        for path in
            ["a.py", "Makefile", "src/main", "readme.py", "md", "a.md/b", "a.py.j2", "in", "a.in", ".gitignore", ""]
        {
            assert!(!is_prose_path(path), "{path}");
        }
        for language in [
            "Markdown",
            "md",
            "Markdown (GFM)",
            "GitHub Markdown",
            "RMarkdown",
            "text",
            "Plain text",
            "plaintext",
            "text/plain",
            "reStructuredText",
            "Org mode",
        ] {
            assert!(is_prose_language(language), "{language}");
        }
        for language in ["python", "Rust", "text/javascript", "Structured Text", "C++", "HTML", "", "-"] {
            assert!(!is_prose_language(language), "{language}");
        }
    }
}
