//! The words of the vectors for what can be wrong: the error's name in small letters with dashes, then where.

use std::fmt::Debug;

use sealpost_core::{
    BundleError, BundleRefused, ContentError, EncodingError, EnvelopeError, LoginError, NameError,
    OpenError, TopicError, UriError,
};

/// `DuplicateMember { member: "ts" }` is `duplicate-member`.
pub(crate) fn word(error: &impl Debug) -> String {
    let shown = format!("{error:?}");
    let mut word = String::new();
    for letter in shown.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

fn ok_or<T, E>(result: Result<T, E>, words: impl Fn(&E) -> String) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => words(&error),
    }
}

/// For errors that say everything with their name.
pub(crate) fn plain<T, E: Debug>(result: Result<T, E>) -> String {
    ok_or(result, word)
}

pub(crate) fn name<T>(result: Result<T, NameError>) -> String {
    ok_or(result, name_words)
}

fn name_words(error: &NameError) -> String {
    match error {
        NameError::BadCharacter { position } => format!("bad-character {position}"),
        other => word(other),
    }
}

pub(crate) fn topic<T>(result: Result<T, TopicError>) -> String {
    ok_or(result, |error| match error {
        TopicError::BadUser(error) => format!("bad-user {}", name_words(error)),
        other => word(other),
    })
}

fn encoding(error: &EncodingError) -> String {
    let word = word(error);
    match error {
        EncodingError::UnknownMember { position } => format!("{word} {position}"),
        EncodingError::BadIdentityKey { member, reason } => {
            format!("{word} {member} {}", self::word(reason))
        }
        EncodingError::DuplicateMember { member }
        | EncodingError::MissingMember { member }
        | EncodingError::WrongOrder { member }
        | EncodingError::WrongType { member }
        | EncodingError::Escape { member }
        | EncodingError::BadNumber { member }
        | EncodingError::BadTime { member }
        | EncodingError::BadBase64 { member }
        | EncodingError::WrongLength { member }
        | EncodingError::BadName { member }
        | EncodingError::BadMessageId { member }
        | EncodingError::TooMany { member } => format!("{word} {member}"),
        _ => word,
    }
}

pub(crate) fn uri<T>(result: Result<T, UriError>) -> String {
    ok_or(result, |error| match error {
        UriError::BadName { member } | UriError::BadKey { member } => {
            format!("{} {member}", word(error))
        }
        other => word(other),
    })
}

pub(crate) fn bundle<T>(result: Result<T, BundleError>) -> String {
    ok_or(result, |error| match error {
        BundleError::Encoding(error) => encoding(error),
        BundleError::KeyEncoding { position, reason } => {
            format!("encryption {position} {}", encoding(reason))
        }
        BundleError::BadKey { position, reason } => {
            format!("encryption {position} {}", word(reason))
        }
        BundleError::LinkEncoding { position, reason } => {
            format!("link {position} {}", encoding(reason))
        }
        BundleError::BadLinkSignature { position }
        | BundleError::ForkedLinks { position }
        | BundleError::BrokenChain { position }
        | BundleError::RetiredIdentityReturns { position } => format!("{} {position}", word(error)),
        other => word(other),
    })
}

pub(crate) fn refused(error: &BundleRefused) -> String {
    word(error)
}

pub(crate) fn envelope<T>(result: Result<T, EnvelopeError>) -> String {
    ok_or(result, |error| match error {
        EnvelopeError::Encoding(error) => encoding(error),
        other => word(other),
    })
}

pub(crate) fn content<T>(result: Result<T, ContentError>) -> String {
    ok_or(result, content_words)
}

fn content_words(error: &ContentError) -> String {
    match error {
        ContentError::Encoding(error) => encoding(error),
        other => word(other),
    }
}

pub(crate) fn opening<T>(result: Result<T, OpenError>) -> String {
    ok_or(result, |error| match error {
        OpenError::BadContent { reason } => format!("bad-content {}", content_words(reason)),
        other => word(other),
    })
}

pub(crate) fn login<T>(result: Result<T, LoginError>) -> String {
    ok_or(result, |error| match error {
        LoginError::BadKey(reason) => format!("bad-key {}", word(reason)),
        other => word(other),
    })
}
