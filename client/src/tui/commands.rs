//! What is typed behind a `/`.

use sealpost_core::UserId;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A message.
    Message(String),
    /// A command and what is behind it.
    Command(Name, String),
    /// No command.
    Unknown(String),
    /// Nothing.
    Empty,
}

/// The commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Keys and commands.
    Help,
    /// Opens a conversation, and sends a text.
    To,
    /// Adds somebody.
    Add,
    /// Verifies somebody.
    Verify,
    /// Decides about a changed identity or a suspension.
    Trust,
    /// Our own link.
    Invite,
    /// Looks for words with this person.
    Search,
    /// Looks for words with everybody.
    SearchAll,
    /// Reads a message whole.
    View,
    /// Copies the chosen message, or the last one of theirs.
    Copy,
    /// Answers the chosen message, or their last one.
    Reply,
    /// Puts another text in place of the chosen one, or of our last one.
    Edit,
    /// Takes the chosen one back, or our last one.
    Delete,
    /// How long messages stay.
    Expire,
    /// Offers a file.
    File,
    /// Saves one.
    Save,
    /// Takes one back, or declines it.
    Cancel,
    /// All of them.
    Files,
    /// Lets somebody in, and tells them when their messages arrive.
    Accept,
    /// Lets nothing of somebody in.
    Block,
    /// Does again.
    Unblock,
    /// Tells nobody of somebody's messages.
    Mute,
    /// Does again.
    Unmute,
    /// Tries again what failed.
    Retry,
    /// Forgets what failed.
    Drop,
    /// What was said.
    Log,
    /// Shows or hides the list.
    People,
    /// Other colours.
    Theme,
    /// Ends.
    Quit,
}

/// What comes behind a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A person, who may be left out for who is talked to.
    Person,
    /// Anything.
    Words,
    /// A file on this machine.
    Path,
}

/// A command, its name, what comes behind it, in words and to complete it, and what it does.
pub const COMMANDS: [(Name, &str, &str, Takes, &str); 29] = [
    (
        Name::To,
        "to",
        "NAME [TEXT]",
        Takes::Person,
        "open the conversation with somebody",
    ),
    (
        Name::Add,
        "add",
        "LINK or NAME",
        Takes::Words,
        "add somebody, best by the link that they gave you",
    ),
    (
        Name::Verify,
        "verify",
        "[NAME]",
        Takes::Person,
        "compare keys with somebody, once, to be sure",
    ),
    (
        Name::Trust,
        "trust",
        "[NAME]",
        Takes::Person,
        "decide about a changed identity",
    ),
    (
        Name::Invite,
        "invite",
        "",
        Takes::Nothing,
        "your own link and QR code, to give to others",
    ),
    (
        Name::Search,
        "search",
        "WORDS",
        Takes::Words,
        "look for words in this conversation",
    ),
    (
        Name::SearchAll,
        "searchall",
        "WORDS",
        Takes::Words,
        "look for words in all conversations",
    ),
    (
        Name::View,
        "view",
        "",
        Takes::Nothing,
        "read the chosen, or the last long message whole",
    ),
    (
        Name::Copy,
        "copy",
        "",
        Takes::Nothing,
        "copy the chosen, or their last message",
    ),
    (
        Name::Reply,
        "reply",
        "TEXT",
        Takes::Words,
        "answer the chosen, or their last message",
    ),
    (
        Name::Edit,
        "edit",
        "TEXT",
        Takes::Words,
        "edit the chosen, or your last message",
    ),
    (
        Name::Delete,
        "delete",
        "[here]",
        Takes::Nothing,
        "ask to delete the chosen, or your last; here: no asking",
    ),
    (
        Name::File,
        "file",
        "PATH",
        Takes::Path,
        "offer them a file; it goes while they fetch it",
    ),
    (
        Name::Save,
        "save",
        "[NUMBER] [FOLDER]",
        Takes::Nothing,
        "save the chosen file, or their last one",
    ),
    (
        Name::Cancel,
        "cancel",
        "[NUMBER]",
        Takes::Nothing,
        "take back or decline the chosen file, or the last",
    ),
    (
        Name::Files,
        "files",
        "",
        Takes::Nothing,
        "all files, and how far they are",
    ),
    (
        Name::Expire,
        "expire",
        "TIME or off",
        Takes::Words,
        "messages from now on disappear after 1h, 7d, ...",
    ),
    (
        Name::Block,
        "block",
        "[NAME]",
        Takes::Person,
        "drop what they send; they are told nothing",
    ),
    (
        Name::Unblock,
        "unblock",
        "[NAME]",
        Takes::Person,
        "let it in again",
    ),
    (
        Name::Mute,
        "mute",
        "[NAME]",
        Takes::Person,
        "neither ring nor notify for them",
    ),
    (
        Name::Unmute,
        "unmute",
        "[NAME]",
        Takes::Person,
        "do so again",
    ),
    (
        Name::Accept,
        "accept",
        "[NAME]",
        Takes::Person,
        "let them in, and know when their messages arrive",
    ),
    (
        Name::Retry,
        "retry",
        "",
        Takes::Nothing,
        "try again what could not be sent",
    ),
    (
        Name::Drop,
        "drop",
        "",
        Takes::Nothing,
        "forget what could not be sent",
    ),
    (
        Name::Log,
        "log",
        "",
        Takes::Nothing,
        "what was said beside the messages",
    ),
    (
        Name::People,
        "people",
        "",
        Takes::Nothing,
        "show or hide the list of people",
    ),
    (
        Name::Theme,
        "theme",
        "NAME",
        Takes::Words,
        "auto, ansi, dark, light or mono",
    ),
    (Name::Help, "help", "", Takes::Nothing, "keys and commands"),
    (Name::Quit, "quit", "", Takes::Nothing, "end"),
];

/// Other names that people try.
const ALSO: [(&str, Name); 9] = [
    ("?", Name::Help),
    ("msg", Name::To),
    ("query", Name::To),
    ("q", Name::Quit),
    ("exit", Name::Quit),
    ("link", Name::Invite),
    ("find", Name::Search),
    ("who", Name::People),
    ("contacts", Name::People),
];

impl Line {
    /// Reads what was typed. Two slashes begin a message with one.
    #[must_use]
    pub fn parse(text: &str) -> Line {
        if text.trim().is_empty() {
            return Line::Empty;
        }
        let Some(command) = text.strip_prefix('/') else {
            return Line::Message(text.trim_end().to_owned());
        };
        if command.starts_with('/') {
            return Line::Message(command.trim_end().to_owned());
        }
        let (word, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        match name_of(&word.to_ascii_lowercase()) {
            Some(name) => Line::Command(name, rest.trim().to_owned()),
            None => Line::Unknown(word.to_owned()),
        }
    }
}

fn name_of(word: &str) -> Option<Name> {
    let known = COMMANDS.iter().map(|(name, text, ..)| (*text, *name));
    known
        .chain(ALSO)
        .find(|(text, _)| *text == word)
        .map(|(_, name)| name)
}

/// How a word could go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// What it would become.
    pub text: String,
    /// What that is, in words.
    pub about: String,
}

/// How what was typed could go on, best first.
#[must_use]
pub fn completions<'a>(typed: &str, people: impl Iterator<Item = &'a UserId>) -> Vec<Completion> {
    let Some(command) = typed
        .strip_prefix('/')
        .filter(|rest| !rest.starts_with('/'))
    else {
        return Vec::new();
    };
    match command.split_once(' ') {
        None => COMMANDS
            .iter()
            .filter(|(_, name, ..)| name.starts_with(command))
            .map(|(_, name, arguments, takes, about)| Completion {
                text: match takes {
                    Takes::Nothing => format!("/{name}"),
                    _ => format!("/{name} "),
                },
                about: if arguments.is_empty() {
                    (*about).to_owned()
                } else {
                    format!("{arguments}: {about}")
                },
            })
            .collect(),
        Some((word, begun)) if !begun.contains(' ') => {
            let takes = COMMANDS
                .iter()
                .find(|(name, ..)| Some(*name) == name_of(word))
                .map(|(name, _, _, takes, _)| (*name, *takes));
            let Some((name, Takes::Person)) = takes else {
                return Vec::new();
            };
            people
                .filter(|user| user.as_str().starts_with(begun))
                .map(|user| Completion {
                    text: match name {
                        Name::To => format!("/{word} {user} "),
                        _ => format!("/{word} {user}"),
                    },
                    about: String::new(),
                })
                .collect()
        }
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        for (text, line) in [
            ("hello", Line::Message("hello".into())),
            ("  two\nlines \n", Line::Message("  two\nlines".into())),
            ("//etc", Line::Message("/etc".into())),
            (" \n", Line::Empty),
            ("/verify bob ", Line::Command(Name::Verify, "bob".into())),
            ("/QUIT", Line::Command(Name::Quit, String::new())),
            (
                "/msg bob hi there",
                Line::Command(Name::To, "bob hi there".into()),
            ),
            ("/frobnicate", Line::Unknown("frobnicate".into())),
        ] {
            assert_eq!(Line::parse(text), line, "{text:?}");
        }
    }

    #[test]
    fn commands_and_names_are_completed() {
        let people = ["alice", "albert", "bob"].map(|name| UserId::parse(name).unwrap());
        let texts = |typed| -> Vec<String> {
            completions(typed, people.iter())
                .into_iter()
                .map(|c| c.text)
                .collect()
        };
        assert_eq!(texts("/ver"), ["/verify "]);
        assert_eq!(texts("/se"), ["/search ", "/searchall "]);
        assert_eq!(texts("/verify al"), ["/verify alice", "/verify albert"]);
        assert_eq!(texts("/to b"), ["/to bob "]);
        assert_eq!(texts("/").len(), COMMANDS.len());
        for nothing in ["hello", "//", "/to bob h", "/search al", "/zzz"] {
            assert!(texts(nothing).is_empty(), "{nothing}");
        }
    }
}
