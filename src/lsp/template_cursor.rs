//! Analyses the cursor in a template that the user is editing. Finds the tag around the cursor and the kind of word
//! that can follow, and builds a template that can be parsed and in which the same names are visible (see
//! [`super::skeleton`]).

use std::ops::Range;

use super::skeleton::Skeleton;
use super::template_tags::{TemplateTag, find_tags};
use super::tokens::{KEYWORDS, TemplateToken, TemplateTokenKind, tokenize, value_start};

/// The kind of word that is valid at the cursor.
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
    /// No word that completion can offer.
    Nothing,
}

/// The cursor in a template or expression.
#[derive(Debug)]
pub(super) struct TemplatePosition {
    pub(super) expected: ExpectedSyntax,
    /// The value before a property.
    pub(super) base: Option<String>,
    /// The word at the cursor, and its bytes.
    pub(super) name: String,
    pub(super) name_range: Range<usize>,
    /// A template that can be parsed. At its completion marker, the same names are visible as at the cursor.
    pub(super) skeleton: String,
    /// The bytes at which a tag of this template sets the variable `name`.
    pub(super) binding: Option<Range<usize>>,
}

/// Describes the cursor in a template or an expression; returns `None` outside of tags.
pub(super) fn template_position(
    text: &str,
    region: Range<usize>,
    offset: usize,
    is_expression: bool,
) -> Option<TemplatePosition> {
    let (inner, earlier_tags, is_block) = if is_expression {
        (region, Vec::new(), false)
    } else {
        let mut tags = find_tags(text, region);
        let index = tags.iter().position(|tag| tag.content_range.start <= offset && offset <= tag.content_range.end)?;
        let tag = tags.drain(index..).next()?;
        (tag.content_range, tags, tag.is_block)
    };
    let tokens = tokenize(text, inner);
    let contains_offset = |token: &&TemplateToken| match token.kind {
        TemplateTokenKind::Name | TemplateTokenKind::Number => token.range.start <= offset && offset <= token.end,
        TemplateTokenKind::String => token.range.start <= offset && offset <= token.range.end,
        TemplateTokenKind::Punctuation => false,
    };
    let current_token = tokens.iter().find(contains_offset);
    let start = current_token.map_or(offset, |token| token.range.start);
    let is_before =
        |token: &&TemplateToken| token.end <= start && token.range.start < start && Some(*token) != current_token;
    let preceding: Vec<TemplateToken> = tokens.iter().filter(is_before).cloned().collect();
    let is_string = current_token.is_some_and(|token| token.kind == TemplateTokenKind::String);
    let (expected, base) = expected_syntax(text, &preceding, is_string, is_block);
    let name_range = current_token.map_or(offset..offset, |token| token.range.clone());
    let name = text.get(name_range.clone()).unwrap_or_default().to_owned();
    let mut skeleton = Skeleton::default();
    earlier_tags.iter().filter(|tag| tag.is_block).for_each(|tag| skeleton.add_tag(text, tag));
    if is_block {
        skeleton.add_loop_filter(text, &preceding);
    }
    let binding = (expected == ExpectedSyntax::Variable || expected == ExpectedSyntax::Nothing)
        .then(|| find_binding(text, &earlier_tags, &tokens, is_block, &name_range));
    Some(TemplatePosition { expected, base, name, name_range, skeleton: skeleton.finish(), binding: binding.flatten() })
}

/// Filters that take the name of a property of the items that they process.
const ITEM_FILTERS: &[&str] = &["map", "selectattr", "rejectattr", "sort", "groupby", "sum", "unique", "min", "max"];

/// Returns the kind of word that can follow the tokens `preceding`, and the value before a property.
fn expected_syntax(
    text: &str,
    preceding: &[TemplateToken],
    is_string: bool,
    is_block: bool,
) -> (ExpectedSyntax, Option<String>) {
    let token_from_end = |index: usize| preceding.len().checked_sub(index).and_then(|index| preceding.get(index));
    let is_from_end =
        |index: usize, word: &str| token_from_end(index).is_some_and(|token| token.matches_text(text, word));
    let keyword = preceding.first().map(|token| token.text(text)).unwrap_or_default();
    let expect_property = |end: usize| match value_start(text, preceding, end) {
        Some(start) => {
            let base_start = preceding.get(start).map_or(0, |token| token.range.start);
            let base_end = preceding.get(end - 1).map_or(0, |token| token.end);
            (ExpectedSyntax::Property, text.get(base_start..base_end).map(str::to_owned))
        }
        None => (ExpectedSyntax::Nothing, None),
    };
    if is_string {
        if is_block && keyword == "include" && preceding.len() == 1 {
            return (ExpectedSyntax::Include, None);
        }
        if is_from_end(1, "[") && preceding.len() > 1 {
            return expect_property(preceding.len() - 1);
        }
        let item = first_item(text, preceding);
        return item.map_or((ExpectedSyntax::Nothing, None), |base| (ExpectedSyntax::Property, Some(base)));
    }
    match token_from_end(1) {
        None if is_block => (ExpectedSyntax::Statement, None),
        None => (ExpectedSyntax::Variable, None),
        Some(last) if last.matches_text(text, ".") => expect_property(preceding.len() - 1),
        Some(last) if last.matches_text(text, "|") => (ExpectedSyntax::Filter, None),
        Some(last) if last.matches_text(text, "is") || (last.matches_text(text, "not") && is_from_end(2, "is")) => {
            (ExpectedSyntax::Test, None)
        }
        Some(_) if is_block && keyword == "filter" && preceding.len() == 1 => (ExpectedSyntax::Filter, None),
        Some(_) if is_block && keyword == "for" && !preceding.iter().any(|token| token.matches_text(text, "in")) => {
            (ExpectedSyntax::Nothing, None)
        }
        Some(_) if is_block && matches!(keyword, "set" | "with") && expects_target(text, preceding) => {
            (ExpectedSyntax::Nothing, None)
        }
        Some(last) => match last.kind {
            TemplateTokenKind::Name if !KEYWORDS.contains(&last.text(text)) => (ExpectedSyntax::Nothing, None),
            TemplateTokenKind::Number | TemplateTokenKind::String => (ExpectedSyntax::Nothing, None),
            TemplateTokenKind::Punctuation if matches!(last.text(text), ")" | "]") => (ExpectedSyntax::Nothing, None),
            TemplateTokenKind::Name | TemplateTokenKind::Punctuation => (ExpectedSyntax::Variable, None),
        },
    }
}

/// Returns whether the next word after these tokens of a tag is a name that the tag sets.
fn expects_target(text: &str, preceding: &[TemplateToken]) -> bool {
    assignments(text, preceding).last().is_none_or(|tokens| !tokens.iter().any(|token| token.matches_text(text, "=")))
}

/// Returns an expression for the first item of the list that a filter such as `map(attribute="…")` processes.
fn first_item(text: &str, preceding: &[TemplateToken]) -> Option<String> {
    let parenthesis = preceding.iter().rposition(|token| token.matches_text(text, "("))?;
    let arguments: Vec<&str> = preceding.get(parenthesis + 1..)?.iter().map(|token| token.text(text)).collect();
    let filter = preceding.get(parenthesis.checked_sub(1)?)?;
    let pipe = parenthesis.checked_sub(2)?;
    let is_item_filter = ITEM_FILTERS.contains(&filter.text(text)) && preceding.get(pipe)?.matches_text(text, "|");
    if !is_item_filter || !(arguments.is_empty() || arguments == ["attribute", "="]) {
        return None;
    }
    let start = value_start(text, preceding, pipe)?;
    let list = text.get(preceding.get(start)?.range.start..preceding.get(pipe.checked_sub(1)?)?.end)?;
    Some(format!("({list} | first)"))
}

/// Returns the names that a tag sets, with their bytes.
fn assigned_names(text: &str, tokens: &[TemplateToken]) -> Vec<(String, Range<usize>)> {
    let end = match tokens.first().map(|token| token.text(text)) {
        Some("for") => "in",
        Some("set" | "with") => "=",
        _ => return Vec::new(),
    };
    let targets = assignments(text, tokens)
        .into_iter()
        .flat_map(|tokens| tokens.iter().take_while(|token| !token.matches_text(text, end)));
    let names = targets.filter(|token| token.kind == TemplateTokenKind::Name);
    names.map(|token| (token.text(text).to_owned(), token.range.clone())).collect()
}

/// Returns the assignments of a tag, without its first word. Only `with` can have several, separated by commas.
fn assignments<'t>(text: &str, tokens: &'t [TemplateToken]) -> Vec<&'t [TemplateToken]> {
    let Some((first, remaining)) = tokens.split_first() else { return Vec::new() };
    if !first.matches_text(text, "with") {
        return vec![remaining];
    }
    let is_any =
        |token: &TemplateToken, brackets: &[&str]| brackets.iter().any(|bracket| token.matches_text(text, bracket));
    let mut depth = 0_usize;
    let is_separator = |token: &TemplateToken| {
        depth += usize::from(is_any(token, &["(", "[", "{"]));
        depth = depth.saturating_sub(usize::from(is_any(token, &[")", "]", "}"])));
        depth == 0 && token.matches_text(text, ",")
    };
    remaining.split(is_separator).collect()
}

/// An open block: its end tag, and the names that are bound in it.
struct OpenBlock {
    end_tag: &'static str,
    names: Vec<(String, Range<usize>)>,
}

/// Applies a tag: opens or closes a block, and binds names.
fn apply_tag(text: &str, tag: &TemplateTag, open_blocks: &mut Vec<OpenBlock>) {
    let tokens = tokenize(text, tag.content_range.clone());
    let word = tokens.first().map(|token| token.text(text)).unwrap_or_default();
    let names = assigned_names(text, &tokens);
    match word {
        "for" => open_blocks.push(OpenBlock { end_tag: "endfor", names }),
        "with" => open_blocks.push(OpenBlock { end_tag: "endwith", names }),
        "if" => open_blocks.push(OpenBlock { end_tag: "endif", names }),
        "set" => {
            if let Some(block) = open_blocks.last_mut() {
                block.names.extend(names);
            }
        }
        "else" => {
            // The `else` part of a loop runs only if there are no items, so the loop's name is not bound there.
            if let Some(block) = open_blocks.last_mut().filter(|block| block.end_tag == "endfor") {
                block.names.clear();
            }
        }
        word => {
            let depth = open_blocks.iter().rposition(|block| block.end_tag == word && !word.is_empty());
            let Some(depth) = depth else { return };
            let closed_block = open_blocks.split_off(depth).into_iter().next();
            // A name that is set inside an `if` block remains set after it.
            let remaining_names =
                closed_block.filter(|block| block.end_tag == "endif").map(|block| block.names).unwrap_or_default();
            if let Some(block) = open_blocks.last_mut() {
                block.names.extend(remaining_names);
            }
        }
    }
}

/// Returns the names that a tag itself has already set before a position inside the tag.
fn names_set_in_tag(text: &str, tokens: &[TemplateToken], position: &Range<usize>) -> Vec<(String, Range<usize>)> {
    let preceding: Vec<TemplateToken> =
        tokens.iter().take_while(|token| token.range.start < position.start).cloned().collect();
    let has = |word: &str| preceding.iter().any(|token| token.matches_text(text, word));
    let mut names = assigned_names(text, tokens);
    match preceding.first().map(|token| token.text(text)) {
        // In `{% with a = 1, b = a %}` the second `a` refers to the first `a`. In `{% with a = a %}` it does not.
        Some("with") => {
            let assignments = assignments(text, &preceding);
            let unfinished = assignments.last().and_then(|tokens| tokens.first());
            let unfinished = unfinished.filter(|_| !expects_target(text, &preceding));
            names.retain(|(_, range)| {
                unfinished.map_or(range.start <= position.start, |token| range.start < token.range.start)
            });
        }
        // In `{% set a = a %}` the second `a` is another variable. In `{% for a in b if a %}`, the second `a` refers to
        // the first.
        _ if (has("in") || has("=")) && !has("if") => names.clear(),
        _ => {}
    }
    names
}

/// Returns the bytes at which an earlier tag, or the name's own tag, last set the name at a range. Ignores blocks that
/// have ended.
fn find_binding(
    text: &str,
    earlier_tags: &[TemplateTag],
    tokens: &[TemplateToken],
    is_block: bool,
    name_range: &Range<usize>,
) -> Option<Range<usize>> {
    let name = text.get(name_range.clone())?;
    let last_binding = |names: &[(String, Range<usize>)]| {
        names.iter().rfind(|(known, _)| known == name).map(|(_, range)| range.clone())
    };
    let binding = if is_block { last_binding(&names_set_in_tag(text, tokens, name_range)) } else { None };
    binding.or_else(|| {
        // The template itself acts as an outermost block that never ends.
        let mut open_blocks = vec![OpenBlock { end_tag: "", names: Vec::new() }];
        earlier_tags.iter().filter(|tag| tag.is_block).for_each(|tag| apply_tag(text, tag, &mut open_blocks));
        open_blocks.iter().rev().find_map(|block| last_binding(&block.names))
    })
}

#[cfg(test)]
mod tests;
