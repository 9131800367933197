//! Analyses templates that the user is editing: which tag a position is in, what can be written there, and a template
//! that can be parsed and has the same names visible (see [`super::skeleton`]).

use std::ops::Range;

use super::lex::{KEYWORDS, Lexeme, LexemeKind, chain, lex};
use super::skeleton::Skeleton;

/// The kind of word that can be written at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedSyntax {
    /// A variable.
    Variable,
    /// A property of the value before it.
    Property,
    /// A filter.
    Filter,
    /// A test.
    Test,
    /// The name of a prompt.
    Include,
    /// The first word of a tag.
    Statement,
    /// Nothing that completion knows.
    Nothing,
}

/// A place in a template or expression.
#[derive(Debug)]
pub(super) struct TemplateSpot {
    pub(super) wanted: ExpectedSyntax,
    /// The value before a property.
    pub(super) base: Option<String>,
    /// The word at the position, and its bytes.
    pub(super) name: String,
    pub(super) name_at: Range<usize>,
    /// A template in which the names visible at its mark are those visible at the position.
    pub(super) skeleton: String,
    /// Where a tag of this template sets the variable of this name.
    pub(super) bound: Option<Range<usize>>,
}

/// A tag of a template.
#[derive(Debug)]
pub(super) struct TemplateTag {
    /// Whether it is `{% … %}`.
    pub(super) is_block: bool,
    /// The bytes of its content.
    pub(super) inner: Range<usize>,
}

/// Returns the tags in a range of a text, without comments and the content of `raw` blocks.
pub(super) fn tags(text: &str, region: Range<usize>) -> Vec<TemplateTag> {
    let mut found = Vec::new();
    let mut at = region.start;
    while let Some(rest) = text.get(at..region.end) {
        let Some(open) = rest.find('{') else { break };
        let start = at + open;
        let is_block = match text.get(start + 1..region.end).and_then(|rest| rest.chars().next()) {
            Some('{') => false,
            Some('%') => true,
            Some('#') => {
                let comment = text.get(start..region.end).unwrap_or_default();
                at = start + comment.find("#}").map_or(comment.len(), |end| end + 2);
                continue;
            }
            _ => {
                at = start + 1;
                continue;
            }
        };
        let sign = text.get(start + 2..region.end).is_some_and(|rest| rest.starts_with(['-', '+']));
        let inner = start + 2 + usize::from(sign);
        let (end, next) = close(text, inner, region.end, if is_block { "%}" } else { "}}" });
        let is_raw = is_block && text.get(inner..end).is_some_and(|inner| inner.trim() == "raw");
        found.push(TemplateTag { is_block, inner: inner..end });
        at = next;
        if is_raw {
            let raw = text.get(next..region.end).unwrap_or_default();
            at = next + raw.find("endraw").unwrap_or(raw.len());
        }
    }
    found
}

/// Returns where a tag's content ends, and where to continue. A tag without an end extends to the next tag.
fn close(text: &str, from: usize, end: usize, mark: &str) -> (usize, usize) {
    let rest = text.get(from..end).unwrap_or_default();
    let other = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min().unwrap_or(rest.len());
    // A bracket inside a string does not end the tag. The search stops where the next tag begins.
    let tokens = lex(text, from..from + other);
    let close = tokens.windows(2).find(|pair| match pair {
        [one, two] => {
            one.sort == LexemeKind::Mark && one.end == two.at.start && text.get(one.at.start..two.end) == Some(mark)
        }
        _ => false,
    });
    let close =
        close.and_then(|pair| pair.first()).map(|token| token.at.start).or_else(|| rest.find(mark).map(|at| from + at));
    match close {
        Some(at) if at - from <= other => {
            let signed = text.get(from..at).is_some_and(|inner| inner.ends_with(['-', '+']));
            (at - usize::from(signed), at + mark.len())
        }
        _ => (from + other, from + other),
    }
}

/// Describes a position in a template or an expression; returns `None` outside of tags.
pub(super) fn at(text: &str, region: Range<usize>, offset: usize, is_expression: bool) -> Option<TemplateSpot> {
    let (inner, before, is_block) = if is_expression {
        (region, Vec::new(), false)
    } else {
        let mut before = tags(text, region);
        let index = before.iter().position(|tag| tag.inner.start <= offset && offset <= tag.inner.end)?;
        let tag = before.drain(index..).next()?;
        (tag.inner, before, tag.is_block)
    };
    let tokens = lex(text, inner);
    let holds = |token: &&Lexeme| match token.sort {
        LexemeKind::Name | LexemeKind::Number => token.at.start <= offset && offset <= token.end,
        LexemeKind::Text => token.at.start <= offset && offset <= token.at.end,
        LexemeKind::Mark => false,
    };
    let word = tokens.iter().find(holds);
    let start = word.map_or(offset, |token| token.at.start);
    let left: Vec<Lexeme> =
        tokens.iter().filter(|token| token.end <= start && token.at.start < start).cloned().collect();
    let is_text = word.is_some_and(|token| token.sort == LexemeKind::Text);
    let left: Vec<Lexeme> = left.into_iter().filter(|token| Some(token) != word).collect();
    let (wanted, base) = wanted(text, &left, is_text, is_block);
    let name_at = word.map_or(offset..offset, |token| token.at.clone());
    let name = text.get(name_at.clone()).unwrap_or_default().to_owned();
    let mut skeleton = Skeleton::default();
    before.iter().filter(|tag| tag.is_block).for_each(|tag| skeleton.tag(text, tag));
    if is_block {
        skeleton.filtered(text, &left);
    }
    let bound = (wanted == ExpectedSyntax::Variable || wanted == ExpectedSyntax::Nothing)
        .then(|| bound(text, &before, &tokens, is_block, &name_at));
    Some(TemplateSpot { wanted, base, name, name_at, skeleton: skeleton.finish(), bound: bound.flatten() })
}

/// Filters that take the name of a property of the items that they process.
const OF_ITEMS: &[&str] = &["map", "selectattr", "rejectattr", "sort", "groupby", "sum", "unique", "min", "max"];

fn wanted(text: &str, left: &[Lexeme], is_text: bool, is_block: bool) -> (ExpectedSyntax, Option<String>) {
    let from_end = |index: usize| left.len().checked_sub(index).and_then(|at| left.get(at));
    let is = |index: usize, word: &str| from_end(index).is_some_and(|token| token.is(text, word));
    let first = left.first().map(|token| token.text(text)).unwrap_or_default();
    let property = |end: usize| match chain(text, left, end) {
        Some(start) => {
            let range =
                left.get(start).map_or(0, |token| token.at.start)..left.get(end - 1).map_or(0, |token| token.end);
            (ExpectedSyntax::Property, text.get(range).map(str::to_owned))
        }
        None => (ExpectedSyntax::Nothing, None),
    };
    if is_text {
        if is_block && first == "include" && left.len() == 1 {
            return (ExpectedSyntax::Include, None);
        }
        if is(1, "[") && left.len() > 1 {
            return property(left.len() - 1);
        }
        return (of_items(text, left))
            .map_or((ExpectedSyntax::Nothing, None), |base| (ExpectedSyntax::Property, Some(base)));
    }
    match from_end(1) {
        None if is_block => (ExpectedSyntax::Statement, None),
        None => (ExpectedSyntax::Variable, None),
        Some(last) if last.is(text, ".") => property(left.len() - 1),
        Some(last) if last.is(text, "|") => (ExpectedSyntax::Filter, None),
        Some(last) if last.is(text, "is") || (last.is(text, "not") && is(2, "is")) => (ExpectedSyntax::Test, None),
        Some(_) if is_block && first == "filter" && left.len() == 1 => (ExpectedSyntax::Filter, None),
        Some(_) if is_block && first == "for" && !left.iter().any(|token| token.is(text, "in")) => {
            (ExpectedSyntax::Nothing, None)
        }
        Some(_) if is_block && matches!(first, "set" | "with") && is_target(text, left) => {
            (ExpectedSyntax::Nothing, None)
        }
        Some(last) => match last.sort {
            LexemeKind::Name if !KEYWORDS.contains(&last.text(text)) => (ExpectedSyntax::Nothing, None),
            LexemeKind::Number | LexemeKind::Text => (ExpectedSyntax::Nothing, None),
            LexemeKind::Mark if matches!(last.text(text), ")" | "]") => (ExpectedSyntax::Nothing, None),
            LexemeKind::Name | LexemeKind::Mark => (ExpectedSyntax::Variable, None),
        },
    }
}

/// Whether the next word after these words of a tag is a name that the tag sets.
fn is_target(text: &str, left: &[Lexeme]) -> bool {
    assignments(text, left).last().is_none_or(|part| !part.iter().any(|token| token.is(text, "=")))
}

/// An expression for the first item of the list that a filter such as `map(attribute="…")` processes.
fn of_items(text: &str, left: &[Lexeme]) -> Option<String> {
    let named = left.iter().rposition(|token| token.is(text, "("))?;
    let rest: Vec<&str> = left.get(named + 1..)?.iter().map(|token| token.text(text)).collect();
    let filter = left.get(named.checked_sub(1)?)?;
    let pipe = named.checked_sub(2)?;
    let fits = OF_ITEMS.contains(&filter.text(text)) && left.get(pipe)?.is(text, "|");
    if !fits || !(rest.is_empty() || rest == ["attribute", "="]) {
        return None;
    }
    let start = chain(text, left, pipe)?;
    let list = text.get(left.get(start)?.at.start..left.get(pipe.checked_sub(1)?)?.end)?;
    Some(format!("({list} | first)"))
}

/// The names that a tag sets, with their bytes.
fn targets(text: &str, tokens: &[Lexeme]) -> Vec<(String, Range<usize>)> {
    let end = match tokens.first().map(|token| token.text(text)) {
        Some("for") => "in",
        Some("set" | "with") => "=",
        _ => return Vec::new(),
    };
    let targets =
        assignments(text, tokens).into_iter().flat_map(|part| part.iter().take_while(|token| !token.is(text, end)));
    let names = targets.filter(|token| token.sort == LexemeKind::Name);
    names.map(|token| (token.text(text).to_owned(), token.at.clone())).collect()
}

/// The assignments of a tag, after its first word. Only `with` can have several, separated by commas.
fn assignments<'t>(text: &str, tokens: &'t [Lexeme]) -> Vec<&'t [Lexeme]> {
    let Some((first, rest)) = tokens.split_first() else { return Vec::new() };
    if !first.is(text, "with") {
        return vec![rest];
    }
    let is = |token: &Lexeme, words: &[&str]| words.iter().any(|word| token.is(text, word));
    let mut depth = 0_usize;
    let between = |token: &Lexeme| {
        depth += usize::from(is(token, &["(", "[", "{"]));
        depth = depth.saturating_sub(usize::from(is(token, &[")", "]", "}"])));
        depth == 0 && token.is(text, ",")
    };
    rest.split(between).collect()
}

/// An open block: the word that ends it, and the names that are bound in it.
struct OpenBlock {
    end: &'static str,
    names: Vec<(String, Range<usize>)>,
}

/// Applies a tag: opens or closes a block, and binds names.
fn follow(text: &str, tag: &TemplateTag, open: &mut Vec<OpenBlock>) {
    let tokens = lex(text, tag.inner.clone());
    let word = tokens.first().map(|token| token.text(text)).unwrap_or_default();
    let names = targets(text, &tokens);
    match word {
        "for" => open.push(OpenBlock { end: "endfor", names }),
        "with" => open.push(OpenBlock { end: "endwith", names }),
        "if" => open.push(OpenBlock { end: "endif", names }),
        "set" => {
            if let Some(block) = open.last_mut() {
                block.names.extend(names);
            }
        }
        "else" => {
            // The `else` part of a loop runs when there are no items, so the loop's name is not bound there.
            if let Some(block) = open.last_mut().filter(|block| block.end == "endfor") {
                block.names.clear();
            }
        }
        word => {
            let Some(depth) = open.iter().rposition(|block| block.end == word && !word.is_empty()) else { return };
            let ended = open.split_off(depth).into_iter().next();
            // A name that is set inside an `if` block remains set after it.
            let kept = ended.filter(|block| block.end == "endif").map(|block| block.names).unwrap_or_default();
            if let Some(block) = open.last_mut() {
                block.names.extend(kept);
            }
        }
    }
}

/// The names that a tag itself has already set at a position inside the tag.
fn own(text: &str, tokens: &[Lexeme], at: &Range<usize>) -> Vec<(String, Range<usize>)> {
    let reached: Vec<Lexeme> = tokens.iter().take_while(|token| token.at.start < at.start).cloned().collect();
    let is = |word: &str| reached.iter().any(|token| token.is(text, word));
    let mut names = targets(text, tokens);
    match reached.first().map(|token| token.text(text)) {
        // In `{% with a = 1, b = a %}` the second `a` is the first one. In `{% with a = a %}` it is another variable.
        Some("with") => {
            let parts = assignments(text, &reached);
            let begun = parts.last().and_then(|part| part.first()).filter(|_| !is_target(text, &reached));
            names.retain(|(_, place)| begun.map_or(place.start <= at.start, |begun| place.start < begun.at.start));
        }
        // In `{% set a = a %}` the second `a` is another variable. In `{% for a in b if a %}` it is the first one.
        _ if (is("in") || is("=")) && !is("if") => names.clear(),
        _ => {}
    }
    names
}

/// Where the name at a position was last set, by an earlier tag or by its own tag. Blocks that have ended do not count.
fn bound(
    text: &str,
    before: &[TemplateTag],
    tokens: &[Lexeme],
    is_block: bool,
    at: &Range<usize>,
) -> Option<Range<usize>> {
    let name = text.get(at.clone())?;
    let last = |names: &[(String, Range<usize>)]| {
        names.iter().rfind(|(known, _)| known == name).map(|(_, place)| place.clone())
    };
    let own = if is_block { last(&own(text, tokens, at)) } else { None };
    own.or_else(|| {
        // The whole template acts as an outermost block that never ends.
        let mut open = vec![OpenBlock { end: "", names: Vec::new() }];
        before.iter().filter(|tag| tag.is_block).for_each(|tag| follow(text, tag, &mut open));
        open.iter().rev().find_map(|block| last(&block.names))
    })
}

#[cfg(test)]
mod tests;
