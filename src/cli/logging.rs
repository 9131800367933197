//! Writes the log: the spans and events of `tracing`, for people or as JSON. Without `ORCH_LOG` and `--log-file`, there
//! is no log.
//!
//! Code that logs passes only keys, names from the project's files, numbers and classes of failures. In case a secret is
//! among them, the writer redacts the secrets of the environment in every record.

mod filter;
mod targets;

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

use clap::ValueHint;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::report::{LineWriter, to_printable};
use crate::runner::RunnerError;
use crate::secret::{Redactor, secrets_among};

use filter::{LogFilter, VARIABLE};

/// The format of log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// One line of text for each record
    Text,
    /// One JSON object for each record
    Json,
}

/// The options of the log.
#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    /// The format of the log, which the variable ORCH_LOG turns on
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT", help_heading = "Global options")]
    log_format: LogFormat,

    /// Append the log to this file instead of writing it to standard error
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Global options")]
    log_file: Option<PathBuf>,
}

/// The live lines of a run on the terminal. Log records appear above them.
static LIVE_LINES: Mutex<Option<LineWriter>> = Mutex::new(None);

/// Makes log records appear above the live lines of a run, as long as the run has live lines.
pub(super) fn write_above_live_lines(lines: LineWriter) {
    *LIVE_LINES.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
}

/// Starts the log, if the user turned it on.
///
/// # Errors
/// `ORCH_LOG` has a wrong directive, or the file of the log can't be opened.
pub(super) fn start(args: &LogArgs) -> Result<(), RunnerError> {
    let Some(filter) = requested_filter(args)? else { return Ok(()) };
    for warning in filter.warnings() {
        write_to_stderr(&to_printable(&format!("warning: {warning}")));
    }
    if filter.max_level() == LevelFilter::OFF {
        return Ok(());
    }
    let output = LogOutput::new(args)?;
    install(filter, args.log_format, output)
        .map_err(|error| RunnerError::internal(format!("the log can't be started: {error}")))
}

/// The filter that the user requested; `None` if the log is off.
fn requested_filter(args: &LogArgs) -> Result<Option<LogFilter>, RunnerError> {
    match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => {
            let not_unicode = || {
                RunnerError::usage(format!("the variable {VARIABLE} is not UTF-8 text"))
                    .with_hint(format!("write a level, such as `{VARIABLE}=debug`"))
            };
            LogFilter::parse(value.to_str().ok_or_else(not_unicode)?).map(Some)
        }
        None => Ok(args.log_file.is_some().then(LogFilter::debug)),
    }
}

fn install(filter: LogFilter, format: LogFormat, output: LogOutput) -> Result<(), TryInitError> {
    let (max_level, output) = (filter.max_level(), Arc::new(output));
    let filter = filter_fn(move |metadata| *metadata.level() <= filter.level_of(metadata.target()));
    let subscriber = tracing_subscriber::registry().with(filter.with_max_level_hint(max_level));
    let records = tracing_subscriber::fmt::layer()
        .with_writer(move || RecordWriter(output.clone()))
        .with_ansi(false)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE);
    match format {
        LogFormat::Text => subscriber.with(records).try_init(),
        LogFormat::Json => subscriber.with(records.json().flatten_event(true)).try_init(),
    }
}

/// Receives the text of one record.
struct RecordWriter(Arc<LogOutput>);

impl Write for RecordWriter {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.write_record(&String::from_utf8_lossy(record));
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The destination of the log, and what orch removes from every record.
struct LogOutput {
    /// The file of the log, with its path; `None` for standard error.
    file: Option<(PathBuf, Mutex<File>)>,
    redactor: Redactor,
    /// Whether to escape the characters that can control a terminal. JSON for programs stays as it is.
    escapes_unsafe: bool,
    /// Reports only the first error of the file.
    file_error: Once,
}

impl LogOutput {
    fn new(args: &LogArgs) -> Result<Self, RunnerError> {
        let file = args.log_file.as_deref().map(open_log_file).transpose()?;
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let secrets = secrets_among(variables);
        Ok(Self {
            redactor: Redactor::new(secrets.iter().map(|(name, secret)| (name.as_str(), secret))),
            escapes_unsafe: args.log_format == LogFormat::Text || file.is_none() && io::stderr().is_terminal(),
            file,
            file_error: Once::new(),
        })
    }

    fn write_record(&self, record: &str) {
        let record = self.redactor.redact(record.trim_end());
        let record = if self.escapes_unsafe { to_printable(&record) } else { Cow::Borrowed(record.as_str()) };
        let Some((path, file)) = &self.file else { return write_to_stderr(&record) };
        let written = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{record}\n").as_bytes());
        if let Err(error) = written {
            self.file_error.call_once(|| {
                let path = path.display();
                write_to_stderr(&to_printable(&format!(
                    "note: the log file `{path}` can't be written: {error}; the log misses this record and maybe later ones"
                )));
            });
        }
    }
}

/// Opens the file of the log, and creates it if it does not exist.
fn open_log_file(path: &Path) -> Result<(PathBuf, Mutex<File>), RunnerError> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let file = opened.map_err(|error| {
        RunnerError::usage(format!("the file `{}` of `--log-file` can't be opened: {error}", path.display()))
            .with_hint("pass a file in a folder that exists and in which you may write")
    })?;
    Ok((path.to_owned(), Mutex::new(file)))
}

/// Writes a line to standard error, above the live lines of a run.
fn write_to_stderr(line: &str) {
    let live_lines = LIVE_LINES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !live_lines.is_some_and(|lines| lines.write_line(line)) {
        // Ignore the error: standard error may be closed.
        drop(io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
    }
}
