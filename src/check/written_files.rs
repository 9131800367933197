//! Checks that the value of `write` is a list of files, and that the paths that its schema lists may be written.

use std::ops::Range;

use super::constant_paths::{PATH_HELP, path_refusal};
use super::scope::TypeScope;
use super::step_scopes::ScopedStep;
use super::texts::TextChecks;
use super::types::{Property, Schemas, Type, TypeKind};
use crate::config::child_pointer;
use crate::diagnostic::Code;
use crate::files::PathIndex;

impl<'a> TextChecks<'a> {
    /// Checks that the value of `write` is a list of files, or has such a list under `files`.
    pub(super) fn check_files(&mut self, scoped_step: &'a ScopedStep<'a>, files: &'a str, scope: &TypeScope<'a>) {
        let pointer = child_pointer(&scoped_step.pointer, "write");
        let Some((inferred, range)) = self.check_expression(Some(scoped_step), &pointer, files, scope) else { return };
        let schemas = Schemas(&self.project.schema_documents);
        let list = match schemas.property(&inferred.ty, "files") {
            Some(Property::Present(ty) | Property::Optional(ty)) => ty,
            Some(Property::Open(_)) => Type::Unknown,
            Some(Property::Absent(_)) | None => inferred.ty.clone(),
        };
        let entry = schemas.item_type(&list);
        if matches!(entry, Type::Unknown) && list.kinds().is_none_or(|kinds| kinds.contains(&TypeKind::List)) {
            return self.note_unchecked(&pointer, range, files);
        }
        let allows_text = |entry: &Type<'a>, name: &str| match schemas.property(entry, name) {
            Some(Property::Present(ty) | Property::Optional(ty)) => {
                ty.kinds().is_none_or(|kinds| kinds.contains(&TypeKind::Text))
            }
            Some(Property::Open(_)) => true,
            Some(Property::Absent(_)) | None => false,
        };
        let has_text = |name: &str| entry.branches().iter().any(|branch| allows_text(branch, name));
        let is_list = list.kinds().is_none_or(|kinds| kinds.contains(&TypeKind::List));
        if !is_list || !has_text("path") || !has_text("content") {
            let message = format!("`{}` is not a list of files", files.trim());
            let diagnostic = self.error_at(Code::NotFileList, &pointer, range, message);
            let help = "files are a list of `{path, content}`, or an artifact with such a list under `files`";
            return self.push(diagnostic.with_help(help));
        }
        for branch in entry.branches() {
            self.check_mode_type(&branch, &pointer, range.clone(), files);
            self.check_text_types(&branch, &pointer, range.clone(), files);
            let Some(Property::Present(path) | Property::Optional(path)) = schemas.property(&branch, "path") else {
                continue;
            };
            let (paths, no_artifacts) = (path.possible_texts().unwrap_or_default(), PathIndex::default());
            let Some(refusal) = paths.iter().find_map(|path| path_refusal(path, &no_artifacts)) else { continue };
            let message = format!("the schema of `{}` allows a path that `write` refuses: {refusal}", files.trim());
            let diagnostic = self.warning_at(Code::RefusedPath, &pointer, range.clone(), message);
            self.push(diagnostic.with_help(PATH_HELP));
        }
    }

    /// Reports a `path` or a `content` that may be no string. Only a file that `delete` removes may have null as `content`.
    fn check_text_types(&mut self, entry: &Type<'a>, pointer: &str, range: Range<usize>, files: &str) {
        let schemas = Schemas(&self.project.schema_documents);
        let may_be_deleted = matches!(
            schemas.property(entry, "delete"),
            Some(Property::Present(_) | Property::Optional(_) | Property::Open(_))
        );
        for name in ["path", "content"] {
            let Some(Property::Present(ty) | Property::Optional(ty)) = schemas.property(entry, name) else { continue };
            let is_accepted = |kind: TypeKind| {
                kind == TypeKind::Text || (kind == TypeKind::Null && name == "content" && may_be_deleted)
            };
            let Some(refused) = ty.kinds().and_then(|kinds| kinds.into_iter().find(|kind| !is_accepted(*kind))) else {
                continue;
            };
            let message =
                format!("the `{name}` of a file of `{}` may be {}, not a string", files.trim(), refused.describe());
            let diagnostic = self.warning_at(Code::NotFileList, pointer, range.clone(), message);
            self.push(diagnostic.with_help(match refused {
                TypeKind::Null => format!("give a text for that case: `'{name}': … | default(\"\", true)`"),
                _ => format!("convert it: `'{name}': … | string`"),
            }));
        }
    }

    /// Reports a schema whose modes `write` refuses. Another check examines the modes of literal entries.
    fn check_mode_type(&mut self, entry: &Type<'a>, pointer: &str, range: Range<usize>, files: &str) {
        let schemas = Schemas(&self.project.schema_documents);
        let mode = match schemas.property(entry, "mode") {
            Some(Property::Present(ty) | Property::Optional(ty)) if !matches!(entry, Type::FixedObject(_)) => ty,
            _ => return,
        };
        let Some(kinds) = mode.kinds() else { return };
        if kinds.iter().any(|kind| matches!(kind, TypeKind::Text | TypeKind::Null)) {
            return;
        }
        let message =
            format!("the schema of `{}` has {} as `mode`, which `write` refuses", files.trim(), mode.describe());
        let diagnostic = self.warning_at(Code::NotFileList, pointer, range, message);
        self.push(diagnostic.with_help("a mode is a string of octal digits, such as `\"0644\"`"));
    }
}
