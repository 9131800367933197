//! Replies with file contents between fences.

use super::*;

#[test]
fn the_model_writes_files_between_fences() {
    let any_text = json!({ "type": "string", "minLength": 3 });
    let (document, model_text) = write(
        &files_schema(&any_text),
        900,
        &[
            r#"{a.py""#,
            "print(\"ä\\n\")\n\tpass\n",
            "``",
            "`\n",
            r#",src/Makefile""#,
            "```all:",
            "$",
            r#",a.md"```""#,
            "]",
        ],
    );
    assert_eq!(
        document,
        concat!(
            r#"{"files":[{"path":"a.py","content":"print(\"ä\\n\")\n\tpass\n"},"#,
            r#"{"path":"src/Makefile","content":"``~all:"},{"path":"a.md","content":"```"}]}"#
        )
    );
    assert_eq!(
        model_text,
        concat!(
            "{\"files\":[{\"path\":\"a.py\",\"content\":\n```py\nprint(\"ä\\n\")\n\tpass\n```\n},",
            "{\"path\":\"src/Makefile\",\"content\":\n```\n``~all:\n```\n},{\"path\":\"a.md\",\"content\":\"```\"}]}"
        )
    );
}

#[test]
fn a_repetitive_file_ends_after_a_complete_line() {
    let schema = files_schema(&json!({ "type": "string" }));
    let (document, _) = write(&schema, 900, &[r#"{a""#, "x = 1\ny = [", "1, "]);
    assert!(document.starts_with(r#"{"files":[{"path":"a","content":"x = 1\n"}"#), "{document}");
    // This schema requires more than the first line.
    let schema = files_schema(&json!({ "type": "string", "minLength": 8 }));
    let (document, _) = write(&schema, 900, &[r#"{a""#, "x = 1\ny = [", "1, "]);
    assert!(document.starts_with(r#"{"files":[{"path":"a","content":"x = 1\ny = [1, 1"#), "{document}");
}

#[test]
fn a_content_of_one_incomplete_line_keeps_this_line() {
    let schema = files_schema(&json!({ "type": "string" }));
    let (document, _) = write(&schema, 900, &[r#"{a""#, "x = [", "1, "]);
    assert!(document.starts_with(r#"{"files":[{"path":"a","content":"x = [1, 1"#), "{document}");
    let model = FakeModel::with_merges(&[]);
    let schema = object_schema(&json!({ "path": { "type": "string" }, "content": { "type": "string" } }));
    let line = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".repeat(3);
    for limit in 70..250 {
        let document = (&[r#"{"path":"a.py","content":"#, "}"][..], &[&line[..]][..]);
        let value = write_intended(&model, &schema, limit, document).value();
        let content = value["content"].as_str().unwrap().trim_end();
        assert!(content.len() >= MIN_STRING_TOKENS_NEAR_LIMIT && line.starts_with(content), "{limit} {value}");
    }
    // The fence is not part of the content, even if the reply reaches the limit inside the fence.
    for limit in 80..130 {
        let document = (&[r#"{"path":"a.py","content":"#, "}"][..], &[""][..]);
        let value = write_intended(&model, &schema, limit, document).value();
        assert_eq!(value["content"], "", "{limit} {value}");
    }
}

#[test]
fn a_list_ends_before_a_repeated_file() {
    let texts = [r#"{a""#, "x\n```\n", r#",b""#, "y\n```\n", r#",./a""#, "]"];
    let (document, model_text) = write(&files_schema(&json!({ "type": "string" })), 900, &texts);
    assert_eq!(document, r#"{"files":[{"path":"a","content":"x\n"},{"path":"b","content":"y\n"}]}"#);
    assert!(model_text.ends_with("\ny\n```\n}]}"), "{model_text}");
}

#[test]
fn a_content_with_further_constraints_is_written_as_json() {
    let number = json!({ "type": "string", "pattern": "^[0-9]{2,4}$" });
    let (document, model_text) = write(&files_schema(&number), 900, &[r#"{a""#, "x = 1\n", "123\"]", "]"]);
    assert!(document.starts_with(r#"{"files":[{"path":"a","content":"1"#), "{document}");
    assert_eq!(document, model_text);
    let choices = json!({ "type": "string", "enum": ["a\n", "b\n"] });
    let (document, _) = write(&files_schema(&choices), 900, &[r#"{a""#, "b\n", "]"]);
    assert_eq!(document, r#"{"files":[{"path":"a","content":"b\n"}]}"#);
}

#[test]
fn a_long_file_leaves_room_for_the_end_of_the_document() {
    for limit in (60..400).step_by(11) {
        let lines = "abcdefgh\nijklmnopqrst\nuvwxyz0123456789\n";
        let (document, _) = write(&files_schema(&json!({ "type": "string" })), limit, &[r#"{a""#, lines]);
        assert!(serde_json::from_str::<Value>(&document).is_ok(), "{limit} {document}");
    }
}

#[test]
fn a_content_with_a_line_that_the_schema_rejects_becomes_a_string() {
    let model = FakeModel::with_merges(&COLON_MERGES);
    for (content, intended, written) in [
        (json!({ "type": "string", "maxLength": 12 }), "one\ntwo\nthree\nfour\n", "one\ntwo\nthre"),
        (json!({ "type": "string", "pattern": "^[a-z\n]*$" }), "abc\nde\nf4g\n", "abc\nde\nf"),
        // The schema allows an empty content, but rejects the incomplete line before the end-of-turn token.
        (json!({ "type": "string", "pattern": "^[a-z]*$" }), "ab1", "ab"),
    ] {
        let schema = object_schema(&json!({ "path": { "type": "string" }, "content": content }));
        let reply = run(&model, &schema, 400, |read, logits| {
            let intended = intended_text(read, &[r#"{"path":"a.py","content":"#], &[intended]);
            let rest = intended.strip_prefix(read).unwrap_or_default();
            // The model ends the content with the end-of-turn token instead of a closing fence.
            match rest.strip_suffix(b"\n```\n").unwrap_or(rest) {
                b"" => model.prefer_end(logits),
                rest => model.prefer(logits, rest),
            }
        });
        assert!(reply.value()["content"].as_str().unwrap().starts_with(written), "{reply:?}");
        assert_eq!(reply.document, reply.model_text);
    }
}

#[test]
fn a_rejected_content_becomes_a_string_even_if_its_quote_is_inside_a_token() {
    let model = FakeModel::with_merges(&COLON_MERGES);
    let word = json!({ "type": "string", "pattern": "^[a-z]+$" });
    // Here the schema does not force the quote, so the model chooses the token `":"`.
    let nullable = json!({ "type": ["string", "null"], "pattern": "^[a-z]+$" });
    for content in [word, nullable] {
        let schema = object_schema(&json!({ "path": { "type": "string" }, "content": content }));
        let document = (&[r#"{"path":"a.py","content":"#, "}"][..], &["abc"][..]);
        let reply = write_intended(&model, &schema, 400, document);
        assert_eq!(reply.value(), json!({ "path": "a.py", "content": "abc" }), "{content}");
        assert_eq!(reply.document, reply.model_text);
    }
}

#[test]
fn a_content_may_contain_any_character() {
    let model = FakeModel::with_merges(&COLON_MERGES);
    let content: String =
        (0..=0x7f_u8).map(char::from).chain("ä\u{80}\u{2028}\u{feff}\u{fffd}😀\u{10ffff}\n".chars()).collect();
    let schema = object_schema(&json!({ "path": { "type": "string" }, "content": { "type": "string" } }));
    let document = (&[r#"{"path":"a.py","content":"#, "}"][..], &[&content[..]][..]);
    let reply = write_intended(&model, &schema, 900, document);
    assert_eq!(reply.value(), json!({ "path": "a.py", "content": content }));
    assert!(reply.model_text.contains("```py\n"), "{reply:?}");
}

#[test]
fn the_closing_fence_that_the_model_wrote_remains() {
    let model = FakeModel::with_merges(&["} Ċ"]);
    let schema = object_schema(&json!({ "path": { "type": "string" }, "content": { "type": "string" } }));
    let document = (&[r#"{"path":"a.py","content":"#, "}"][..], &["x\n"][..]);
    let reply = write_intended(&model, &schema, 400, document);
    assert_eq!(reply.value(), json!({ "path": "a.py", "content": "x\n" }));
    assert_eq!(reply.removed_token_count, 0, "{reply:?}");
}

#[test]
fn a_content_may_contain_fenced_blocks() {
    let model = FakeModel::with_merges(&["Ċ ```", "a Ċ", "aĊ ```"]);
    let schema = object_schema(&json!({ "path": { "type": "string" }, "content": { "type": "string" } }));
    for content in [
        "/// x\n```rust\nf();\n```\nfn f() {}\n",
        "a\n```json\n{}\n```\"\"\"\nb\n",
        "a\n````\nb\n",
        "a\n````md\n```\nb\n```\n````\nc\n",
        "a\n ```\nb```\n",
    ] {
        let document = (&[r#"{"path":"a.rs","content":"#, "}"][..], &[content][..]);
        let reply = write_intended(&model, &schema, 400, document);
        assert_eq!(reply.value(), json!({ "path": "a.rs", "content": content }));
        assert!(reply.model_text.contains("```rs\n"), "{reply:?}");
    }
}

#[test]
fn a_token_with_a_line_end_and_a_fence_does_not_end_a_content_that_is_too_short() {
    let model = FakeModel::with_merges(&["Ċ ```", "x Ċ", "xĊ ```"]);
    for (min_len, intended, written) in [(1, "x\n", "x"), (2, "x\n", "x\n"), (6, "abcdef\n", "abcdef")] {
        let content = json!({ "type": "string", "minLength": min_len });
        let schema = object_schema(&json!({ "path": { "type": "string" }, "content": content }));
        let document = (&[r#"{"path":"a.py","content":"#, "}"][..], &[intended][..]);
        let value = write_intended(&model, &schema, 400, document).value();
        let content = value["content"].as_str().unwrap();
        assert!(content.starts_with(written) && !content.contains("```"), "{value}");
    }
}

#[test]
fn a_content_has_no_replacement_characters() {
    let model = FakeModel::with_merges(&[]);
    let schema = object_schema(&json!({ "path": { "type": "string" }, "content": { "type": "string" } }));
    for (bytes, content) in [
        (&b"x\xf0\x9f"[..], "x"),
        (b"a\nx\xf0\x9f", "a\nx"),
        (b"a\nx\xf0\x9f\x98\x80y", "a\nx😀y"),
        // A letter cannot follow an incomplete character.
        (b"x\xf0\x9fy", "x"),
    ] {
        let reply = run(&model, &schema, 400, |read, logits| {
            let opening = b"{\"path\":\"a.py\",\"content\":\n```py\n";
            let intended = [&opening[..], bytes].concat();
            match intended.strip_prefix(read) {
                Some(rest) if !rest.is_empty() => model.prefer(logits, rest),
                _ if !read.starts_with(opening) => model.prefer(logits, b"\""),
                _ => model.prefer_end(logits),
            }
        });
        assert_eq!(reply.value()["content"], content, "{reply:?}");
        assert!(!reply.model_text.contains('\u{fffd}'), "{reply:?}");
    }
}

#[test]
fn a_fence_opens_where_the_schema_forces_the_quote() {
    let model = FakeModel::with_merges(&COLON_MERGES);
    let file = |path: &str| object_schema(&json!({ "path": { "const": path }, "content": { "type": "string" } }));
    // The schema forces the tokens before both contents.
    let schema = object_schema(&json!({ "one": file("a.py"), "two": file("b.py") }));
    let parts = [r#"{"one":{"path":"a.py","content":"#, r#"},"two":{"path":"b.py","content":"#, "}}"];
    let reply = write_intended(&model, &schema, 400, (&parts, &["\"\"\"a\"\"\"\n", "b\n"]));
    assert_eq!(
        reply.model_text,
        concat!(
            "{\"one\":{\"path\":\"a.py\",\"content\":\n```py\n\"\"\"a\"\"\"\n```\n},",
            "\"two\":{\"path\":\"b.py\",\"content\":\n```py\nb\n```\n}}"
        )
    );
    assert_eq!(reply.removed_token_count, 0, "{reply:?}");
    let value = reply.value();
    assert_eq!((&value["one"]["content"], &value["two"]["content"]), (&json!("\"\"\"a\"\"\"\n"), &json!("b\n")));
}

#[test]
fn a_fence_that_does_not_fit_is_not_tried_again() {
    let model = FakeModel::with_merges(&[]);
    let schema = object_schema(&json!({ "path": { "const": "a.py" }, "content": { "type": "string" } }));
    let grammar = model.grammars.build(&schema).unwrap();
    let mut decoder = ReplyDecoder::new(&model.vocab, Some(grammar), TokenSampler::new(0.0, 1.0, 0), 60);
    decoder.forced_prefix();
    assert!(decoder.document().ends_with(br#""content":""#));
    decoder.limit = 900;
    let mut logits = vec![0.0; model.vocab.len()];
    model.prefer(&mut logits, b"x");
    decoder.step(&logits).unwrap();
    assert!(decoder.document().ends_with(br#""content":"x"#));
}

#[test]
fn a_content_becomes_a_string_if_its_language_property_names_a_prose_format() {
    let model = FakeModel::with_merges(&COLON_MERGES);
    let string = json!({ "type": "string" });
    let file = object_schema(&json!({ "path": string, "content": string, "language": string }));
    let schema = json!({ "type": "array", "items": file, "minItems": 3, "maxItems": 3 });
    let parts = [
        r#"[{"path":"a","content":"#,
        r#","language":"Rust"},{"path":"b","content":"#,
        r#","language":"Markdown"},{"path":"c","content":"#,
        r#","language":"Rust"}]"#,
    ];
    let contents = ["a\n", "b\n```\nmake\n```\nThat is all.\n", "c\n"];
    let reply = run(&model, &schema, 900, |read, logits| {
        // If the decoder puts the second content between fences, it takes the first fence inside the content for the
        // closing fence, so the content ends too early.
        let fenced = ["a\n", "b\n", "c\n"];
        let intended = [contents, fenced].map(|contents| intended_text(read, &parts, &contents));
        match intended.iter().find_map(|intended| intended.strip_prefix(read)).unwrap_or_default() {
            b"" => model.prefer_end(logits),
            rest => model.prefer(logits, rest),
        }
    });
    let written: Vec<Value> = reply.value().as_array().unwrap().iter().map(|file| file["content"].clone()).collect();
    assert_eq!(written, contents);
    let fence_count = reply.model_text.matches("content\":\n```\n").count();
    assert_eq!((fence_count, reply.model_text.contains(r#""content":"b\n"#)), (2, true), "{reply:?}");
}
