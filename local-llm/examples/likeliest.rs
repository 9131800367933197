//! Prints the likeliest first tokens of a model's reply to each text: `likeliest FILE TEXT…`.

use std::path::Path;

use local_llm::{LoadOptions, Model, PromptMessage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: likeliest FILE TEXT…")?;
    let model = Model::load(Path::new(&file), &LoadOptions::default())?;
    for text in args {
        for (token, text, log_probability) in model.likeliest_tokens(&[PromptMessage::new("user", text)], 8)? {
            println!("{token:>6} {log_probability:>8.3} {text:?}");
        }
        println!();
    }
    Ok(())
}
