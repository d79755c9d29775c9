//! Wrong use in one line that names the setting, where clap would print a paragraph.

use std::error::Error as _;

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// One line about the error. The value itself is not repeated: it may be a secret.
pub(super) fn one_line(error: &clap::Error, command: &Command) -> String {
    let text = match error.kind() {
        ErrorKind::ValueValidation => refused_value(error, command),
        ErrorKind::InvalidValue => unlisted_value(error, command),
        ErrorKind::MissingRequiredArgument => missing(error, command),
        ErrorKind::MissingSubcommand => no_command(error),
        ErrorKind::UnknownArgument => unknown(error, ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => unknown(error, ContextKind::InvalidSubcommand),
        _ => None,
    };
    text.unwrap_or_else(|| first_paragraph(error))
}

fn refused_value(error: &clap::Error, command: &Command) -> Option<String> {
    let setting = named(error, ContextKind::InvalidArg).map(|name| setting(&name, command))?;
    Some(format!("{setting}: {}", error.source()?))
}

fn unlisted_value(error: &clap::Error, command: &Command) -> Option<String> {
    let setting = named(error, ContextKind::InvalidArg).map(|name| setting(&name, command))?;
    let value = named(error, ContextKind::InvalidValue).unwrap_or_default();
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(choices)) if !choices.is_empty() && !value.is_empty() => {
            Some(format!("{setting}: must be one of {}", choices.join(", ")))
        }
        _ => Some(format!("{setting}: needs a value")),
    }
}

fn missing(error: &clap::Error, command: &Command) -> Option<String> {
    let Some(ContextValue::Strings(names)) = error.get(ContextKind::InvalidArg) else { return None };
    let settings: Vec<_> = names.iter().map(|name| setting(name, command)).collect();
    Some(format!("{} is missing", settings.join(", ")))
}

/// Of the program or of a command that has some of its own.
fn no_command(error: &clap::Error) -> Option<String> {
    let parent = named(error, ContextKind::InvalidSubcommand)?;
    let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) else { return None };
    let names: Vec<_> = names.iter().map(String::as_str).filter(|name| *name != "help").collect();
    Some(format!("a command is missing; see {parent} --help ({})", names.join(", ")))
}

fn unknown(error: &clap::Error, kind: ContextKind) -> Option<String> {
    let name = named(error, kind)?;
    let hint = match error.get(ContextKind::SuggestedArg).or_else(|| error.get(ContextKind::SuggestedSubcommand)) {
        Some(ContextValue::String(close)) => format!("; did you mean {close}?"),
        Some(ContextValue::Strings(close)) if !close.is_empty() => format!("; did you mean {}?", close.join(" or ")),
        _ => "; see --help".to_owned(),
    };
    Some(format!("{name} is not known{hint}"))
}

fn named(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        _ => None,
    }
}

/// `--group-id <GROUP>` as `DOSI_GROUP_ID (--group-id)`: people set it under either name.
fn setting(argument: &str, command: &Command) -> String {
    let flag = argument.split_whitespace().next().unwrap_or(argument);
    match variable(flag.trim_start_matches('-'), command) {
        Some(variable) => format!("{variable} ({flag})"),
        None => flag.to_owned(),
    }
}

fn variable(long: &str, command: &Command) -> Option<String> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(long));
    let name = own.and_then(|argument| argument.get_env()).map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| command.get_subcommands().find_map(|inner| variable(long, inner)))
}

fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).collect();
    let line = crate::error::one_line(&paragraph.join(" "));
    line.strip_prefix("error: ").map(str::to_owned).unwrap_or(line)
}
