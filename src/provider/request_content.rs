//! What all dialects have in common in the content of a request's messages: the order of blocks, the arguments of tool
//! calls, and the bytes of files.

use std::borrow::Cow;
use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Dialect, RequestLimits};
use crate::model::failure::{Failure, FailureClass};
use crate::model::{ContentBlock, Digest, Message};

/// The bytes of the files that messages refer to by their digests.
pub trait FileSource: Debug + Send + Sync {
    /// Reads a file.
    ///
    /// # Errors
    /// The file is missing or can't be read.
    fn read(&self, digest: &Digest) -> Result<Bytes, Failure>;
}

/// A source without files.
#[derive(Debug)]
pub(super) struct NoFiles;

impl FileSource for NoFiles {
    fn read(&self, digest: &Digest) -> Result<Bytes, Failure> {
        let message = format!("a message refers to the file {}, which orch has not stored", digest.short());
        Err(Failure::new(FailureClass::Storage, message).with_hint("start a new run, which reads its files again"))
    }
}

/// The blocks of a message in the order of a request: tool results come first, as every API requires. Leaves out opaque
/// data of other dialects.
pub(super) fn request_blocks(message: &Message, dialect: Dialect) -> impl Iterator<Item = &ContentBlock> {
    let is_result = |block: &&ContentBlock| matches!(block, ContentBlock::ToolResult { .. });
    let is_of_other_dialect = move |block: &&ContentBlock| match block {
        ContentBlock::Opaque { dialect: origin, .. } => origin != dialect.as_str(),
        _ => false,
    };
    let blocks = message.content.blocks();
    let other_blocks = blocks.iter().filter(move |block| !is_result(block) && !is_of_other_dialect(block));
    blocks.iter().filter(is_result).chain(other_blocks)
}

/// The arguments of a tool call as an object, which most APIs require. If a model wrote another value by mistake, it
/// becomes the only member of the object.
pub(crate) fn arguments_object(arguments: &Value) -> Value {
    if arguments.is_object() { arguments.clone() } else { json!({ "arguments": arguments }) }
}

/// The text of a tool result for an API that has no field for failed calls: the result of a failed call begins with the
/// line `Error:`.
pub(crate) fn result_text(content: &str, is_error: bool) -> Cow<'_, str> {
    if is_error { Cow::Owned(format!("Error:\n{content}")) } else { Cow::Borrowed(content) }
}

/// Whether requests of a dialect have no field for failed tool calls, so that the results of these calls begin with the
/// line `Error:`. The embedded model has the dialect `local`.
pub fn labels_failed_results(dialect: &str) -> bool {
    [Dialect::OpenAi.as_str(), Dialect::Responses.as_str(), "local"].contains(&dialect)
}

/// The kind of a file in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// An image.
    Image,
    /// A document.
    Document,
}

/// The media types that requests can contain, each with its kind and its short name.
const MEDIA_TYPES: &[(&str, FileKind, &str)] = &[
    ("image/png", FileKind::Image, "png"),
    ("image/jpeg", FileKind::Image, "jpeg"),
    ("image/gif", FileKind::Image, "gif"),
    ("image/webp", FileKind::Image, "webp"),
    ("application/pdf", FileKind::Document, "pdf"),
];

/// A file as requests contain it.
#[derive(Debug)]
pub(super) struct EncodedFile {
    pub(super) media_type: &'static str,
    pub(super) kind: FileKind,
    /// The short name of the type, such as `png`.
    pub(super) format: &'static str,
    /// The bytes in Base64.
    pub(super) base64: String,
    /// The name of the file, which some APIs require. It depends only on the content, so that later requests have the
    /// same name.
    pub(super) name: String,
}

impl EncodedFile {
    /// Reads and encodes a file.
    ///
    /// # Errors
    /// A request can't contain files of this type, or the file can't be read.
    pub(super) fn read(media_type: &str, digest: &Digest, limits: &RequestLimits) -> Result<Self, Failure> {
        let entry = MEDIA_TYPES.iter().find(|(name, ..)| media_type.eq_ignore_ascii_case(name));
        let Some((media_type, kind, format)) = entry else {
            let message = format!("models can't read files of the type `{media_type}`");
            return Err(Failure::new(FailureClass::BadRequest, message)
                .with_hint("pass an image (PNG, JPEG, GIF or WebP) or a PDF document"));
        };
        let base64 = STANDARD.encode(limits.files.read(digest)?);
        Ok(Self { media_type, kind: *kind, format, base64, name: format!("file-{}", digest.short()) })
    }

    /// The file as a `data:` URL.
    pub(super) fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.base64)
    }

    /// The name of the file with its extension.
    pub(super) fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.format)
    }
}
