//! Recognizes expressions that only look up a value: `code`, `code.files`, `code["files"]`.

use minijinja::machinery::ast::Expr;
use minijinja::machinery::parse_expr;

/// The variable and the members that an expression looks up; `None` if it does anything else.
pub fn lookup(expression: &str) -> Option<(String, Vec<String>)> {
    lookup_path(&parse_expr(expression).ok()?)
}

/// The variable and the members that a parsed expression looks up; `None` if it does anything else.
pub(super) fn lookup_path(expr: &Expr<'_>) -> Option<(String, Vec<String>)> {
    let mut members = Vec::new();
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::Var(variable) => {
                members.reverse();
                return Some((variable.id.to_owned(), members));
            }
            Expr::GetAttr(inner) => {
                members.push(inner.name.to_owned());
                &inner.expr
            }
            Expr::GetItem(inner) => {
                let Expr::Const(name) = &inner.subscript_expr else { return None };
                members.push(name.value.as_str()?.to_owned());
                &inner.expr
            }
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_listed_from_the_outside_in() {
        let describe = |text| lookup(text).map(|(name, members)| format!("{name} {}", members.join("/")));
        assert_eq!(describe("code").as_deref(), Some("code "));
        assert_eq!(describe(" code.files ").as_deref(), Some("code files"));
        assert_eq!(describe("a['b c'].d[\"e\"]").as_deref(), Some("a b c/d/e"));
        for other in ["code.files | list", "code[0]", "code[name]", "f(code)", "code ~ x", "[code]", "'code'", "code."]
        {
            assert_eq!(describe(other), None, "{other}");
        }
    }
}
